use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self, Context,
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use percent_encoding::percent_decode_str;
use toolgate_events::Partition;

/// Where the number of partitions is written down: on the log itself.
const PARTITIONS_KEY: &str = "toolgate.partitions";
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
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { partitions: 16, max_bytes: None, replicas: 1 }
    }
}

/// The partitioned event log.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) client: Client,
    pub(crate) context: Context,
    pub(crate) partitions: u16,
    pub(crate) streams: Arc<[jetstream::stream::Stream]>,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("NATS_URL is no NATS address: {0}")]
    Url(String),
    #[error("cannot reach NATS: {0}")]
    Connect(#[from] async_nats::ConnectError),
    #[error("cannot set up the stream {stream}: {source}")]
    Stream { stream: String, source: jetstream::context::CreateStreamError },
    #[error("this log has {recorded} partitions and was opened with {asked}; the number never changes")]
    Partitions { recorded: String, asked: u16 },
    #[error("cannot read the state of the log: {0}")]
    Info(#[from] jetstream::stream::InfoError),
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
    /// Connects, creates what is missing and checks what is there.
    ///
    /// # Errors
    /// [`LogError`]; nothing is changed on a log that was made with another number of partitions.
    pub async fn open(url: &str, options: &LogOptions) -> Result<Self, LogError> {
        let client = connect(url).await?;
        let context = jetstream::context::ContextBuilder::new().ack_timeout(Duration::from_secs(3)).build(client.clone());
        // The first stream decides: it is created before the others and carries the number.
        let first = ensure(&context, options, Partition(0)).await?;
        let others = stream::iter(1..options.partitions)
            .map(|index| ensure(&context, options, Partition(index)))
            .buffered(SETUP_CONCURRENCY)
            .try_collect::<Vec<_>>()
            .await?;
        let streams = std::iter::once(first).chain(others).collect();
        Ok(Self { client, context, partitions: options.partitions, streams })
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

/// Connects, and reconnects for ever. async-nats leaves the login in a URL aside, so it is taken out here.
pub(crate) async fn connect(url: &str) -> Result<Client, LogError> {
    let address: async_nats::ServerAddr = url.parse().map_err(|error| LogError::Url(format!("{error}")))?;
    let decoded = |part: &str| percent_decode_str(part).decode_utf8_lossy().into_owned();
    let mut options = async_nats::ConnectOptions::new()
        .name("toolgate")
        .reconnect_delay_callback(|attempts| Duration::from_millis(100 * attempts.min(10) as u64));
    match (address.username(), address.password()) {
        (Some(user), Some(password)) => options = options.user_and_password(decoded(user), decoded(password)),
        (Some(token), None) => options = options.token(decoded(token)),
        (None, _) => {}
    }
    Ok(options.connect(address).await?)
}

async fn ensure(context: &Context, options: &LogOptions, partition: Partition) -> Result<jetstream::stream::Stream, LogError> {
    let name = format!("EVENTS_{partition}");
    let config = Config {
        name: name.clone(),
        subjects: vec![format!("ev.{partition}.>")],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: options.replicas,
        // A full log refuses; it never forgets.
        discard: DiscardPolicy::New,
        deny_delete: true,
        deny_purge: true,
        max_bytes: options.max_bytes.map_or(-1, |bytes| i64::try_from(bytes / u64::from(options.partitions)).unwrap_or(i64::MAX)),
        metadata: HashMap::from([(PARTITIONS_KEY.to_owned(), options.partitions.to_string())]),
        ..Config::default()
    };
    let failed = |source| LogError::Stream { stream: name.clone(), source };
    let stream = match context.get_stream(&name).await {
        Ok(stream) => stream,
        Err(_) => {
            context.create_stream(config).await.map_err(failed)?;
            context.get_stream(&name).await.map_err(|error| {
                failed(jetstream::context::CreateStreamError::with_source(
                    jetstream::context::CreateStreamErrorKind::Response,
                    error,
                ))
            })?
        }
    };
    let recorded = stream.cached_info().config.metadata.get(PARTITIONS_KEY).cloned().unwrap_or_else(|| "no".to_owned());
    if recorded != options.partitions.to_string() {
        return Err(LogError::Partitions { recorded, asked: options.partitions });
    }
    Ok(stream)
}
