//! The log: JetStream streams that hold every event, and the core-NATS announcements around them.
//!
//! This is the only crate that speaks NATS. Domain rules live in `toolgate-events`.

mod access;
mod announce;
mod append;
pub mod archive;
mod artifacts;
pub mod bare;
mod checkpoints;
mod clock;
mod connect;
mod consume;
mod cqrs;
pub mod crash;
mod definitions;
mod discovered;
mod entries;
mod invalidations;
mod keys;
mod load;
mod log;
mod park;
mod projections;
mod quota;
mod restore;
mod revocations;
mod set_up;
mod streaming;

pub use access::{Grant, MAX_PARTITIONS, Permissions, User};
pub use announce::{AnnouncedOutcome, Projected, Replies, ReplyTo, WaitForReply};
pub use append::{AppendError, Expect};
pub use archive::{Archive, SegmentError, SegmentName};
pub use artifacts::{ArtifactError, Artifacts};
pub use checkpoints::CheckpointBucket;
pub use clock::Clock;
pub use connect::{Login, TlsFiles};
pub use consume::{ConsumeError, Delivery, LaneState, LogReader, Received};
pub use cqrs::{JetStreamEventStore, StoreContext, StoreError};
pub use definitions::{Definitions, DefinitionsError};
pub use discovered::Discovered;
pub use entries::EntryError;
pub use invalidations::Invalidated;
pub use keys::{Custody, FRESH as KEYS_FRESH, Held, KeyEntry, KeyError, Keyring, MasterKeys, Scope, Tombstone, WrappedKey};
pub use load::{LoadError, Recorded, fold};
pub use log::{Log, LogError, LogOptions, PartitionState};
pub use park::Parked;
pub use projections::{Announcements, Following, FollowingEvents};
pub use quota::{CounterError, CounterName, Counters};
pub use restore::{Lost, LostContent, RestoreError};
pub use revocations::{Revocation, RevocationError, RevocationLog, TenantEntry};
pub use streaming::{Streaming, StreamingError, StreamingMode};
