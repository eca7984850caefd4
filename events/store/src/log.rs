use std::{io, path::PathBuf, sync::Arc, time::Duration};

use async_nats::{
    Client,
    jetstream::{self, Context},
};
use futures::{StreamExt, TryStreamExt, stream};
use toolgate_events::Partition;

use crate::{
    KeyError, Keyring, Login, MasterKeys, TlsFiles, User,
    connect::connect,
    set_up::{check, open_keys, open_partition, set_up},
};

/// Where the number of partitions is written down: on the log itself.
pub(crate) const PARTITIONS_KEY: &str = "toolgate.partitions";
/// Whether there are keys beside the log; also on the log itself, so that their loss is noticed.
pub(crate) const SEALED_KEY: &str = "toolgate.sealed";
/// How many set-up requests are under way at once.
pub(crate) const SETUP_CONCURRENCY: usize = 16;

/// How a log is made. Only `partitions` is checked against a log that exists.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Fixed for the life of the log.
    pub partitions: u16,
    /// Bytes the whole log may hold; at the limit appends are refused, never old events dropped.
    pub max_bytes: Option<u64>,
    /// Copies of every event on a cluster.
    pub replicas: usize,
    /// What the keys beside the log are wrapped under. Without it nothing can be sealed or opened.
    pub master_keys: Option<MasterKeys>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { partitions: 16, max_bytes: None, replicas: 1, master_keys: None }
    }
}

/// The partitioned event log.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) client: Client,
    pub(crate) context: Context,
    pub(crate) partitions: u16,
    pub(crate) streams: Arc<[jetstream::stream::Stream]>,
    keys: Keyring,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("NATS_URL is no NATS address: {0}")]
    Url(String),
    #[error("cannot reach NATS: {0}")]
    Connect(#[from] async_nats::ConnectError),
    #[error("the NATS server {server} does not know this user or its password")]
    Login { server: String },
    #[error("the NATS server {server} is not to be trusted: {reason}")]
    Tls { server: String, reason: String },
    #[error("cannot read {path}: {source}")]
    TlsFile { path: PathBuf, source: io::Error },
    #[error("the log is not set up; run `toolgate migrate`")]
    NotSetUp,
    #[error("cannot open the stream {stream}: {source}")]
    Open { stream: String, source: jetstream::context::GetStreamError },
    #[error(
        "cannot set up the stream {stream}: the server did not answer, or this user may not do it; run `toolgate migrate` as the operator"
    )]
    NotAllowed { stream: String },
    #[error("cannot set up the stream {stream}: {source}")]
    Stream { stream: String, source: jetstream::context::CreateStreamError },
    #[error(transparent)]
    Keys(#[from] KeyError),
    #[error("cannot mark the log as sealed: {0}")]
    Mark(#[from] jetstream::context::UpdateStreamError),
    #[error("the master keys in {path} cannot be used: {reason}")]
    MasterKeys { path: PathBuf, reason: String },
    #[error("cannot set up the artifacts: {0}")]
    Bucket(String),
    #[error("this log has {recorded} partitions and was opened with {asked}; the number never changes")]
    Partitions { recorded: String, asked: u16 },
    #[error("cannot read the state of the log: {0}")]
    Info(#[from] jetstream::stream::InfoError),
    #[error("cannot announce: {0}")]
    Announce(String),
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
}

/// What a partition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionState {
    pub partition: Partition,
    pub messages: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// The stream sequence of the newest event, 0 when there is none.
    pub last_sequence: u64,
}

impl Log {
    /// [`Log::set_up`] by the operator, without certificates.
    ///
    /// # Errors
    /// [`LogError`]
    pub async fn open(url: &str, options: &LogOptions) -> Result<Self, LogError> {
        Self::set_up(Login { url, user: User::Operator, tls: TlsFiles::NONE }, options).await
    }

    /// Makes the streams and buckets that are missing, and opens the log. Only the operator may.
    ///
    /// # Errors
    /// [`LogError`]; nothing is changed on a log that was made with another number of partitions.
    pub async fn set_up(login: Login<'_>, options: &LogOptions) -> Result<Self, LogError> {
        let client = connect(login).await?;
        let context = context(&client);
        set_up(&context, options).await?;
        Self::with(client, context, options).await
    }

    /// Opens a log that has been set up.
    ///
    /// # Errors
    /// [`LogError`]; [`LogError::NotSetUp`] when there is none.
    pub async fn connect(login: Login<'_>, options: &LogOptions) -> Result<Self, LogError> {
        let client = connect(login).await?;
        let context = context(&client);
        Self::with(client, context, options).await
    }

    async fn with(client: Client, context: Context, options: &LogOptions) -> Result<Self, LogError> {
        // With another number of partitions, the others may not exist.
        let first = open_partition(&context, Partition(0)).await?;
        check(&first, options)?;
        let keys = open_keys(&context, &first, options).await?;
        let others = stream::iter(1..options.partitions)
            .map(|index| open_partition(&context, Partition(index)))
            .buffered(SETUP_CONCURRENCY)
            .try_collect::<Vec<_>>()
            .await?;
        let streams = std::iter::once(first).chain(others).collect();
        Ok(Self { client, context, partitions: options.partitions, streams, keys })
    }

    /// What seals and opens the content of events.
    pub fn keys(&self) -> &Keyring {
        &self.keys
    }

    pub fn partitions(&self) -> u16 {
        self.partitions
    }

    /// Every partition, in order.
    pub fn all_partitions(&self) -> impl Iterator<Item = Partition> + use<> {
        (0..self.partitions).map(Partition)
    }

    /// Whether the connection is up right now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// How often the connection has been made: a higher number means that it was lost in between.
    pub fn connections(&self) -> u64 {
        self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// What each partition holds, asked of the broker.
    ///
    /// # Errors
    /// [`LogError::Info`] when the broker does not answer.
    pub async fn state(&self) -> Result<Vec<PartitionState>, LogError> {
        stream::iter(self.all_partitions())
            .map(|partition| self.partition_state(partition))
            .buffered(SETUP_CONCURRENCY)
            .try_collect()
            .await
    }

    /// What one partition holds, asked of the broker.
    ///
    /// # Errors
    /// [`LogError::Info`] when the broker does not answer.
    pub async fn partition_state(&self, partition: Partition) -> Result<PartitionState, LogError> {
        let info = self.stream(partition).get_info().await?;
        Ok(PartitionState {
            partition,
            messages: info.state.messages,
            bytes: info.state.bytes,
            last_sequence: info.state.last_sequence,
        })
    }

    /// Sends what is buffered and waits until the broker has it: the last act before a process ends.
    pub async fn flush(&self) {
        if let Err(error) = self.client.flush().await {
            tracing::warn!(error = %error, "could not flush to NATS before ending");
        }
    }

    pub(crate) fn stream(&self, partition: Partition) -> &jetstream::stream::Stream {
        &self.streams[usize::from(partition.0 % self.partitions)]
    }
}

fn context(client: &Client) -> Context {
    jetstream::context::ContextBuilder::new().ack_timeout(Duration::from_secs(3)).build(client.clone())
}
