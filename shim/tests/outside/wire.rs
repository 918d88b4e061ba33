//! A host that knows the wire and nothing else of pidone: it starts the image with its end of a
//! socket and sends a plan of one part.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::process::Command;

use pidone_proto::frame::HEADER_LENGTH;
use pidone_proto::{Bincode, Codec, FrameType, Header, Op, Part, Report, Strings, Text};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = std::env::args_os().nth(1).ok_or("usage: wire IMAGE")?;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    // The image inherits it; its number is above stdio.
    fcntl_setfd(&theirs, FdFlags::empty())?;
    let control = format!("--control={}", theirs.as_raw_fd());
    let mut child = Command::new(image).arg(control).spawn()?;
    drop(theirs);

    let plan = [
        Op::Session,
        Op::ChangeDirectory { path: Text(c"/") },
        Op::Exec {
            candidates: Strings::new(b"/nonexistent/sh\0/bin/sh\0").ok_or("no strings")?,
            arguments: Strings::new(b"sh\0-c\0echo by the wire alone; exit 7\0")
                .ok_or("no strings")?,
            environment: Strings::new(b"").ok_or("no strings")?,
            preserved: 0,
            filter_flags: 0,
            filter: &[],
        },
    ];
    let mut socket = File::from(ours);
    send_plan(&mut socket, &plan)?;
    let said = hear(&mut socket)?;
    let status = child.wait()?;
    println!("{said}");
    println!("ended with {:?}", status.code());
    Ok(())
}

/// Sends a plan in one message: a write is a message here.
fn send_plan(socket: &mut File, plan: &[Op<'_>]) -> Result<(), Box<dyn std::error::Error>> {
    let operations = u32::try_from(plan.len())?;
    let mut body = Vec::new();
    let head = Part { first: 1, operations, more: false, timed: false };
    Bincode::append(&head, &mut body).map_err(|_| "cannot be encoded")?;
    for op in plan {
        Bincode::append(op, &mut body).map_err(|_| "cannot be encoded")?;
    }
    let header = Header {
        frame_type: FrameType::Part,
        codec: Bincode::ID,
        descriptors: 0,
        sequence: 0,
        length: u32::try_from(body.len())?,
    };
    Ok(socket.write_all(&[&header.to_bytes()[..], &body].concat())?)
}

/// What the init reports until it is no more.
fn hear(socket: &mut File) -> Result<String, Box<dyn std::error::Error>> {
    let mut said = Vec::new();
    let mut message = [0; HEADER_LENGTH + 2048];
    for sequence in 0.. {
        let length = socket.read(&mut message)?;
        if length == 0 {
            break;
        }
        let (_, body) = Header::split(&message[..length], 0, Bincode::ID, sequence)
            .map_err(|error| error.text())?;
        let (report, _) = Bincode::decode::<Report<'_>>(body).map_err(|_| "not a report")?;
        said.push(format!("{report:?}"));
    }
    Ok(said.join("\n"))
}
