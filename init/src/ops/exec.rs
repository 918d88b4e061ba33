//! The last operation: the init becomes the program.
#![allow(unsafe_code, reason = "pointers to strings for execve")]

use core::ffi::{CStr, c_char};
use core::ptr;

use pidone_proto::{Call, Strings};
use rustix::fs::{FileType, OFlags, Stat, fstat};
use rustix::io::Errno;

use crate::failure::{Context, Failure, Result};
use crate::kernel::{descriptor, process};
use crate::ops::process::install_filter;
use crate::state::Init;

/// Up to this many pointers to arguments, or to variables, are kept on the stack.
const FEW: usize = 48;

/// The program to execute.
pub(crate) struct Program<'a> {
    /// The paths to try.
    pub(crate) candidates: Strings<'a>,
    /// The arguments, the program's name first.
    pub(crate) arguments: Strings<'a>,
    /// The environment.
    pub(crate) environment: Strings<'a>,
}

/// Executes the first candidate that can be executed; only a failure returns.
pub(crate) fn execute(
    init: &mut Init,
    program: Program<'_>,
    preserved: u32,
    (filter_flags, filter): (u32, &[u8]),
) -> Result {
    let mut few = [[ptr::null(); FEW]; 2];
    let [some, others] = &mut few;
    let arguments = pointers(init, program.arguments, some)?;
    let environment = pointers(init, program.environment, others)?;
    // Not for nothing: this may be under a filter that refuses the call.
    let first = 3_u32.saturating_add(preserved);
    if first < init.fixed {
        descriptor::close_on_exec_from(first).during(Call::CloseRange)?;
    }
    init.report_executing()?;
    if !filter.is_empty() {
        install_filter(init, filter_flags, filter)?;
    }

    let mut worst = Failure::new(Call::Exec, Errno::NOENT);
    for (path, detail) in program.candidates.iter().zip(1..) {
        if detail < init.found {
            continue;
        }
        // SAFETY: every pointer was made from a string that ends with NUL and is still borrowed.
        let errno = unsafe { process::execve(path, arguments.as_ptr(), environment.as_ptr()) };
        let failure = Failure { call: Call::Exec, detail, errno };
        match errno {
            // The file exists, so its interpreter is missing.
            Errno::NOENT if exists(path) => {
                return Err(Failure { call: Call::Interpreter, ..failure });
            }
            Errno::NOENT | Errno::NOTDIR => {}
            // As in execvp(3): one directory without access does not hide the next.
            Errno::ACCESS => worst = failure,
            _ => return Err(failure),
        }
    }
    Err(worst)
}

/// Finds the first candidate that can be executed, as far as its type and mode show. [`execute`]
/// begins with it, so that an agent that is asked about `execve(2)` sees no other.
pub(crate) fn find_program(init: &mut Init, candidates: Strings<'_>) -> Result {
    const EXECUTE: u32 = 0o111;
    let mut worst = Failure::new(Call::Exec, Errno::NOENT);
    for (path, detail) in candidates.iter().zip(1..) {
        init.found = detail;
        let failure = |errno| Failure { call: Call::Exec, detail, errno };
        match init.open(path, OFlags::PATH, true).and_then(fstat) {
            Ok(stat) if is_file(&stat) && stat.st_mode & EXECUTE != 0 => return Ok(()),
            // A link that is not followed here may lead to a program at exec, and the user may have
            // access to a directory that root has none to.
            Err(Errno::LOOP | Errno::ACCESS) => return Ok(()),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Ok(_) => worst = failure(Errno::ACCESS),
            Err(errno) => return Err(failure(errno)),
        }
    }
    Err(worst)
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Makes a list of pointers to strings that ends with a null pointer: in `few` if they fit, or else
/// in new memory, which costs a system call and a page fault.
fn pointers<'a>(
    init: &mut Init,
    strings: Strings<'_>,
    few: &'a mut [*const c_char; FEW],
) -> Result<&'a [*const c_char]> {
    let count = strings.count() + 1;
    let list = if count <= FEW {
        few
    } else {
        let memory = init.memory(count * size_of::<*const c_char>()).during(Call::Memory)?;
        // SAFETY: any bytes are a valid pointer. The whole slice is aligned, since it is a mapping
        // or follows another list in one.
        let (_, list, _) = unsafe { memory.align_to_mut::<*const c_char>() };
        list
    };
    for (place, string) in list.iter_mut().zip(strings.iter()) {
        *place = string.as_ptr();
    }
    if let Some(last) = list.last_mut() {
        *last = ptr::null();
    }
    Ok(list)
}

/// Returns whether a file exists.
fn exists(path: &CStr) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}
