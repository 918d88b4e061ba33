//! Compiled filters against a plain model, against libseccomp, and in the kernel.
//!
//! `docker-default.json` is what dockerd writes for a container with its 14 default capabilities on
//! `x86_64`: the list of <https://github.com/moby/profiles> (Apache-2.0) with the conditions on
//! kernel, architecture and capabilities applied.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![allow(clippy::print_stdout, reason = "the size of the filters is worth knowing")]

mod generate;
mod model;
mod reference;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use pidone_host::seccomp::{
    self, Action, Arch, Condition, Filter, Operator, Profile, Rule, SeccompData, Syscall,
};
use pidone_tests::{Stop, completion};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::generate::Dice;
use crate::reference::{Kernel, Libseccomp, fits};

const ENOSYS: u32 = 0x0005_0026;

/// What libseccomp 2.5 does not know on these architectures, or by another name.
const UNKNOWN_TO_SOME: [(&str, Arch); 2] =
    [("map_shadow_stack", Arch::X32), ("sync_file_range2", Arch::Arm)];

fn main() -> ExitCode {
    let tests = vec![
        Trial::test("model", against_the_model),
        needing("table", Libseccomp::start, table),
        needing("docker_default", Libseccomp::start, docker_default),
        needing("generated", Libseccomp::start, generated),
        needing("unlike_libseccomp", Libseccomp::start, unlike_libseccomp),
        needing("kernel_docker_default", Kernel::start, kernel_docker_default),
        needing("kernel_generated", Kernel::start, kernel_generated),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A test that is ignored, with the reason, where what it needs is missing; with
/// `PIDONE_REQUIRE_ALL=1` it fails there.
fn needing<T>(
    name: &str,
    start: impl FnOnce() -> Result<T, String> + Send + 'static,
    test: impl FnOnce(T) -> Result<(), Failed> + Send + 'static,
) -> Trial {
    let name = name.to_owned();
    Trial::ignorable_test(name.clone(), move || {
        if Arch::NATIVE != Arch::X86_64 {
            return Ok(Completion::ignored_with("goes by the numbers of x86_64"));
        }
        match start() {
            Ok(reference) => test(reference).map(|()| Completion::Completed),
            Err(reason) => completion(&name, Err(Stop::Lacking(reason))),
        }
    })
}

/// Runs a property on cases that are printed when it fails; the same ones each time, so that a
/// difference of libseccomp's is not news on an unlucky day.
fn property<S: Strategy>(
    cases: u32,
    strategy: &S,
    test: impl Fn(S::Value) -> Result<(), String>,
) -> Result<(), Failed> {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let generator = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, generator)
        .run(strategy, |value| test(value).map_err(TestCaseError::fail))
        .map_err(|error| error.to_string().into())
}

fn compile(profile: &Profile) -> Result<Filter, String> {
    seccomp::compile(profile).map_err(|error| error.to_string())
}

/// Returns what a filter returns for a system call.
fn evaluate(program: &[u8], data: &SeccompData) -> Result<u32, String> {
    seccomp::evaluate(program, data).map_err(|error| error.to_string())
}

fn docker() -> Profile {
    let text = include_str!("docker-default.json");
    let config: pidone_config::oci::linux::seccomp::Seccomp = serde_json::from_str(text).unwrap();
    config.profile().unwrap().unwrap()
}

fn against_the_model() -> Result<(), Failed> {
    let strategy = (generate::profile(), proptest::num::u64::ANY);
    property(1000, &strategy, |(profile, seed)| {
        let program = compile(&profile)?.bytes();
        let mut dice = Dice(seed);
        for _ in 0..300 {
            let data = dice.data(&profile);
            let (ours, model) = (evaluate(&program, &data)?, model::verdict(&profile, &data));
            if ours != model {
                return Err(format!("{data:x?}: {ours:#x}, the model says {model:#x}"));
            }
        }
        Ok(())
    })
}

/// Every number that libseccomp knows is ours too.
fn table(mut libseccomp: Libseccomp) -> Result<(), Failed> {
    let names: Vec<&str> = seccomp::syscall_names().collect();
    let mut known = 0;
    for (&name, theirs) in names.iter().zip(libseccomp.resolve(&names)) {
        for (arch, theirs) in Arch::ALL.into_iter().zip(theirs) {
            let ours = seccomp::syscall_number(name, arch).map_or(-10_000, i64::from);
            known += u32::from(theirs >= 0);
            // -1 means a name that is unknown, -100 to -300 for one that is multiplexed, and
            // less for one that the architecture does not have.
            let theirs = if theirs < -300 { -10_000 } else { theirs };
            if (theirs >= 0 || theirs == -10_000)
                && ours != theirs
                && !UNKNOWN_TO_SOME.contains(&(name, arch))
            {
                return Err(format!("{name} on {arch:?}: {ours}, libseccomp: {theirs}").into());
            }
        }
    }
    if known < 1800 { Err(format!("only {known} numbers compared").into()) } else { Ok(()) }
}

/// The newest number of each architecture in a profile that names nothing newer than libseccomp
/// knows; above it ours says `ENOSYS`, as runc does in front of libseccomp's filter.
fn newest(libseccomp: &mut Libseccomp, profile: &Profile) -> [i64; 5] {
    let calls = profile.rules.iter().flat_map(|rule| &rule.syscalls);
    let names: Vec<&str> = calls
        .map(|call| match call {
            Syscall::Name(name) => name.as_str(),
            Syscall::Number(_) => panic!("libseccomp goes by names"),
        })
        .collect();
    let mut newest = [-1; 5];
    for numbers in libseccomp.resolve(&names) {
        for (newest, number) in newest.iter_mut().zip(numbers) {
            if number & 0xfff_ffff < 0xf_0000 {
                *newest = number.max(*newest);
            }
        }
    }
    newest
}

/// Whether runc's stub decides before libseccomp's filter runs. (It also decides for numbers of
/// `x86_64` from 0x80000000 on without bit 30; libseccomp and this compiler know none of them.)
fn stub(profile: &Profile, newest: &[i64; 5], data: &SeccompData) -> bool {
    let refuses = !matches!(profile.default, Action::Allow | Action::Log | Action::Trace(_));
    let arch = Arch::ALL.into_iter().zip(newest).find(|(arch, _)| {
        let x32 = data.nr >= 0x4000_0000;
        arch.audit() == data.arch
            && (data.arch != Arch::X32.audit() || x32 == (*arch == Arch::X32))
            && profile.architectures.contains(arch)
    });
    let private = data.arch == Arch::Arm.audit() && data.nr >= 0xf_0000;
    refuses && !private && arch.is_some_and(|(_, newest)| i64::from(data.nr) > *newest)
}

fn compare(
    profile: &Profile,
    newest: &[i64; 5],
    (ours, theirs): (&[u8], &[u8]),
    data: &SeccompData,
) -> Result<(), String> {
    let mine = evaluate(ours, data)?;
    let expected = if stub(profile, newest, data) { ENOSYS } else { evaluate(theirs, data)? };
    if mine == expected {
        return Ok(());
    }
    Err(format!("{data:x?}: {mine:#x}, libseccomp and runc say {expected:#x}"))
}

fn docker_default(mut libseccomp: Libseccomp) -> Result<(), Failed> {
    let mut profile = docker();
    // What this libseccomp does not know yet is left out on both sides.
    let mut left_out = Vec::new();
    for rule in &mut profile.rules {
        rule.syscalls.retain(|call| {
            let Syscall::Name(name) = call else { return true };
            let known = libseccomp.resolve(&[name])[0] != [-1; 5]
                && !UNKNOWN_TO_SOME.iter().any(|(unknown, _)| unknown == name);
            if !known {
                left_out.push(name.clone());
            }
            known
        });
    }
    profile.rules.retain(|rule| !rule.syscalls.is_empty());
    println!("docker's default list without {left_out:?}:");

    let mut dice = Dice(1);
    let lists: [&[Arch]; 4] = [
        &[Arch::X86_64, Arch::X86, Arch::X32],
        &[Arch::X86_64],
        &[Arch::X86_64, Arch::X32],
        &[Arch::X86_64, Arch::Aarch64, Arch::Arm],
    ];
    for architectures in lists {
        profile.architectures = architectures.to_vec();
        let ours = compile(&profile)?.bytes();
        let theirs = libseccomp.compile(&profile, 1)?;
        let tree = libseccomp.compile(&profile, 2)?;
        println!(
            "  {architectures:?}: {} instructions, libseccomp: {}, its binary tree: {}",
            ours.len() / 8,
            theirs.len() / 8,
            tree.len() / 8
        );
        let newest = newest(&mut libseccomp, &profile);
        for arch in Arch::ALL.map(Arch::audit).into_iter().chain([0, 0xc000_0016]) {
            let private = 0xf_0000..0xf_0010;
            let edges = [0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
            let x32 = 0x4000_0000..0x4000_0400;
            for nr in (0..1024).chain(x32).chain(private).chain(edges) {
                let data = SeccompData { nr, arch, ..SeccompData::default() };
                compare(&profile, &newest, (&ours, &theirs), &data)?;
                for _ in 0..4 {
                    let args = [(); 6].map(|()| dice.argument(&profile));
                    compare(&profile, &newest, (&ours, &theirs), &SeccompData { args, ..data })?;
                }
            }
            for family in 0..100 {
                for nr in [41, 359, 198, 281, 0x4000_0029, 102] {
                    for high in [0, 1 << 32, u64::MAX << 32] {
                        let args = [high | family, 0, 0, 0, 0, 0];
                        let data = SeccompData { nr, arch, ip: 0, args };
                        compare(&profile, &newest, (&ours, &theirs), &data)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Random profiles. libseccomp merges several rules with conditions on one system call into a tree
/// in which some of them get lost or match too much (seen with 2.5.4: `a0 >= 2` beside
/// `a0 < 3 && a2 != 1` does not match 2). There ours has to agree with the model.
fn generated(libseccomp: Libseccomp) -> Result<(), Failed> {
    let libseccomp = std::cell::RefCell::new(libseccomp);
    let (compared, excused) = (std::cell::Cell::new(0_u32), std::cell::Cell::new(0_u32));
    let strategy = (generate::plain_profile(), proptest::num::u64::ANY);
    property(500, &strategy, |(profile, seed)| {
        let theirs = libseccomp.borrow_mut().compile(&profile, 1)?;
        let newest = newest(&mut libseccomp.borrow_mut(), &profile);
        let ours = compile(&profile)?.bytes();
        let mut dice = Dice(seed);
        for _ in 0..300 {
            let data = dice.data(&profile);
            if let Err(error) = compare(&profile, &newest, (&ours, &theirs), &data) {
                let tree = model::choices(&profile, &data) > 1;
                if !tree || evaluate(&ours, &data)? != model::verdict(&profile, &data) {
                    return Err(error);
                }
                excused.set(excused.get() + 1);
            }
            compared.set(compared.get() + 1);
        }
        Ok(())
    })?;
    let (compared, excused) = (compared.get(), excused.get());
    println!("generated: {compared} calls, libseccomp's tree wrong for {excused}");
    if compared < 150_000 || excused > compared / 20 {
        return Err("too few calls compared".into());
    }
    Ok(())
}

/// Where libseccomp forgets conditions on sockets, ours keeps to what was asked for.
fn unlike_libseccomp(mut libseccomp: Libseccomp) -> Result<(), Failed> {
    let alg = Condition { index: 0, operator: Operator::NotEqual, value: 38, value_two: 0 };
    let mut profile = Profile::new(Action::Errno(1));
    profile.architectures.push(Arch::X86);
    profile.rules.push(Rule {
        syscalls: vec![Syscall::Name("socket".into())],
        action: Action::Allow,
        conditions: vec![alg],
    });
    let socketcall =
        SeccompData { nr: 102, arch: Arch::X86.audit(), ip: 0, args: [1, 0, 0, 0, 0, 0] };
    let theirs = evaluate(&libseccomp.compile(&profile, 1)?, &socketcall)?;
    let ours = evaluate(&compile(&profile)?.bytes(), &socketcall)?;
    if (ours, theirs) != (Action::Errno(1).bits(), Action::Allow.bits()) {
        return Err(format!("{ours:#x}, libseccomp: {theirs:#x}").into());
    }
    Ok(())
}

/// The kernel and the interpreter return the same.
fn ask_kernel(
    kernel: &mut Kernel,
    filter: &Filter,
    calls: &[(u32, [u64; 6])],
) -> Result<(), String> {
    let program = filter.bytes();
    for ((nr, args), outcome) in calls.iter().zip(kernel.run(&program, calls)?) {
        let data = SeccompData { nr: *nr, arch: Arch::NATIVE.audit(), ip: 0, args: *args };
        let verdict = evaluate(&program, &data)?;
        if !fits(verdict, &outcome) {
            return Err(format!("{nr}{args:x?}: {outcome:?}, expected {verdict:#x}"));
        }
    }
    Ok(())
}

fn kernel_docker_default(mut kernel: Kernel) -> Result<(), Failed> {
    let filter = compile(&docker())?;
    let call = |nr, first| (nr, [first, 0, 0, 0, 0, 0]);
    let calls = [
        call(110, 0),          // getppid
        call(186, u64::MAX),   // gettid
        call(165, 0),          // mount
        call(248, 0),          // add_key
        call(41, 38),          // socket(AF_ALG)
        call(41, 40),          // socket(AF_VSOCK)
        call(41, 1 << 32 | 1), // socket of no family
        call(135, 1),          // personality
        call(56, 0x1000_0000), // clone(CLONE_NEWUSER)
        call(435, 0),          // clone3: ENOSYS
        call(1000, 0),         // newer than the list: ENOSYS
        call(0x4000_0000 | 165, 0),
        call(0x4000_0000 | 1000, 0),
    ];
    ask_kernel(&mut kernel, &filter, &calls)?;
    // Without x32 in the list its calls kill.
    let mut profile = docker();
    profile.architectures = vec![Arch::X86_64];
    ask_kernel(&mut kernel, &compile(&profile)?, &[call(0x4000_0000 | 110, 0)])
        .map_err(Failed::from)
}

fn kernel_generated(kernel: Kernel) -> Result<(), Failed> {
    let kernel = std::cell::RefCell::new(kernel);
    // Calls that do nothing, whatever their arguments, and one that does not exist.
    let numbers = [110_u32, 186, 600];
    let rule = (0..2_usize, generate::action(), generate::conditions());
    let rules = proptest::collection::vec(rule, 1..6);
    let strategy = (generate::action(), rules, proptest::num::u64::ANY);
    property(60, &strategy, |(default, rules, seed)| {
        let mut profile = Profile::new(default);
        for (number, action, conditions) in rules {
            let syscalls = vec![Syscall::Number(numbers[number])];
            profile.rules.push(Rule { syscalls, action, conditions });
        }
        let filter = compile(&profile)?;
        let mut dice = Dice(seed);
        let mut call = || {
            let args = [(); 6].map(|()| dice.argument(&profile));
            (dice.pick(&numbers[..2]), args)
        };
        let calls: Vec<_> = (0..8).map(|_| call()).collect();
        ask_kernel(&mut kernel.borrow_mut(), &filter, &calls)
    })
}
