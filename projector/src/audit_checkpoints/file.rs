use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use toolgate_events::{TenantId, audit::AuditCheckpoint};

/// More than any line has.
const TAIL: u64 = 4 * 1024;

/// A directory with one file per tenant, which only grows: a line for each checkpoint.
#[derive(Clone, Debug)]
pub struct CheckpointDir(PathBuf);

impl CheckpointDir {
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Adds a line, and returns when it is on the disk. Blocks.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn append(&self, checkpoint: &AuditCheckpoint) -> io::Result<()> {
        fs::create_dir_all(&self.0)?;
        let path = self.path(checkpoint.tenant_id);
        let is_new = !path.exists();
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        // Two processes may write, one on a schedule and one on demand.
        file.lock()?;
        drop_torn_line(&mut file)?;
        file.write_all(checkpoint.to_line().as_bytes())?;
        file.sync_all()?;
        if is_new { File::open(&self.0)?.sync_all() } else { Ok(()) }
    }

    /// The newest checkpoint of a tenant. Blocks.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn last(&self, tenant: TenantId) -> io::Result<Option<AuditCheckpoint>> {
        let tail = match File::open(self.path(tenant)) {
            Ok(mut file) => tail(&mut file)?.1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // What a crash left unfinished is no line.
        Ok(tail.split_inclusive(|byte| *byte == b'\n').rev().find_map(AuditCheckpoint::parse))
    }

    /// Whose checkpoints are there. Blocks.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn tenants(&self) -> io::Result<Vec<TenantId>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut tenants = Vec::new();
        for entry in entries {
            let name = entry?.file_name();
            let tenant = name.to_str().and_then(|name| name.strip_suffix(".jsonl")?.parse::<TenantId>().ok());
            tenants.extend(tenant);
        }
        Ok(tenants)
    }

    fn path(&self, tenant: TenantId) -> PathBuf {
        self.0.join(format!("{tenant}.jsonl"))
    }
}

impl AsRef<Path> for CheckpointDir {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

/// Half a line, left by a power cut, would spoil the file for whoever checks with it.
fn drop_torn_line(file: &mut File) -> io::Result<()> {
    let (start, tail) = tail(file)?;
    if tail.is_empty() || tail.ends_with(b"\n") {
        return Ok(());
    }
    let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    file.set_len(start + whole)
}

/// The end of a file, and where it begins.
fn tail(file: &mut File) -> io::Result<(u64, Vec<u8>)> {
    let start = file.seek(SeekFrom::End(0))?.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    Ok((start, tail))
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;
    use chrono::DateTime;
    use toolgate_events::{
        Partition,
        audit::{Head, SigningKey},
    };
    use uuid::Uuid;

    use super::*;

    fn checkpoint(position: u64) -> AuditCheckpoint {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap();
        let key = SigningKey::parse(&SigningKey::to_pem(pair.to_pkcs8v1().unwrap().as_ref()).unwrap()).unwrap();
        let tenant_id = TenantId(Uuid::from_u128(1));
        let head = Head { tenant_id, position, hash: "00".to_owned(), partition: Partition(0), stream_sequence: position };
        AuditCheckpoint::sign(head, DateTime::UNIX_EPOCH, &key)
    }

    #[test]
    fn lines_are_added_and_half_a_line_is_taken_away() {
        let name = format!("toolgate-checkpoints-{}", std::process::id());
        let directory = CheckpointDir::new(std::env::temp_dir().join(name));
        let tenant = checkpoint(1).tenant_id;
        assert_eq!(directory.last(tenant).unwrap(), None);
        assert_eq!(directory.tenants().unwrap(), []);
        let path = directory.path(tenant);
        for position in 1..40 {
            directory.append(&checkpoint(position)).unwrap();
            assert_eq!(directory.last(tenant).unwrap().unwrap().position, position);
        }
        fs::write(directory.0.join("notes.txt"), "").unwrap();
        assert_eq!(directory.tenants().unwrap(), [tenant]);
        let whole = fs::read(&path).unwrap();
        for torn in [1, 2, 300] {
            let half = checkpoint(40).to_line();
            fs::write(&path, [&whole, &half.as_bytes()[..half.len() - torn]].concat()).unwrap();
            assert_eq!(directory.last(tenant).unwrap().unwrap().position, 39, "half a line is none");
            directory.append(&checkpoint(41)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), [&whole, checkpoint(41).to_line().as_bytes()].concat());
        }
        fs::write(&path, "{").unwrap();
        directory.append(&checkpoint(1)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), checkpoint(1).to_line());
        fs::remove_dir_all(&directory).unwrap();
    }
}
