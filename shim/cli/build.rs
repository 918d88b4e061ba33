//! Passes the commit for `pidone --version` to the compiler. Packagers set `PIDONE_COMMIT`.

fn main() {
    println!("cargo::rerun-if-env-changed=PIDONE_COMMIT");
    let commit = std::env::var("PIDONE_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=PIDONE_COMMIT={commit}");
}
