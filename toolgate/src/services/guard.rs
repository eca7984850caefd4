//! A service process that cannot outlive toolgate.
//!
//! Each service runs under a small shell that reads from a pipe which only this process can write to. A line names a
//! signal to send; the end of the pipe, however this process ended, stops the service. The shell has its own process
//! group, so a Ctrl-C at the terminal reaches toolgate alone.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions, TryLockError},
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Error, janitor::Janitor, run_as::RunAs};

/// Arguments: log file, signals in the order to try, tenths of a second to wait after each, then the service.
/// File descriptor 4 is the lock: the service inherits it, so the lock lasts as long as any process of the service.
const SCRIPT: &str = r#"
log=$1 signals=$2 patience=$3
shift 3
exec 3<&0 4>&2 </dev/null 2>/dev/null
"$@" >>"$log" 2>&1 &
service=$!
echo "$service"
exec >/dev/null
(
    while read -r signal; do kill -s "$signal" "$service"; done
    trap '' TERM
    for signal in $signals; do
        kill -s "$signal" "$service" || exit 0
        left=$patience
        while [ "$left" -gt 0 ]; do
            kill -0 "$service" || exit 0
            sleep 0.1
            left=$((left - 1))
        done
    done
) <&3 &
reader=$!
exec 3<&-
wait "$service"
status=$?
kill "$reader"
wait "$reader"
exit "$status"
"#;

const POLL: Duration = Duration::from_millis(20);

/// What to run, and how to stop it.
#[derive(Debug)]
pub(crate) struct Service {
    pub name: &'static str,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(&'static str, String)>,
    pub directory: PathBuf,
    pub log: PathBuf,
    pub lock: PathBuf,
    pub run_as: Option<RunAs>,
    /// Tried in this order until the service ends, gentlest first.
    pub signals: &'static str,
    /// How long to wait after each signal.
    pub patience: Duration,
    /// Told to wait for the service, when its data directory is temporary.
    pub janitor: Option<Arc<Janitor>>,
}

/// A running service. Dropping it stops the service in the background.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Option<Child>,
    pipe: Option<ChildStdin>,
    pid: u32,
}

impl Guard {
    /// Starts `service`, waiting first for an earlier process on the same data to end.
    pub async fn spawn(service: &Service) -> Result<Self, Error> {
        let lock = wait_for_lock(service).await?;
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "sh"])
            .arg(&service.log)
            .arg(service.signals)
            .arg((service.patience.as_millis() / 100).to_string())
            .arg(&service.program)
            .args(&service.args)
            .envs(service.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&service.directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(lock));
        if let Some(user) = &service.run_as {
            user.apply(&mut command);
        }
        let failed = || Error::file("start", &service.program);
        let mut child = command.spawn().map_err(failed())?;
        if let Some(janitor) = &service.janitor {
            janitor.outlive(child.id());
        }
        let pipe = child.stdin.take();
        let stdout = child.stdout.take();
        let mut guard = Self { child: Some(child), pipe, pid: 0 };
        // The shell prints this line before it does anything that takes time.
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).map_err(failed())?;
        }
        guard.pid = line.trim().parse().map_err(|_| failed()(io::Error::other("the shell did not report a process")))?;
        Ok(guard)
    }

    /// The process id of the service itself.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the service has ended.
    pub fn ended(&mut self) -> bool {
        match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => true,
        }
    }

    /// Sends a signal to the service, named without `SIG`.
    pub fn signal(&mut self, name: &str) {
        if let Some(pipe) = &mut self.pipe {
            // A service that ended already has nobody left to read this.
            drop(writeln!(pipe, "{name}"));
        }
    }

    /// Stops the service gently and returns when it has ended.
    pub async fn stop(&mut self) {
        self.pipe = None;
        self.wait().await;
    }

    /// Kills the service as a crash would and returns when it has ended.
    pub async fn kill(&mut self) {
        self.signal("KILL");
        self.wait().await;
        self.pipe = None;
    }

    /// Waits for the service to end by itself; true when it reported success.
    pub async fn finish(&mut self) -> bool {
        loop {
            match self.child.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => sleep(POLL).await,
                Some(Ok(Some(status))) => return status.success(),
                Some(Err(_)) | None => return false,
            }
        }
    }

    async fn wait(&mut self) {
        while !self.ended() {
            sleep(POLL).await;
        }
        self.child = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.pipe = None;
        reap(self.child.take());
    }
}

/// Collects the exit status of a child in the background, so that it does not stay behind as a zombie.
pub(crate) fn reap(child: Option<Child>) {
    if let Some(mut child) = child {
        std::thread::spawn(move || drop(child.wait()));
    }
}

async fn wait_for_lock(service: &Service) -> Result<File, Error> {
    let lock = open_lock(&service.lock)?;
    let deadline = Instant::now() + service.patience * 3;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(POLL).await,
            Err(TryLockError::WouldBlock) => {
                return Err(Error::StillRunning { service: service.name });
            }
            Err(TryLockError::Error(error)) => {
                return Err(Error::file("lock", &service.lock)(error));
            }
        }
    }
}

/// Opens a file to lock, creating it when needed.
pub(crate) fn open_lock(path: &Path) -> Result<File, Error> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(Error::file("open", path))
}
