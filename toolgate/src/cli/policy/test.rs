//! `toolgate policy test`.

use std::{
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use chrono::{DateTime, Duration, Utc};
use clap::Args;
use futures::StreamExt;
use toolgate_events::{Partition, TenantId};
use toolgate_store::{Clock, Log, User};
use uuid::Uuid;

use super::{
    Error,
    redecide::{Difference, Redecision, Summary},
};
use crate::{cli::Common, services::Connections, settings::Profile};

/// How far the clocks of this system's machines may be apart: the log's reading begins by its own clock, an event has its writer's.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// Decide recorded calls again under another policy, and list every difference
///
/// It reads the log and changes nothing: no tool runs, nothing is appended.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  toolgate policy test policy.toml --since 24h --check")]
pub(super) struct Test {
    file: PathBuf,
    /// From when on: an RFC 3339 time, or 30m, 24h, 7d ago
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: DateTime<Utc>,
    /// Until when, exclusive
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<DateTime<Utc>>,
    /// Only this tenant's calls, a uuid or the word demo
    #[arg(long, value_parser = crate::cli::token::tenant)]
    tenant: Option<Uuid>,
    /// One JSON object a line: the differences, then the summary
    #[arg(long)]
    json: bool,
    /// Exit with 1 when there is a difference
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    common: Common,
}

impl Test {
    pub async fn run(self) -> Result<(), Error> {
        let settings = self.common.settings(Profile::Server, vec![])?;
        crate::cli::log(&settings, "warn");
        let policy = super::read(&self.file)?;
        let connections = Connections::for_role(&settings, User::Operator, None)?;
        let log = connections.open_log_as_operator(&settings).await?;

        let until = self.until.unwrap_or(DateTime::<Utc>::MAX_UTC);
        let mut redecision = Redecision::under(&policy, self.since..until);
        let mut output = BufWriter::new(io::stdout().lock());
        let tenant = self.tenant.map(TenantId);
        let from = self.since.checked_sub_signed(CLOCK_SKEW).unwrap_or(self.since);
        for partition in partitions(&log, tenant) {
            let mut reader = log.read_since(partition, tenant, from).await?;
            while let Some(message) = reader.next().await {
                let message = message?;
                if let Some(difference) = redecision.decide(&message.subject, &message.payload) {
                    self.list(&difference, &mut output).map_err(Error::Output)?;
                }
            }
        }
        let summary = redecision.summary();
        self.sum_up(&summary, &mut output).and_then(|()| output.flush()).map_err(Error::Output)?;
        let different = summary.now_denied + summary.now_allowed;
        if self.check && different > 0 { Err(Error::DecidesDifferently(different)) } else { Ok(()) }
    }

    fn list(&self, difference: &Difference, output: &mut impl Write) -> io::Result<()> {
        if self.json {
            json_line(&serde_json::json!({"difference": difference}), output)
        } else {
            writeln!(output, "{difference}")
        }
    }

    fn sum_up(&self, summary: &Summary, output: &mut impl Write) -> io::Result<()> {
        if self.json { json_line(&serde_json::json!({"summary": summary}), output) } else { write!(output, "{summary}") }
    }
}

fn partitions(log: &Log, tenant: Option<TenantId>) -> Vec<Partition> {
    match tenant {
        Some(tenant) => vec![Partition::of(tenant, log.partitions())],
        None => log.all_partitions().collect(),
    }
}

fn json_line(value: &serde_json::Value, output: &mut impl Write) -> io::Result<()> {
    writeln!(output, "{value}")
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    time_before(Clock::system().now(), text)
}

fn time_before(now: DateTime<Utc>, text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        // A sign is no digit, though a number may have one.
        let number: i64 = number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok()).flatten()?;
        match unit {
            "m" => Duration::try_minutes(number),
            "h" => Duration::try_hours(number),
            "d" => Duration::try_days(number),
            _ => None,
        }
    };
    let refusal = || "expected an RFC 3339 time, or a number with m, h or d, such as 24h".to_owned();
    ago().and_then(|ago| now.checked_sub_signed(ago)).ok_or_else(refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_absolute_or_so_long_ago() {
        let now = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        for (text, seconds) in [("30m", 1_800), ("24h", 86_400), ("7d", 604_800), ("0m", 0)] {
            assert_eq!(time_before(now, text), Ok(now - Duration::seconds(seconds)), "{text}");
        }
        let absolute = time_before(now, "2026-01-31T12:00:00+07:00").unwrap();
        assert_eq!(absolute.to_rfc3339(), "2026-01-31T05:00:00+00:00");
        for bad in ["", "m", "7", "7w", "-7d", "+7d", "1.5h", "7 d", "99999999999999999999d", "9999999999d", "yesterday", "7é"] {
            assert!(time_before(now, bad).is_err(), "{bad:?}");
        }
    }
}
