//! `nsinit`: programs in containers, from the command line.

use std::process::ExitCode;

use pidone_cli::nsinit;

/// musl's own gives memory back that is asked for again at once, for a page fault each.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    pidone_cli::run(&nsinit::PROGRAM, |invocation, report| match invocation.verb() {
        Some("exec") => nsinit::exec(invocation, report),
        Some("config") => nsinit::config(invocation, report),
        Some("init") => nsinit::init(invocation, report),
        Some("oom") => nsinit::oom(invocation, report),
        Some("pause") => nsinit::pause(invocation, report),
        Some("unpause") => nsinit::unpause(invocation, report),
        Some("stats") => nsinit::stats(invocation, report),
        Some("state") => nsinit::state(invocation, report),
        Some("help" | "h") => nsinit::help(invocation, report),
        Some("completions") => nsinit::completions(invocation, report),
        Some("man") => nsinit::man(invocation, report),
        Some(_) => invocation.unknown(),
        None => invocation.without_verb(),
    })
}
