use std::{
    ffi::OsStr,
    fs::File,
    net::TcpListener,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use secrecy::ExposeSecret;
use tokio::process::{ChildStdin, Command};
use toolgate_store::User;

use super::{Stack, stack::PARTITIONS, wait::wait_until};

/// Runs a program until it ends or the standard input does; then the program is killed with SIGKILL. So a process of a test ends
/// with the test, even when that is killed itself. File descriptor 3 keeps the pipe away from the program.
const LEASH: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{ read -r _; kill -KILL "$program"; } <&3 &
leash=$!
exec 3<&-
trap 'kill -TERM "$program"' TERM
wait "$program"
status=$?
# A signal ends the waiting, not the program.
while kill -0 "$program" 2>/dev/null; do
    wait "$program"
    status=$?
done
kill "$leash" 2>/dev/null
exit "$status"
"#;

/// A part of the gateway as its own process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    CommandApi,
    QueryApi,
    Worker,
    Projector,
}

impl Role {
    fn subcommand(self) -> &'static str {
        match self {
            Self::CommandApi => "command-api",
            Self::QueryApi => "query-api",
            Self::Worker => "worker",
            Self::Projector => "projector",
        }
    }

    fn nats_variable(self) -> &'static str {
        match self {
            Self::CommandApi => "NATS_URL_COMMAND_API",
            Self::QueryApi => "NATS_URL_QUERY_API",
            Self::Worker => "NATS_URL_WORKER",
            Self::Projector => "NATS_URL_PROJECTOR",
        }
    }

    fn user(self) -> User {
        match self {
            Self::CommandApi => User::CommandApi,
            Self::QueryApi => User::QueryApi,
            Self::Worker => User::Worker,
            Self::Projector => User::Projector,
        }
    }
}

/// The real binary running one role with that role's logins and no others. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    role: Role,
    port: u16,
    variables: Vec<(String, String)>,
    process: tokio::process::Child,
    leash: Option<ChildStdin>,
}

impl Child {
    pub async fn start(stack: &Stack, role: Role, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start_on(stack, role, free_port(), variables, Stdio::null()).await
    }

    /// As [`Self::start`]; what it logs goes to a file.
    pub async fn start_logging(stack: &Stack, role: Role, variables: &[(&str, &str)], log: File) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start_on(stack, role, free_port(), variables, log.into()).await
    }

    async fn start_on(stack: &Stack, role: Role, port: u16, variables: Vec<(String, String)>, stderr: Stdio) -> Self {
        stack.issuer();
        stack.log().await;
        let connections = &stack.connections;
        let mut command = leashed(env!("CARGO_BIN_EXE_toolgate"));
        command
            .arg(role.subcommand())
            .env("TOOLGATE_DATA_DIR", &stack.data_dir)
            .env("TOOLGATE_PARTITIONS", PARTITIONS.to_string())
            .env("TOOLGATE_CURSOR_SECRET", "the same on every instance")
            .env("TOOLGATE_RATE_LIMIT_PER_MINUTE", "600000")
            .env_remove("NATS_URL")
            .env_remove("DATABASE_URL")
            .env(role.nats_variable(), connections.nats_roles[&role.user()].expose_secret());
        match role {
            Role::CommandApi => &mut command,
            Role::QueryApi | Role::Worker => command.env("DATABASE_URL_READER", connections.reader.expose_secret()),
            Role::Projector => command.env("DATABASE_URL_PROJECTOR", connections.projector.expose_secret()),
        };
        let listen = format!("127.0.0.1:{port}");
        // Every role answers /healthz: the background ones on their administration port.
        command.env(if role.is_api() { "TOOLGATE_LISTEN" } else { "TOOLGATE_ADMIN_ADDR" }, listen);
        command.envs(variables.iter().cloned());
        command.stdout(Stdio::null()).stderr(stderr);
        let mut process = command.spawn().unwrap();
        let leash = process.stdin.take();
        let mut child = Self { role, port, variables, process, leash };
        // One that is to die may do so before it could be asked.
        if child.variables.iter().any(|(name, _)| name == "TOOLGATE_CRASH_AT") && role != Role::CommandApi {
            return child;
        }
        wait_until("the process answers", async || {
            assert!(child.process.try_wait().unwrap().is_none(), "{role:?} ended at once");
            reqwest::get(format!("{}/healthz", child.url())).await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        child
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills the process with SIGKILL and starts the same role again where it was.
    pub async fn kill_and_restart(&mut self, stack: &Stack) {
        self.kill().await;
        *self = Self::start_on(stack, self.role, self.port, std::mem::take(&mut self.variables), Stdio::null()).await;
    }

    /// Kills the process with SIGKILL and returns when it is gone.
    pub async fn kill(&mut self) {
        drop(self.leash.take());
        self.process.wait().await.unwrap();
    }

    /// Bytes of memory the process has at the moment.
    pub fn resident_bytes(&self) -> u64 {
        let read = |path: String| std::fs::read_to_string(path).unwrap();
        let leash = self.process.id().unwrap();
        let children = read(format!("/proc/{leash}/task/{leash}/children"));
        let statuses = children.split_whitespace().map(|child| read(format!("/proc/{child}/status")));
        let status = statuses.into_iter().find(|status| status.starts_with("Name:\ttoolgate\n")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        resident.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Asks the process to end.
    pub async fn terminate(&self) {
        let leash = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", "TERM", &leash]).status().await.unwrap().success());
    }

    /// Waits until the process ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the process ends by itself", async || {
            ended = self.process.try_wait().unwrap();
            ended.is_some()
        })
        .await;
        ended.unwrap()
    }
}

impl Role {
    fn is_api(self) -> bool {
        matches!(self, Self::CommandApi | Self::QueryApi)
    }
}

/// A program that ends with the standard input of its process, and so with the test.
pub fn leashed(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", LEASH, "sh"]).arg(program).stdin(Stdio::piped());
    command
}

/// Free at this moment, and nobody else's later: each is handed out once, from below the ports that the kernel gives to those who
/// ask for any.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 10_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Another run of the suite begins elsewhere.
    let own = std::process::id().wrapping_mul(97);
    let ports = std::iter::repeat_with(|| FIRST + own.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT);
    let mut ports = ports.take(COUNT as usize).filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
