//! The command line.
use pidone::*;
fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let r = (|| -> Result<i32> {
        let factory = Factory::new(
            "/tmp/nsroot",
            Options::default()
                .strategy(if std::env::var_os("TEMPLATE").is_some() {
                    Strategy::Template
                } else {
                    Strategy::Host
                })
                .timing(std::env::var_os("TIMING").is_some()),
        )?;
        let mut config = match std::env::var("CONFIG") {
            Ok(f) => Config::from_file(f)?,
            Err(_) => {
                if let Ok(r) = std::env::var("ROOTFS") {
                    Config::template(r.into())
                } else {
                    Config::embedded("/".as_ref())?
                }
            }
        };
        if std::env::var_os("NOCG").is_some() {
            config.cgroups = None;
        }
        if let Ok(h) = std::env::var("HOST") {
            config.hostname = h;
        }
        let mut c = match factory.load("t") {
            Ok(c) => c,
            Err(_) => factory.create("t", &config)?,
        };
        let fresh = c.status()? == Status::Destroyed;
        let p = Process {
            args,
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            ..Process::default()
        };
        let r = c.start(&p);
        if r.is_err() && fresh {
            c.destroy()?;
        }
        let mut r = r?;
        let e = r.wait()?;
        if !r.times.is_empty() {
            for t in &r.times {
                eprintln!("{:>10.1} {}", t.took.as_nanos() as f64 / 1000.0, t.operation);
            }
        }
        if fresh {
            c.destroy()?;
        }
        Ok(e.status())
    })();
    match r {
        Ok(s) => std::process::exit(s),
        Err(e) => {
            eprintln!("nsinit: {e}");
            std::process::exit(1)
        }
    }
}
