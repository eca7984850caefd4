//! `toolgate knowledge load`: documents from files into a knowledge base, through the front door like any caller.
//!
//! Loading again repeats nothing needlessly. A document's idempotency key follows from what it says, so the first load and one that
//! goes on after a crash are the same calls. Whether a text that was loaded before is still there, or another one has replaced it
//! meanwhile, is asked; where it is not, the key also follows from what is there instead. Where a call failed, the key of the next one follows from it.

mod front_matter;
mod markdown;
mod ndjson;
mod progress;
mod send;
mod sources;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use toolgate_events::tools::KnowledgeUpsertInput;

use self::{progress::Bar, send::Sender};

/// What to load, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where toolgate is, such as `http://127.0.0.1:8080`.
    pub url: String,
    pub token: String,
    /// Folders of Markdown, Markdown files, and files of JSON lines.
    pub paths: Vec<PathBuf>,
    /// The language of Markdown that does not say it (BCP 47).
    pub locale: String,
    /// Requests at the same time.
    pub concurrency: usize,
}

/// Why nothing could be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {}: {source}", path.display())]
    Path { path: PathBuf, source: io::Error },
    #[error("{} is neither a folder nor a .md, .ndjson or .jsonl file", .0.display())]
    Kind(PathBuf),
    #[error("cannot make requests: {0}")]
    Http(#[source] reqwest::Error),
    #[error("{0} documents were not loaded")]
    Faults(u64),
}

/// What came of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Documents that are new or say something new.
    pub written: u64,
    /// Documents that were there already.
    pub unchanged: u64,
    /// Documents that were not loaded; each has been named on the standard error.
    pub failed: u64,
    /// Of the files read.
    pub bytes: u64,
    pub duration: Duration,
}

/// A document on its way.
#[derive(Debug)]
struct Document {
    /// The file, and the line in it.
    place: String,
    /// Of the file, for the progress bar.
    bytes: u64,
    input: KnowledgeUpsertInput,
}

/// Something that cannot be loaded.
#[derive(Debug)]
struct Fault {
    place: String,
    bytes: u64,
    reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Written,
    Unchanged,
}

/// Loads, and names what it cannot load on the standard error. What was loaded before an interruption stays.
///
/// # Errors
/// When the paths cannot be listed. What is wrong with single documents is counted instead.
pub async fn load(options: &Options) -> Result<Summary, Error> {
    let began = Instant::now();
    let files = sources::list(&options.paths)?;
    let bar = Bar::new(files.iter().map(|file| file.bytes).sum());
    let sender = &Sender::new(options)?;
    let mut first_places = HashMap::new();
    let documents = sources::documents(files, &options.locale).map(move |document| once(document?, &mut first_places));
    let mut summary = Summary::default();
    let mut sent = stream::iter(documents)
        .map(|document| async move {
            let document = document?;
            let outcome = sender.send(&document.input).await;
            let Document { place, bytes, .. } = document;
            outcome.map(|outcome| (outcome, bytes)).map_err(|reason| Fault { place, bytes, reason })
        })
        .buffer_unordered(options.concurrency);
    while let Some(outcome) = sent.next().await {
        let bytes = match outcome {
            Ok((Outcome::Written, bytes)) => {
                summary.written += 1;
                bytes
            }
            Ok((Outcome::Unchanged, bytes)) => {
                summary.unchanged += 1;
                bytes
            }
            Err(fault) => {
                summary.failed += 1;
                bar.say(&format!("{}: {}", fault.place, fault.reason));
                fault.bytes
            }
        };
        summary.bytes += bytes;
        bar.advance(bytes);
    }
    summary.duration = began.elapsed();
    Ok(summary)
}

/// Requests overtake one another: which of two texts would stay is not for chance to say.
fn once(document: Document, first_places: &mut HashMap<String, String>) -> Result<Document, Fault> {
    match first_places.entry(document.input.document_id.clone()) {
        Entry::Vacant(entry) => {
            entry.insert(document.place.clone());
            Ok(document)
        }
        Entry::Occupied(entry) => {
            let Document { place, bytes, .. } = document;
            Err(Fault { place, bytes, reason: format!("the document of this name is in {} already", entry.get()) })
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { written, unchanged, failed, bytes, duration } = self;
        let seconds = duration.as_secs_f64();
        write!(f, "{written} documents written, {unchanged} unchanged, {failed} failed; {bytes} bytes in {seconds:.1} s")
    }
}
