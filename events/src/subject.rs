use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{CallId, TenantId};

/// One of the log's partitions. A tenant lives in exactly one, so its events have a total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition of a tenant: the first eight bytes of SHA-256 over the id's sixteen bytes, big-endian, modulo `partitions`.
    /// Stable across releases and languages; a log never changes its number of partitions.
    pub fn of(tenant: TenantId, partitions: u16) -> Self {
        let digest = Sha256::digest(tenant.0.as_bytes());
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        let index = u64::from_be_bytes(head) % u64::from(partitions.max(1));
        Self(u16::try_from(index).unwrap_or_default())
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}", self.0)
    }
}

/// A tool's execution lane: the bulkhead its calls wait and run in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Lane(String);

impl Lane {
    /// Where refusals live, which nobody works on: no tool may run in it.
    pub const REFUSAL: &'static str = "refusal";
    /// Where erasures live: the same.
    pub const ERASURE: &'static str = "erasure";

    /// # Errors
    /// Anything but 1 to 32 characters of `a-z`, `0-9` and `-`: a lane is a subject token and a consumer name.
    pub fn new(name: impl Into<String>) -> Result<Self, SubjectError> {
        let name = name.into();
        let fits = (1..=32).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if fits { Ok(Self(name)) } else { Err(SubjectError::Lane(name)) }
    }

    pub fn refusal() -> Self {
        Self(Self::REFUSAL.to_owned())
    }

    pub fn erasure() -> Self {
        Self(Self::ERASURE.to_owned())
    }

    /// Whether calls live here.
    pub fn is_of_calls(&self) -> bool {
        ![Self::REFUSAL, Self::ERASURE].contains(&self.0.as_str())
    }

    /// Where the tools of upstream MCP servers run: one lane, because the broker's permissions are made of a list that never changes.
    pub fn mcp() -> Self {
        Self("mcp".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Lane {
    type Error = SubjectError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(name)
    }
}

impl From<Lane> for String {
    fn from(lane: Lane) -> Self {
        lane.0
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the events of one call live in the log: `ev.<partition>.<tenant_id>.<lane>.<call_id>`. A refusal lives in a lane of its
/// own, under its own id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallSubject {
    pub partition: Partition,
    pub tenant_id: TenantId,
    pub lane: Lane,
    pub call_id: CallId,
}

impl CallSubject {
    pub fn new(partitions: u16, tenant_id: TenantId, lane: Lane, call_id: CallId) -> Self {
        Self { partition: Partition::of(tenant_id, partitions), tenant_id, lane, call_id }
    }

    /// # Errors
    /// A subject that this log cannot have written.
    pub fn parse(subject: &str) -> Result<Self, SubjectError> {
        let unknown = || SubjectError::Subject(subject.to_owned());
        let mut tokens = subject.split('.');
        let mut next = || tokens.next().ok_or_else(unknown);
        if next()? != "ev" {
            return Err(unknown());
        }
        let partition = Partition(next()?.parse().map_err(|_| unknown())?);
        let tenant_id = next()?.parse().map_err(|_| unknown())?;
        let lane = Lane::new(next()?)?;
        let call_id = next()?.parse().map_err(|_| unknown())?;
        if tokens.next().is_some() {
            return Err(unknown());
        }
        Ok(Self { partition, tenant_id, lane, call_id })
    }
}

impl fmt::Display for CallSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ev.{}.{}.{}.{}", self.partition, self.tenant_id, self.lane, self.call_id)
    }
}

/// Why a name is not a subject of this log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    #[error("{0:?} is not a lane: 1 to 32 characters of a-z, 0-9 and -")]
    Lane(String),
    #[error("{0:?} is not a subject of the log")]
    Subject(String),
}

#[cfg(test)]
mod tests {
    use uuid::{Uuid, uuid};

    use super::*;

    #[test]
    fn the_partition_of_a_tenant_never_changes() {
        let demo = TenantId(uuid!("6f9619ff-8b86-5d01-b42d-00cf4fc964ff"));
        assert_eq!(Partition::of(demo, 16), Partition(7));
        assert_eq!(Partition::of(demo, 1), Partition(0));
    }

    #[test]
    fn a_subject_reads_back() {
        let subject =
            CallSubject::new(16, TenantId(Uuid::from_u128(7)), Lane::new("search").unwrap(), CallId(Uuid::from_u128(9)));
        assert_eq!(CallSubject::parse(&subject.to_string()), Ok(subject));
        assert_eq!(Lane::new(Lane::REFUSAL), Ok(Lane::refusal()));
    }

    #[test]
    fn names_from_outside_never_become_tokens() {
        for name in ["", "a.b", "*", ">", "a b", "A", "x\r\n", &"a".repeat(33)] {
            assert!(Lane::new(name).is_err(), "{name:?}");
        }
        assert!(Lane::new("a".repeat(32)).is_ok());
        for subject in ["", "ev", "ev.00", "ev.00.x.search.y", "other.00.a.b.c"] {
            assert!(CallSubject::parse(subject).is_err(), "{subject:?}");
        }
    }
}
