//! Servers that are children of the worker.

use std::{os::unix::net::UnixStream as StdUnixStream, process::Stdio};

use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tokio_util::task::AbortOnDropHandle;
use toolgate_events::mcp::clean;
use toolgate_security::Redactor;

use super::{McpServer, McpTransport};

/// Runs the server under a shell with a process group of its own. Its standard error is a socket whose other end this process
/// alone holds: when that is closed, however this process ended, the whole group is killed. What has left the group, as by a session
/// of its own, lives on.
const LEASH: &str = r#"
exec 3<&0 4>&1 </dev/null >/dev/null
"$@" <&3 >&4 3<&- 4>&- &
program=$!
exec 3<&- 4>&-
{ read -r _; kill -s KILL -- "-$$"; } <&2 2>/dev/null &
wait "$program"
kill -s KILL -- "-$$"
"#;
/// The only variable that a server gets without being given it.
const PATH: &str = "PATH";
/// Bytes of one line that a server says on its standard error; the rest of it is another line.
const MAX_LINE: u64 = 1_024;

/// A running server. Dropping it kills the server and what that has started, unless that has left the process group.
#[derive(Debug)]
pub struct Running {
    _shell: Child,
    _leash: OwnedWriteHalf,
    _said: AbortOnDropHandle<()>,
}

/// # Errors
/// When there is no shell, or no room for another process. That the command does not exist shows in the end of its output.
pub fn start(server: &McpServer, redactor: &Redactor) -> std::io::Result<(ChildStdout, ChildStdin, Running)> {
    let McpTransport::Stdio { command, args, env } = &server.transport else {
        return Err(std::io::Error::other("the server is reached over HTTP"));
    };
    let (own, theirs) = StdUnixStream::pair()?;
    own.set_nonblocking(true)?;
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", LEASH, "mcp", command]).args(args).env_clear();
    shell.envs(std::env::var_os(PATH).map(|path| (PATH, path)));
    shell.envs(env.iter().map(|(name, value)| (name, value.expose_secret())));
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    let mut shell = shell.process_group(0).kill_on_drop(true).spawn()?;
    let (Some(stdout), Some(stdin)) = (shell.stdout.take(), shell.stdin.take()) else {
        return Err(std::io::Error::other("the shell has no standard input or output"));
    };
    let (said, leash) = UnixStream::from_std(own)?.into_split();
    let said = AbortOnDropHandle::new(tokio::spawn(log(server.name.clone(), said, redactor.clone())));
    Ok((stdout, stdin, Running { _shell: shell, _leash: leash, _said: said }))
}

/// What a server says may be anything, so that only who asks for it gets to read it.
async fn log(server: String, said: OwnedReadHalf, redactor: Redactor) {
    let mut said = BufReader::new(said);
    loop {
        let mut line = Vec::new();
        match (&mut said).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                tracing::debug!(server, said = %redactor.redact(clean(text.trim_end()).as_ref()), "an MCP server says something");
            }
        }
    }
}
