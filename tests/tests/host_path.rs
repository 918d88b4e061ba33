//! Mounts of paths: file systems that are made of the host's directories, and sources that the
//! container's own mounts provide.

use std::fs;
use std::path::PathBuf;

use pidone::config::mount::flags;
use pidone::config::{IdMap, Mount};
use pidone_tests::{Case, Outcome, Read, Report, Sandbox, Stop, case};

use crate::mount::{bind, errnos, file_system};

pub(crate) const CASES: &[Case] = &[
    case!(layers_are_directories_of_the_host),
    case!(layers_in_a_user_namespace),
    case!(long_options_with_propagation),
    case!(a_source_is_what_an_earlier_mount_provides),
];

/// Makes a layer on the host with a file, and another one at the same path in the image: it must
/// not be used.
fn layer(sandbox: &Sandbox, name: &str) -> Result<PathBuf, Stop> {
    let on_host = sandbox.path().join("layers").join(name);
    fs::create_dir_all(&on_host)?;
    fs::write(on_host.join(format!("of-{name}")), "host")?;
    let in_image = sandbox.rootfs().join(on_host.strip_prefix("/")?);
    fs::create_dir_all(&in_image)?;
    fs::write(in_image.join("of-the-image"), "image")?;
    Ok(on_host)
}

fn layers_are_directories_of_the_host(sandbox: &Sandbox) -> Outcome {
    let (lower, upper) = (layer(sandbox, "lower")?, layer(sandbox, "upper")?);
    let work = sandbox.path().join("work");
    fs::create_dir(&work)?;
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let mut config = sandbox.config();
    config.mounts.push(file_system("overlay", "/m", 0, &data));
    let commands = [
        "open",
        "/m/of-lower",
        "0",
        ",",
        "open",
        "/m/of-upper",
        "0",
        ",",
        "open",
        "/m/of-the-image",
        "0",
        ",",
        "write",
        "/m/new",
        "x",
    ];
    assert_eq!(errnos(sandbox, &config, &commands)?, [0, 0, libc::ENOENT, 0]);
    assert_eq!(fs::read_to_string(upper.join("new"))?, "x");
    // A directory that the host does not have.
    let missing = sandbox.rootfs().join("only");
    fs::create_dir(&missing)?;
    config.mounts.pop();
    let data = format!("lowerdir=/only:{}", lower.display());
    config.mounts.push(file_system("overlay", "/m", 0, &data));
    assert!(sandbox.report(&config).is_err(), "a layer of the image was used");
    Ok(())
}

fn layers_in_a_user_namespace(sandbox: &Sandbox) -> Outcome {
    let (one, other) = (layer(sandbox, "one")?, layer(sandbox, "other")?);
    // Root of the user namespace makes nothing in the image.
    fs::create_dir(sandbox.rootfs().join("m"))?;
    let mut config = sandbox.config();
    let map = vec![IdMap { container_id: 0, host_id: 100_000, size: 65536 }];
    config.set_id_maps(map.clone(), map);
    let data = format!("lowerdir={}:{}", one.display(), other.display());
    config.mounts.push(file_system("overlay", "/m", 0, &data));
    let commands = ["open", "/m/of-one", "0", ",", "open", "/m/of-other", "0"];
    assert_eq!(errnos(sandbox, &config, &commands)?, [0, 0]);
    Ok(())
}

