//! `toolgate audit verify`.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use toolgate_events::{
    TenantId,
    audit::{MAX_LINE, PublicKey, Signed, Summary, Verifier},
};
use uuid::Uuid;

use super::Error;
use crate::cli::token::tenant;

/// Check an export of an audit trail, and name the first row that is not as it was recorded
///
/// It needs nothing but the files that it is given: no settings, no database, no network. Exit code 0: all is in order; 1: it is
/// not; 2: the arguments or files cannot be used. docs/audit/README.md says what is proved by it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  toolgate audit verify audit.ndjson --checkpoints checkpoints.jsonl --public-key audit-key.pub.pem"
)]
pub(super) struct Verify {
    /// The export; - for the standard input
    file: PathBuf,
    /// The position that the export begins with
    #[arg(long, value_name = "POSITION", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: u64,
    /// Signed checkpoints, one a line
    #[arg(long, value_name = "FILE", requires = "public_key")]
    checkpoints: Option<PathBuf>,
    /// What they may be signed with (PEM); after a change of keys, each of them
    #[arg(long, value_name = "FILE", requires = "checkpoints")]
    public_key: Vec<PathBuf>,
    /// Whose trail it is, a uuid or the word demo [default: whom the checkpoints are about]
    #[arg(long, value_parser = tenant)]
    tenant: Option<Uuid>,
}

impl Verify {
    pub fn run(self) -> Result<(), Error> {
        let signed = self.signed()?;
        let has_checkpoints = self.checkpoints.is_some();
        let mut verifier = Verifier::new(self.from, signed);
        let mut export = open(&self.file)?;
        let mut line = Vec::new();
        while next_line(&mut export, &self.file, &mut line)? && verifier.take(&line) {}
        let summary = verifier.finish().map_err(|finding| Error::NotProved(finding.to_string()))?;
        write!(io::stdout(), "{}", text(&summary, has_checkpoints)).map_err(Error::Output)
    }

    fn signed(&self) -> Result<Signed, Error> {
        let mut signed = Signed::nothing(self.tenant.map(TenantId));
        let Some(path) = &self.checkpoints else { return Ok(signed) };
        let mut keys = Vec::new();
        for path in &self.public_key {
            let pem = fs::read_to_string(path).map_err(|error| unusable(path, error))?;
            keys.extend(PublicKey::parse(&pem).map_err(|error| unusable(path, error))?);
        }
        let mut file = open(path)?;
        let mut line = Vec::new();
        let forged = |error| Error::NotProved(format!("{}: {error}", path.display()));
        while next_line(&mut file, path, &mut line)? {
            signed.add(&line, &keys).map_err(forged)?;
        }
        signed.complete().map_err(forged)
    }
}

fn text(summary: &Summary, has_checkpoints: bool) -> String {
    let Summary { first, last, hash, attested, is_anchored } = summary;
    let mut text = match hash {
        Some(hash) if last >= first => format!("rows {first} to {last} are in order; the hash of row {last} is {hash}\n"),
        _ => "there are no rows\n".to_owned(),
    };
    match attested {
        Some(attested) if attested >= first => text.push_str(&format!("rows up to {attested} are as they were signed\n")),
        _ if has_checkpoints => text.push_str("no checkpoint is about any of these rows\n"),
        _ => text.push_str("without checkpoints it is open whether rows are missing at the end, or all of it was written anew\n"),
    }
    if !is_anchored {
        text.push_str("it is open whose trail it is, or what came before it; --tenant says whose it must be\n");
    }
    text
}

fn open(path: &Path) -> Result<Box<dyn BufRead>, Error> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    Ok(Box::new(BufReader::with_capacity(256 * 1024, File::open(path).map_err(|error| unusable(path, error))?)))
}

/// Reads a line with its newline, or the beginning of one that is too long. False at the end.
fn next_line(from: &mut impl BufRead, path: &Path, line: &mut Vec<u8>) -> Result<bool, Error> {
    line.clear();
    let read = from.take(MAX_LINE as u64).read_until(b'\n', line).map_err(|error| unusable(path, error))?;
    Ok(read > 0)
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Usage(format!("{}: {reason}", path.display()))
}
