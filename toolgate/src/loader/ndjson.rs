//! Files with the arguments of one `knowledge.upsert` a line.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
};

use super::{Document, Fault};

/// More than any server takes; what follows until the end of the line is passed over.
const MAX_LINE: u64 = 16 * 1024 * 1024;

/// The documents of one file, and its bad lines as faults. Empty lines are nothing.
pub fn documents(path: PathBuf) -> impl Iterator<Item = Result<Document, Fault>> + Send {
    let name = path.display().to_string();
    let fault = |reason: String| Fault { place: name.clone(), bytes: 0, reason };
    let (mut reader, mut broken) = match File::open(&path) {
        Ok(file) => (Some(BufReader::new(file)), None),
        Err(error) => (None, Some(fault(error.to_string()))),
    };
    let mut number = 0_u64;
    std::iter::from_fn(move || {
        if let Some(fault) = broken.take() {
            return Some(Err(fault));
        }
        loop {
            number += 1;
            let place = format!("{name}:{number}");
            let (bytes, line) = match next_line(reader.as_mut()?) {
                Ok((0, _)) => return None,
                Ok((bytes, line)) => (bytes, line),
                Err(error) => {
                    reader = None;
                    return Some(Err(Fault { place, bytes: 0, reason: error.to_string() }));
                }
            };
            let Some(line) = line else {
                return Some(Err(Fault { place, bytes, reason: format!("is longer than {MAX_LINE} bytes") }));
            };
            if line.trim_ascii().is_empty() {
                continue;
            }
            return Some(match serde_json::from_slice(&line) {
                Ok(input) => Ok(Document { place, bytes, input }),
                Err(error) => Err(Fault { place, bytes, reason: error.to_string() }),
            });
        }
    })
}

/// How many bytes were read, and the line unless it is too long.
fn next_line(reader: &mut impl BufRead) -> std::io::Result<(u64, Option<Vec<u8>>)> {
    let mut line = Vec::new();
    let mut bytes = reader.take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
    if bytes < MAX_LINE || line.ends_with(b"\n") {
        return Ok((bytes, Some(line)));
    }
    loop {
        line.clear();
        let more = reader.take(MAX_LINE).read_until(b'\n', &mut line)? as u64;
        bytes += more;
        if more == 0 || line.ends_with(b"\n") {
            return Ok((bytes, None));
        }
    }
}
