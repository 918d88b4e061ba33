//! Containers with an init that speaks postcard, the successor of the wire's format.

use std::process::{Command, ExitCode};

use pidone::launch::image::{Codec, Image};
use pidone::trace::record;
use pidone::{Factory, TerminalSize};
use pidone_init::POSTCARD_SUPERVISOR;
use pidone_tests::trace::{check, check_operations};
use pidone_tests::{Case, Outcome, Sandbox, case, install, output, process, python_container};

const CASES: &[Case] = &[
    case!(every_kind_of_message_is_carried),
    case!(an_init_of_the_other_codec_is_refused),
    case!(a_start_is_recorded).once(),
    case!(a_client_in_python_runs_a_container).once(),
];

fn main() -> ExitCode {
    pidone_tests::main(&[CASES])
}

fn every_kind_of_message_is_carried(sandbox: &Sandbox) -> Outcome {
    let image = Image::new(POSTCARD_SUPERVISOR, Codec::Postcard);
    let options = sandbox.options().image(image);
    let factory = Factory::new(sandbox.path().join("postcard"), options)?;
    let mut container = factory.create("postcard", &sandbox.config())?;
    let mut running = sandbox.join(&mut container, process(&["/guest", "sleep"]))?;
    let mut further = process(&["/guest", "exit", "6"]);
    further.terminal = Some(TerminalSize::default());
    let mut joined = sandbox.join(&mut container, further)?;
    assert!(joined.console.is_some());
    assert_eq!(joined.wait()?.code, Some(6));
    let error = sandbox.join(&mut container, process(&["/missing"])).err().ok_or("started")?;
    assert_eq!(error.errno(), Some(rustix::io::Errno::NOENT));
    // A plan that travels in a memfd.
    let long = "x".repeat(100_000);
    let mut joined = sandbox.join(&mut container, process(&["/guest", "say", &long]))?;
    assert_eq!(output(&mut joined)?.stdout.len(), long.len() + 3);
    container.kill()?;
    running.wait()?;
    container.destroy()?;
    Ok(())
}

fn an_init_of_the_other_codec_is_refused(sandbox: &Sandbox) -> Outcome {
    let image = Image::new(POSTCARD_SUPERVISOR, Codec::Bincode);
    let options = sandbox.options().image(image);
    let factory = Factory::new(sandbox.path().join("mixed"), options)?;
    let mut container = factory.create("mixed", &sandbox.config())?;
    assert!(sandbox.join(&mut container, process(&["/guest"])).is_err());
    container.destroy()?;
    Ok(())
}

fn a_start_is_recorded(sandbox: &Sandbox) -> Outcome {
    let image = Image::new(POSTCARD_SUPERVISOR, Codec::Postcard);
    let factory = Factory::new(sandbox.path().join("postcard"), sandbox.options().image(image))?;
    let mut container = factory.create("postcard", &sandbox.config())?;
    let (started, trace) = record(|| sandbox.join(&mut container, process(&["/guest"])));
    started?.wait()?;
    container.destroy()?;
    let [_, init] = check(&trace);
    check_operations(&init, "exec", &trace);
    Ok(())
}

fn a_client_in_python_runs_a_container(sandbox: &Sandbox) -> Outcome {
    let (written, image) = (sandbox.path().join("image"), sandbox.path().join("init"));
    std::fs::write(&written, POSTCARD_SUPERVISOR)?;
    install(&written, &image)?;
    Command::new("chmod").arg("755").arg(&image).status()?;
    python_container(sandbox, &image, "postcard")
}
