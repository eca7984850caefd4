use std::collections::HashMap;

use async_nats::jetstream::{
    self, Context, ErrorCode,
    context::{CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind},
    object_store,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use futures::{StreamExt, TryStreamExt, stream};
use toolgate_events::Partition;

use crate::{
    KeyError, Keyring, LogError, LogOptions, archive, artifacts, definitions,
    keys::{self, KeyStore},
    log::{PARTITIONS_KEY, SEALED_KEY, SETUP_CONCURRENCY},
    park, quota, revocations,
};

/// The streams beside the partitions. A new one is added here, and to what [`crate::User`]s may do.
fn other_streams(options: &LogOptions) -> Vec<Config> {
    let stream = |config: Config| Config { num_replicas: options.replicas, ..config };
    vec![stream(park::config()), stream(revocations::config()), stream(quota::config()), stream(definitions::config())]
}

/// Makes what is missing; what is there stays as it is.
pub(crate) async fn set_up(context: &Context, options: &LogOptions) -> Result<(), LogError> {
    // The first stream decides: it is created before the others and carries the number.
    ensure(context, partition_config(options, Partition(0))).await?;
    let first = open_partition(context, Partition(0)).await?;
    check(&first, options)?;
    let others = (1..options.partitions).map(|index| partition_config(options, Partition(index)));
    stream::iter(others.chain(other_streams(options)))
        .map(|config| ensure(context, config))
        .buffer_unordered(SETUP_CONCURRENCY)
        .try_collect::<()>()
        .await?;
    for bucket in [artifacts::BUCKET, archive::BUCKET] {
        ensure_bucket(context, options, bucket).await?;
    }
    ensure_keys(context, &first, options).await
}

/// Makes the key store where there is none, and only then marks the log: a mark without keys means that they are lost.
async fn ensure_keys(context: &Context, first: &Stream, options: &LogOptions) -> Result<(), LogError> {
    let Some(master) = &options.master_keys else { return Ok(()) };
    let is_marked = is_marked(first);
    if KeyStore::find(context).await?.is_none() && is_marked {
        return Err(KeyError::Lost.into());
    }
    ensure(context, Config { num_replicas: options.replicas, ..keys::config() }).await?;
    let store = KeyStore::find(context).await?.ok_or(LogError::NotSetUp)?;
    match store.check(master).await? {
        Some(()) => {}
        None if is_marked => return Err(KeyError::Lost.into()),
        None => store.put_check(master).await?,
    }
    if !is_marked {
        let mut config = first.cached_info().config.clone();
        config.metadata.insert(SEALED_KEY.to_owned(), "yes".to_owned());
        context.update_stream(config).await?;
    }
    Ok(())
}

fn is_marked(first: &Stream) -> bool {
    first.cached_info().config.metadata.contains_key(SEALED_KEY)
}

/// Opens the key store that belongs to a log, once it is certain that it is the one.
pub(crate) async fn open_keys(context: &Context, first: &Stream, options: &LogOptions) -> Result<Keyring, LogError> {
    let Some(master) = &options.master_keys else { return Ok(Keyring::none()) };
    let missing = || if is_marked(first) { LogError::from(KeyError::Lost) } else { LogError::NotSetUp };
    let store = KeyStore::find(context).await?.ok_or_else(missing)?;
    store.check(master).await?.ok_or_else(missing)?;
    Ok(Keyring::new(store, master.clone()))
}

/// Opens a partition that exists.
pub(crate) async fn open_partition(context: &Context, partition: Partition) -> Result<Stream, LogError> {
    let name = stream_name(partition);
    context.get_stream(&name).await.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => LogError::NotSetUp,
        _ => LogError::Open { stream: name.clone(), source: error },
    })
}

/// Refuses a log with another number of partitions.
pub(crate) fn check(stream: &Stream, options: &LogOptions) -> Result<(), LogError> {
    let recorded = stream.cached_info().config.metadata.get(PARTITIONS_KEY).cloned().unwrap_or_else(|| "no".to_owned());
    if recorded != options.partitions.to_string() {
        return Err(LogError::Partitions { recorded, asked: options.partitions });
    }
    Ok(())
}

async fn ensure(context: &Context, config: Config) -> Result<(), LogError> {
    let name = config.name.clone();
    if context.get_stream(&name).await.is_ok() {
        return Ok(());
    }
    context.create_stream(config).await.map(drop).map_err(|source| not_created(name, source))
}

async fn ensure_bucket(context: &Context, options: &LogOptions, bucket: &str) -> Result<(), LogError> {
    if context.get_object_store(bucket).await.is_ok() {
        return Ok(());
    }
    let config =
        object_store::Config { bucket: bucket.to_owned(), num_replicas: options.replicas, ..object_store::Config::default() };
    let created = context.create_object_store(config).await;
    created.map(drop).map_err(|error| LogError::Bucket(error.to_string()))
}

fn not_created(stream: String, source: CreateStreamError) -> LogError {
    match source.kind() {
        // The server drops what a user may not ask for: the client hears nothing.
        CreateStreamErrorKind::TimedOut => LogError::NotAllowed { stream },
        _ => LogError::Stream { stream, source },
    }
}

fn stream_name(partition: Partition) -> String {
    format!("EVENTS_{partition}")
}

fn partition_config(options: &LogOptions, partition: Partition) -> jetstream::stream::Config {
    Config {
        name: stream_name(partition),
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
    }
}
