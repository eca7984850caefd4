//! Pure: what another policy makes of recorded decisions.

use std::{fmt, ops::Range};

use chrono::{DateTime, Utc};
use serde::Serialize;
use toolgate_events::{CallSubject, Envelope, Event, RefusalEvent, ToolCallDenied, ToolCallEvent, ToolCallRequested, tools};
use toolgate_security::{Input, Policy, Verdict};
use uuid::Uuid;

/// Decides recorded requests again.
#[derive(Debug)]
pub struct Redecision<'a> {
    policy: &'a Policy,
    time: Range<DateTime<Utc>>,
    summary: Summary,
}

/// How many requests came out how. A denial on record stands for as many requests as it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub read: u64,
    pub still_allowed: u64,
    /// Of those, allowed by another rule than the one on record.
    pub by_another_rule: u64,
    pub now_denied: u64,
    pub still_denied: u64,
    pub now_allowed: u64,
    /// Denials of several principals, recorded as one.
    pub undecidable: u64,
    /// Events that are no decision on record, though they say so, and messages that are no events.
    pub unreadable: u64,
}

/// A request that is decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The call, or the refusal.
    pub call_id: Uuid,
    pub tenant_id: Uuid,
    pub principal: String,
    pub tool: Option<String>,
    /// 1 for a call.
    pub requests: u64,
    pub recorded_rule: String,
    pub new_rule: String,
    /// Whether it would be allowed now, and was not.
    pub allowed: bool,
}

/// Why a message is nothing to decide again.
enum Skipped {
    /// Something else happened, or at another time.
    Other,
    Unreadable,
}

impl<'a> Redecision<'a> {
    pub fn under(policy: &'a Policy, time: Range<DateTime<Utc>>) -> Self {
        Self { policy, time, summary: Summary::default() }
    }

    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// Decides what one message of the log tells of, if it tells of a decision.
    pub fn decide(&mut self, subject: &str, payload: &[u8]) -> Option<Difference> {
        match self.read(subject, payload) {
            Ok((envelope, Event::ToolCall(ToolCallEvent::ToolCallRequested(request)))) => self.requested(&envelope, *request),
            Ok((envelope, Event::Refusal(RefusalEvent::ToolCallDenied(denied)))) => self.denied(&envelope, denied),
            Ok(_) | Err(Skipped::Other) => None,
            Err(Skipped::Unreadable) => {
                self.summary.unreadable += 1;
                None
            }
        }
    }

    fn read(&self, subject: &str, payload: &[u8]) -> Result<(Envelope, Event), Skipped> {
        let envelope = Envelope::decode(payload).map_err(|_| Skipped::Unreadable)?;
        if !self.time.contains(&envelope.occurred_at)
            || ![ToolCallEvent::REQUESTED, RefusalEvent::DENIED].contains(&envelope.event_type.as_str())
        {
            return Err(Skipped::Other);
        }
        // Whose event it is, its place says.
        let is_in_place = CallSubject::parse(subject).is_ok_and(|subject| subject.tenant_id == envelope.tenant_id);
        let envelope = envelope.without_content();
        let event = envelope.event().ok().filter(|_| is_in_place).ok_or(Skipped::Unreadable)?;
        Ok((envelope, event))
    }

    fn requested(&mut self, envelope: &Envelope, request: ToolCallRequested) -> Option<Difference> {
        let recorded = request.authorization;
        let input = Input { tenant_id: envelope.tenant_id, roles: &recorded.roles, permissions: &recorded.permissions };
        let permission = format!("tool.{}:invoke", request.tool);
        let verdict = self.policy.decide(input, &permission);
        let new_rule = verdict.to_string();
        let summary = &mut self.summary;
        summary.read += 1;
        if verdict.is_allowed() {
            summary.still_allowed += 1;
            summary.by_another_rule += u64::from(new_rule != recorded.rule);
            return None;
        }
        summary.now_denied += 1;
        Some(Difference {
            call_id: envelope.aggregate_id.0,
            tenant_id: envelope.tenant_id.0,
            principal: recorded.principal,
            tool: Some(request.tool),
            requests: 1,
            recorded_rule: recorded.rule,
            new_rule,
            allowed: false,
        })
    }

    fn denied(&mut self, envelope: &Envelope, denied: ToolCallDenied) -> Option<Difference> {
        let summary = &mut self.summary;
        summary.read += denied.refused;
        let Some(principal) = denied.principal else {
            summary.undecidable += denied.refused;
            return None;
        };
        let input = Input { tenant_id: envelope.tenant_id, roles: &denied.roles, permissions: &denied.permissions };
        let verdict = decide(self.policy, input, &denied.permission);
        if !verdict.is_allowed() {
            summary.still_denied += denied.refused;
            return None;
        }
        summary.now_allowed += denied.refused;
        Some(Difference {
            call_id: envelope.aggregate_id.0,
            tenant_id: envelope.tenant_id.0,
            principal,
            tool: denied.tool,
            requests: denied.refused,
            recorded_rule: denied.rule,
            new_rule: verdict.to_string(),
            allowed: true,
        })
    }
}

/// Whoever asks for a tool that does not exist is denied when no tool is allowed.
fn decide<'a>(policy: &'a Policy, input: Input<'a>, permission: &str) -> Verdict<'a> {
    if permission != ToolCallDenied::ANY_TOOL {
        return policy.decide(input, permission);
    }
    let verdicts = tools::all().iter().map(|contract| policy.decide(input, &contract.permission));
    verdicts.into_iter().find(Verdict::is_allowed).unwrap_or(Verdict { rule: None })
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The log may hold what a terminal would obey.
        let [principal, tool, recorded_rule, new_rule] =
            [&self.principal, self.tool.as_deref().unwrap_or("-"), &self.recorded_rule, &self.new_rule].map(str::escape_debug);
        let Self { call_id, tenant_id, requests, allowed, .. } = self;
        let outcome = if *allowed { "now allowed" } else { "now denied " };
        write!(f, "{outcome}  {call_id}  {tenant_id}  {principal}  {tool}  {recorded_rule} -> {new_rule}")?;
        if *requests > 1 { write!(f, "  ({requests} requests)") } else { Ok(()) }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "calls read     {}", self.read)?;
        writeln!(f, "still allowed  {} ({} by another rule)", self.still_allowed, self.by_another_rule)?;
        writeln!(f, "now denied     {}", self.now_denied)?;
        writeln!(f, "still denied   {}", self.still_denied)?;
        writeln!(f, "now allowed    {}", self.now_allowed)?;
        writeln!(f, "undecidable    {}", self.undecidable)?;
        writeln!(f, "unreadable     {}", self.unreadable)
    }
}

#[cfg(test)]
mod tests;