/// `fsconfig(2)` takes 255 bytes for a value; overlays have more.
fn long_options_with_propagation(sandbox: &Sandbox) -> Outcome {
    let names: Vec<String> = (0..20).map(|index| format!("number-{index:04}")).collect();
    let layers = names.iter().map(|name| layer(sandbox, name)).collect::<Result<Vec<_>, _>>()?;
    let layers: Vec<String> = layers.iter().map(|layer| layer.display().to_string()).collect();
    let data = format!("lowerdir={}", layers.join(":"));
    assert!(data.len() > 255);
    for (propagation, field) in [
        (0, None),
        (flags::PRIVATE | flags::REC, None),
        (flags::SHARED, Some("shared:")),
        (flags::UNBINDABLE, Some("unbindable")),
    ] {
        let mut config = sandbox.config();
        let entry = file_system("overlay", "/m", flags::RDONLY | flags::NODEV, &data);
        config.mounts.push(Mount { propagation, ..entry });
        let output = sandbox.guest(
            &config,
            &[
                "open",
                "/m/of-number-0000",
                "0",
                ",",
                "open",
                "/m/of-number-0019",
                "0",
                ",",
                "open",
                "/m/of-the-image",
                "0",
                ",",
                "report",
            ],
        )?;
        let lines: Vec<&str> = output.stdout.lines().collect();
        assert_eq!(lines[..3], ["0", "0", &libc::ENOENT.to_string()]);
        let report: Report = serde_json::from_str(lines[3])?;
        let mount = report.mount("/m").ok_or("no mount")?;
        assert!(mount.has("ro") && mount.has("nodev"), "{:?}", mount.options);
        match field {
            Some(field) => {
                assert!(mount.propagation.iter().any(|own| own.starts_with(field)), "{mount:?}");
            }
            None => assert_eq!(mount.propagation, [] as [String; 0]),
        }
    }
    Ok(())
}

/// A path in the root is that of the container, with what is mounted there, and not what the image
/// has below the mount.
fn a_source_is_what_an_earlier_mount_provides(sandbox: &Sandbox) -> Outcome {
    let root = sandbox.rootfs();
    fs::create_dir_all(root.join("data"))?;
    fs::write(root.join("data/of-the-image"), "image")?;
    let file = sandbox.path().join("file");
    fs::write(&file, "of the host")?;
    // A link in the image leads to a place in the image.
    std::os::unix::fs::symlink(sandbox.path(), root.join("out"))?;
    fs::write(sandbox.path().join("secret"), "secret")?;
    for late in [false, true] {
        let mut config = sandbox.config();
        config.mounts.push(file_system("tmpfs", "/data", 0, "mode=755"));
        config.mounts.push(bind(&file, "/data/file", 0));
        config.mounts.push(bind(&root.join("data"), "/copy", flags::REC));
        config.mounts.push(bind(&root.join("data/file"), "/etc/copy", flags::RDONLY));
        if late {
            let (one, other) = (layer(sandbox, "one")?, layer(sandbox, "other")?);
            let data = format!("lowerdir={}:{}", one.display(), other.display());
            config.mounts.push(file_system("overlay", "/late", 0, &data));
        }
        let output = sandbox.guest(
            &config,
            &[
                "write",
                "/data/new",
                "x",
                ",",
                "open",
                "/copy/new",
                "0",
                ",",
                "open",
                "/copy/of-the-image",
                "0",
                ",",
                "open",
                "/etc/copy",
                "1",
                ",",
                "read",
                "/copy/file",
                ",",
                "read",
                "/etc/copy",
            ],
        )?;
        let lines: Vec<&str> = output.stdout.lines().collect();
        let expected = [0, 0, libc::ENOENT, libc::EROFS].map(|errno| errno.to_string());
        assert_eq!(lines[..4], expected, "{late}");
        for line in &lines[4..] {
            assert_eq!(serde_json::from_str::<Read>(line)?.text, "of the host", "{late}");
        }
        // What is made in the tmpfs is not in the image.
        assert!(!root.join("data/new").exists());
        // Nothing of the host comes in through a link.
        config.mounts.push(file_system("tmpfs", "/out", 0, "mode=755"));
        config.mounts.push(bind(&root.join("out"), "/leak", 0));
        let leak = sandbox.guest(&config, &["open", "/leak/secret", "0"])?;
        assert_eq!(leak.stdout.trim(), libc::ENOENT.to_string(), "{late}");
    }
    Ok(())
}
