//! `toolgate replay`: projections made anew are equal to the live ones, whatever the log holds and whoever dies; a switch is noticed by
//! nobody; and no tool runs.

mod archive;
mod calls;
mod crashes;
mod damage;
mod erasure;
mod generated;
mod history;
mod random;
mod switch;

use std::process::ExitStatus;

use secrecy::ExposeSecret;

use crate::app::{PARTITIONS, Stack, leashed, wait_until};

/// What one run of `toolgate replay` said.
#[derive(Debug)]
pub struct Ran {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

/// The real binary, as an operator would run it.
pub async fn replay(stack: &Stack, arguments: &[&str]) -> Ran {
    replay_with(stack, arguments, &[]).await
}

pub async fn replay_with(stack: &Stack, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let connections = &stack.connections;
    let mut command = leashed(env!("CARGO_BIN_EXE_toolgate"));
    command
        .arg("replay")
        .args(arguments)
        .env("TOOLGATE_DATA_DIR", &stack.data_dir)
        .env("TOOLGATE_PARTITIONS", PARTITIONS.to_string())
        .env("NATS_URL", connections.nats.expose_secret())
        .env("DATABASE_URL", connections.owner.expose_secret())
        .env("DATABASE_URL_READER", connections.reader.expose_secret())
        .env("DATABASE_URL_PROJECTOR", connections.projector.expose_secret())
        .envs(variables.iter().copied())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Waiting for the output would let go of the leash.
    let leash = child.stdin.take();
    let output = child.wait_with_output().await.unwrap();
    drop(leash);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ran {
    pub fn succeeded(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }

    pub fn failed(self) -> Self {
        assert_eq!(self.status.code(), Some(1), "{self:#?}");
        self
    }

    /// The projections it found equal, and those it found different.
    pub fn verdicts(&self) -> (Vec<&str>, Vec<&str>) {
        let with = |verdict: &str| {
            self.stdout.lines().filter_map(|line| line.strip_suffix(verdict)).filter(|name| !name.contains(' ')).collect()
        };
        (with(": equal"), with(": DIFFERENT"))
    }
}

/// Waits until every event of the log is projected.
pub async fn projected(stack: &Stack) {
    let log = stack.log().await;
    wait_until("everything is projected", async || {
        let last: u64 = log.state().await.unwrap().iter().map(|state| state.last_sequence).sum();
        let reached = stack.count("select coalesce(sum(stream_sequence), 0)::bigint from projection_checkpoint").await;
        u64::try_from(reached).unwrap() == last
    })
    .await;
}

/// Schemas that a replay makes and that must not stay.
pub async fn left_behind(stack: &Stack) -> i64 {
    stack.count("select count(*) from pg_namespace where nspname like 'toolgate%'").await
}
