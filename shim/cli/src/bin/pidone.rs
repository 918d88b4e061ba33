//! `pidone`: an OCI runtime.

use std::process::ExitCode;

use pidone_cli::pidone as verbs;

/// musl's own gives memory back that is asked for again at once, for a page fault each.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    pidone_cli::run(&verbs::PROGRAM, |invocation, report| match invocation.verb() {
        Some("create") => verbs::create(invocation, report),
        Some("start") => verbs::start(invocation, report),
        Some("run") => verbs::run(invocation, report),
        Some("exec") => verbs::exec(invocation, report),
        Some("state") => verbs::state(invocation, report),
        Some("kill") => verbs::kill(invocation, report),
        Some("delete") => verbs::delete(invocation, report),
        Some("list") => verbs::list(invocation, report),
        Some("ps") => verbs::ps(invocation, report),
        Some("events") => verbs::events(invocation, report),
        Some("pause") => verbs::pause(invocation, report),
        Some("resume") => verbs::resume(invocation, report),
        Some("update") => verbs::update(invocation, report),
        Some("pool") => verbs::pool(invocation, report),
        Some("spec") => verbs::spec(invocation, report),
        Some("plan") => verbs::plan(invocation, report),
        Some("features") => verbs::features(invocation, report),
        Some("init-image") => verbs::init_image(invocation, report),
        Some("help" | "h") => verbs::help(invocation, report),
        Some("completions") => verbs::completions(invocation, report),
        Some("man") => verbs::man(invocation, report),
        Some("init") => verbs::init(invocation, report),
        Some("checkpoint" | "restore") => verbs::checkpoint(invocation, report),
        Some(_) => invocation.unknown(),
        None => invocation.without_verb(),
    })
}
