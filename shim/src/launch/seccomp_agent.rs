//! Sends the notification descriptor of a seccomp filter to the agent that handles it: OCI runtime
//! specification, "The Container Process State".

use std::os::fd::BorrowedFd;
use std::path::Path;

use pidone_config::oci::VERSION;
use pidone_config::oci::linux::seccomp::Seccomp;
use pidone_config::{Error, Result};
use pidone_host::unix::{connect_to, send};
use rustix::io::Errno;
use rustix::net::SocketType;
use serde::Serialize;

/// The specification's name for the notification descriptor: seccomp_unotify(2).
const SECCOMP_FD: &str = "seccompFd";

/// The message to an agent about a process.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerProcessState<'a, S> {
    /// The version of the specification that the message follows.
    oci_version: &'static str,
    /// The names of the descriptors that are sent with it, in order.
    fds: [&'static str; 1],
    /// The id of the process in the host's pid namespace.
    pid: i32,
    /// The `listenerMetadata` of the configuration.
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    /// The state object of the container.
    state: &'a S,
}

/// Sends a notification descriptor to the agent of a profile, which listens at `listenerPath`.
///
/// `pid` is the id of the process with the filter in the host's pid namespace, `state` is the state
/// object of its container.
///
/// # Errors
/// [`pidone_config::Code::SystemError`] if no agent listens there, or if it does not accept the
/// message.
pub(crate) fn hand_over(
    listener: BorrowedFd<'_>,
    profile: &Seccomp,
    pid: i32,
    state: &impl Serialize,
) -> Result<()> {
    let path = Path::new(&profile.listener_path);
    let fail = |errno: Errno| Error::path("send to the seccomp agent", path, errno);
    let message = ContainerProcessState {
        oci_version: VERSION,
        fds: [SECCOMP_FD],
        pid,
        metadata: &profile.listener_metadata,
        state,
    };
    let text = serde_json::to_vec(&message).map_err(|_| fail(Errno::INVAL))?;
    let socket = connect_to(path, SocketType::STREAM)?;
    let mut sent = send(&socket, &text, Some(listener)).map_err(fail)?;
    // The agent reads up to the end of the stream. The rest is sent without a descriptor.
    while let Some(rest @ [_, ..]) = text.get(sent..) {
        sent += send(&socket, rest, None).map_err(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};

    use pidone_host::unix::{self, space_for};
    use serde_json::{Value, json};

    use super::*;

    /// Returns the descriptors and the text that an agent receives.
    fn receive(stream: &mut UnixStream) -> (Vec<std::os::fd::OwnedFd>, Value) {
        let mut buffer = [0; 64];
        let mut space = [MaybeUninit::uninit(); space_for(4)];
        let received = unix::receive(&*stream, &mut buffer, &mut space).unwrap();
        let mut text = buffer[..received.length].to_vec();
        stream.read_to_end(&mut text).unwrap();
        (received.files, serde_json::from_slice(&text).unwrap())
    }

    fn profile(path: &Path, metadata: &str) -> Seccomp {
        Seccomp {
            listener_path: path.to_str().unwrap().to_owned(),
            listener_metadata: metadata.to_owned(),
            ..Seccomp::default()
        }
    }

    /// Sends a pipe to an agent below a directory with a name of this length, and returns the text
    /// that it receives.
    fn handed_over(length: usize, state: &Value, metadata: &str) -> Value {
        let directory = tempfile::TempDir::new().unwrap();
        let short = directory.path().join("agent");
        let listener = UnixListener::bind(&short).unwrap();
        let directory = directory.path().join("d".repeat(length));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("agent");
        std::fs::rename(&short, &path).unwrap();
        let agent = std::thread::spawn(move || receive(&mut listener.accept().unwrap().0));

        let (mut reader, writer) = std::io::pipe().unwrap();
        hand_over(writer.as_fd(), &profile(&path, metadata), 4422, state).unwrap();
        drop(writer);
        let (mut files, text) = agent.join().unwrap();
        let file = files.pop().unwrap();
        assert!(files.is_empty());
        std::fs::File::from(file).write_all(b"through").unwrap();
        let mut read = String::new();
        reader.read_to_string(&mut read).unwrap();
        assert_eq!(read, "through");
        text
    }

    #[test]
    fn an_agent_receives_state_and_descriptor() {
        let state = json!({"ociVersion": "1.3.0", "id": "c", "status": "creating"});
        let expected = json!({
            "ociVersion": "1.3.0",
            "fds": ["seccompFd"],
            "pid": 4422,
            "metadata": "opaque",
            "state": state,
        });
        assert_eq!(handed_over(1, &state, "opaque"), expected);
        // A path that is too long for a socket address, and no metadata.
        let text = handed_over(200, &state, "");
        assert_eq!(text.get("metadata"), None);
        assert_eq!(text["pid"], 4422);
    }

    #[test]
    fn a_state_larger_than_the_socket_buffer_is_received() {
        let state = json!({"annotations": {"large": "x".repeat(3 << 20)}});
        assert_eq!(handed_over(1, &state, "")["state"], state);
    }

    #[test]
    fn the_error_has_the_path_where_no_agent_listens() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("agent");
        let profile = profile(&path, "");
        let (_, writer) = std::io::pipe().unwrap();
        let error = || hand_over(writer.as_fd(), &profile, 1, &()).unwrap_err().to_string();
        let named = format!("connect `{}`: ", path.display());
        assert_eq!(error(), format!("{named}No such file or directory"));
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(error(), format!("{named}Connection refused"));
    }
}
