//! Capabilities: which a process has, in each of the five sets.

use pidone_tests::{Capabilities, Case, Outcome, Sandbox, case, process};

pub(crate) const CASES: &[Case] = &[
    case!(the_template_gives_fourteen).and_unified(),
    case!(of_the_configuration).and_init(),
    case!(of_the_process_instead).and_init(),
    case!(none_at_all).and_init(),
    case!(of_an_ordinary_user_are_none).and_init(),
    case!(unknown_ones_are_refused).once(),
];

// capabilities(7)
const CHOWN: u64 = 1 << 0;
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const MKNOD: u64 = 1 << 27;

/// The seed's list: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
const TEMPLATE: u64 = 0xa804_25fb;

fn sets(mask: u64) -> Capabilities {
    Capabilities {
        effective: mask,
        permitted: mask,
        bounding: mask,
        // Else a file of the image would get them back: CVE-2022-24769.
        inheritable: 0,
        ambient: 0,
    }
}

fn the_template_gives_fourteen(sandbox: &Sandbox) -> Outcome {
    let report = sandbox.report(&sandbox.config())?;
    assert_eq!(report.capabilities, sets(TEMPLATE));
    assert_eq!(report.securebits, Some(0));
    Ok(())
}

fn of_the_configuration(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.capabilities = vec!["NET_ADMIN".into(), "CHOWN".into()];
    assert_eq!(sandbox.report(&config)?.capabilities, sets(NET_ADMIN | CHOWN));
    Ok(())
}

fn of_the_process_instead(sandbox: &Sandbox) -> Outcome {
    let mut process = process(&["/guest"]);
    process.capabilities = Some(vec!["SYS_ADMIN".into(), "CAP_MKNOD".into()]);
    let report = sandbox.report_of(&sandbox.config(), process)?;
    assert_eq!(report.capabilities, sets(SYS_ADMIN | MKNOD));
    Ok(())
}

fn none_at_all(sandbox: &Sandbox) -> Outcome {
    let mut process = process(&["/guest"]);
    process.capabilities = Some(Vec::new());
    assert_eq!(sandbox.report_of(&sandbox.config(), process)?.capabilities, sets(0));
    Ok(())
}

/// CVE-2016-8867: the kernel takes them away at exec unless they are ambient.
fn of_an_ordinary_user_are_none(sandbox: &Sandbox) -> Outcome {
    let mut process = process(&["/guest"]);
    process.user = "1000".into();
    let seen = sandbox.report_of(&sandbox.config(), process)?.capabilities;
    assert_eq!(seen, Capabilities { bounding: TEMPLATE, ..sets(0) });
    Ok(())
}

fn unknown_ones_are_refused(sandbox: &Sandbox) -> Outcome {
    let mut config = sandbox.config();
    config.capabilities.push("FLY".into());
    let error = sandbox.create(&config).err().ok_or("accepted")?;
    assert_eq!(error.code(), pidone::Code::ConfigInvalid);
    let mut live = sandbox.start(&sandbox.config(), process(&["/guest", "sleep"]))?;
    let mut joining = process(&["/guest"]);
    joining.capabilities = Some(vec!["FLY".into()]);
    let error = sandbox.join(&mut live.container, joining).err().ok_or("accepted")?;
    assert_eq!(error.code(), pidone::Code::ConfigInvalid);
    live.kill()?;
    Ok(())
}
