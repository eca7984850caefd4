use toolgate_security::Problem;
use toolgate_store::{ArtifactError, KeyError, LoadError, LogError, SegmentName};

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 404, also for what belongs to another tenant.
    #[error("no such resource")]
    NotFound,
    /// 400
    #[error("must be from 1 to 500")]
    Limit,
    /// 400: PostgreSQL's text cannot hold it, so nothing could match.
    #[error("{0} holds a character that no value can hold")]
    Text(&'static str),
    /// 400: made for another list, tenant or filter, or made up.
    #[error("this cursor does not belong to this list")]
    Cursor,
    /// 400
    #[error("Last-Event-ID is not a position")]
    LastEventId,
    /// 400
    #[error("must be a position or a date and time (RFC 3339)")]
    AsOf,
    /// 400: what is not there yet has no past.
    #[error("the newest position is {newest}")]
    AsOfBeyond { newest: u64 },
    /// 400: so much of the past is not added up for one question.
    #[error("more than {0} events would have to be added up")]
    AsOfTooMuch(usize),
    /// 503
    #[error("the past could not be added up in time")]
    AsOfTooLong,
    /// 400: too many days, or none.
    #[error("must be a day from `from` to 365 days after it")]
    Days,
    /// 400: a day that no calendar in use has.
    #[error("must be a day of the years 0 to 9999")]
    Day(&'static str),
    #[error("must be a position or a time (RFC 3339)")]
    Bound(&'static str),
    /// 400
    #[error("must be from 0.01 to 1000, or `max`")]
    Speed,
    /// 503: the projection has not come that far yet.
    #[error("position {0} is not projected yet")]
    PositionNotReached(u64),
    /// 503: the call is in the log; its projection is late.
    #[error("the call is recorded but not projected yet")]
    NotProjected,
    /// 503 when the database cannot be reached, else 500.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// 503
    #[error(transparent)]
    Log(#[from] LogError),
    /// 503
    #[error("the log could not be read: {0}")]
    Load(#[from] LoadError),
    /// 503, or 500 when what was sealed was changed.
    #[error("content could not be opened: {0}")]
    Keys(#[from] KeyError),
    /// 503, or 500 when the read model names an artifact that is not there.
    #[error("an artifact could not be read: {0}")]
    Artifact(#[from] ArtifactError),
    /// 503, or 500 when the archive does not hold what was archived.
    #[error("the archived segment {name} cannot be used: {reason}")]
    Segment { name: SegmentName, reason: String },
}

impl Error {
    /// Whether asking again later can help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Database(cause) => is_outage(cause),
            Self::Keys(KeyError::Broken(_)) => false,
            Self::Log(_) | Self::Load(_) | Self::Keys(_) | Self::Artifact(ArtifactError::Unavailable(_)) => true,
            _ => false,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match &error {
            Error::NotFound => Self::not_found(),
            Error::Limit => Self::invalid("limit", error.to_string()),
            Error::Text(parameter) => Self::invalid(*parameter, "the character U+0000 is not allowed"),
            Error::Cursor => Self::invalid("cursor", error.to_string()),
            Error::LastEventId => Self::invalid("Last-Event-ID", error.to_string()),
            Error::AsOf | Error::AsOfBeyond { .. } | Error::AsOfTooMuch(_) => Self::invalid("as_of", error.to_string()),
            Error::Days => Self::invalid("to", error.to_string()),
            Error::Day(parameter) => Self::invalid(*parameter, error.to_string()),
            Error::Bound(parameter) => Self::invalid(*parameter, error.to_string()),
            Error::Speed => Self::invalid("speed", error.to_string()),
            Error::PositionNotReached(_) | Error::NotProjected | Error::AsOfTooLong => Self::unavailable(error.to_string()),
            Error::Database(cause) if is_outage(cause) => unavailable(&error),
            // Its row goes as soon as the erasure is projected.
            Error::Artifact(ArtifactError::Erased) => Self::not_found(),
            Error::Keys(KeyError::Broken(_)) | Error::Artifact(ArtifactError::Keys(KeyError::Broken(_))) => {
                tracing::error!(error = %error, "content could not be opened");
                Self::internal()
            }
            Error::Log(_)
            | Error::Load(_)
            | Error::Keys(_)
            | Error::Artifact(ArtifactError::Unavailable(_) | ArtifactError::Keys(_)) => unavailable(&error),
            Error::Database(_) | Error::Artifact(ArtifactError::NotFound) | Error::Segment { .. } => {
                tracing::error!(error = %error, "a read model could not be read");
                Self::internal()
            }
        }
    }
}

fn unavailable(error: &Error) -> Problem {
    tracing::warn!(error = %error, "a question could not be answered for now");
    Problem::unavailable("the service cannot read its data at the moment")
}

/// Whether asking again later can help.
fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed => true,
        // Classes of PostgreSQL's errors: connection, login, resources, operator intervention.
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| ["08", "28", "53", "57"].iter().any(|class| code.starts_with(class)))
        }
        _ => false,
    }
}
