//! Reads the end of a service's log and says in one sentence why it stopped.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::Error;

const TAIL_BYTES: u64 = 16 * 1024;
const ROTATE_ABOVE_BYTES: u64 = 8 * 1024 * 1024;

/// Why a service stopped, as far as its log tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    PortInUse,
    DiskFull,
    Other(String),
}

/// Reads the reason from what was appended to `log` after `from` bytes.
pub(crate) fn reason(log: &Path, from: u64) -> Reason {
    explain(&read(log, from))
}

/// The error for a service that ended while starting.
pub(crate) fn ended(service: &'static str, port: u16, log: PathBuf, from: u64) -> Error {
    match reason(&log, from) {
        Reason::PortInUse => Error::PortInUse { service, port },
        Reason::DiskFull => Error::DiskFull { path: log },
        Reason::Other(detail) => Error::Ended { service, detail, log },
    }
}

/// The error for a service that ended after it had started.
pub(crate) fn died(service: &'static str, log: PathBuf, from: u64) -> Error {
    match reason(&log, from) {
        Reason::DiskFull => Error::DiskFull { path: log },
        Reason::PortInUse => Error::Died { service, detail: "its port was taken".to_owned(), log },
        Reason::Other(detail) => Error::Died { service, detail, log },
    }
}

/// Keeps one older log when the present one has grown large. Best effort: a log is no reason to fail.
pub(crate) fn rotate(log: &Path) {
    if length(log) > ROTATE_ABOVE_BYTES {
        drop(fs::rename(log, log.with_extension("old")));
    }
}

/// The length of the log so far, in bytes; 0 when there is none.
pub(crate) fn length(log: &Path) -> u64 {
    fs::metadata(log).map_or(0, |metadata| metadata.len())
}

fn read(log: &Path, from: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = fs::File::open(log) {
        let start = from.max(length(log).saturating_sub(TAIL_BYTES));
        if file.seek(SeekFrom::Start(start)).is_ok() {
            // Half a log still explains more than none.
            drop(file.read_to_end(&mut text));
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn explain(text: &str) -> Reason {
    let lower = text.to_lowercase();
    if lower.contains("no space left on device") {
        return Reason::DiskFull;
    }
    if lower.contains("address already in use") {
        return Reason::PortInUse;
    }
    let is_fatal = |line: &&str| {
        ["FATAL:", "PANIC:", "[FTL]", "error while loading", "error:", "ERROR:"].iter().any(|mark| line.contains(mark))
    };
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(is_fatal).or_else(|| lines().next_back());
    Reason::Other(line.unwrap_or("it wrote nothing to its log").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_recognised_for_both_services() {
        let postgres = "LOG:  could not bind IPv4 address \"127.0.0.1\": Address already in use\nFATAL:  could not create any TCP/IP sockets";
        let nats =
            "[1] [FTL] Error listening on port: 127.0.0.1:4222, \"listen tcp 127.0.0.1:4222: bind: address already in use\"";
        assert_eq!(explain(postgres), Reason::PortInUse);
        assert_eq!(explain(nats), Reason::PortInUse);
    }

    #[test]
    fn a_full_disk_wins_over_its_consequences() {
        let text = "FATAL:  could not write lock file \"postmaster.pid\": No space left on device";
        assert_eq!(explain(text), Reason::DiskFull);
    }

    #[test]
    fn otherwise_the_last_fatal_line_is_shown() {
        let text = "LOG:  starting\nFATAL:  data directory has wrong ownership\nHINT:  look again\n";
        let expected = "FATAL:  data directory has wrong ownership".to_owned();
        assert_eq!(explain(text), Reason::Other(expected));
        assert_eq!(explain(""), Reason::Other("it wrote nothing to its log".into()));
    }
}
