//! Ports for private services.

use std::{fs, net::TcpListener, path::Path};

use aws_lc_rs::rand;

/// Below the ports that systems hand out to outgoing connections (32768 and up), so that a service finds its port free
/// again when it restarts.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// How many ports to try before giving up.
pub(crate) const ATTEMPTS: usize = 5;

/// A port that was free a moment ago on 127.0.0.1; the one recorded in `file` when that is free.
pub(crate) fn pick(file: &Path) -> u16 {
    let recorded = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    recorded.into_iter().chain(std::iter::repeat_with(random).take(100)).find(|port| is_free(*port)).unwrap_or(FIRST)
}

/// Records the port for the next start. Failing to do so only costs a different port.
pub(crate) fn record(file: &Path, port: u16) {
    drop(fs::write(file, port.to_string()));
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness every start tries the same port, and moves on when it is taken.
    let _ = rand::fill(&mut bytes);
    FIRST + u16::from_le_bytes(bytes) % COUNT
}
