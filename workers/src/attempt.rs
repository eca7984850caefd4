//! The attempts of one call: each within its time and with its breaker's leave, all of them within a time of their own.

use std::time::{Duration, Instant};

use serde_json::Value;
use toolgate_events::{
    CallError,
    tool_call::{self, Command},
    tools::{Contract, SideEffects},
};
use toolgate_store::{AppendError, crash};

use crate::{
    adapters::{self, Call, ToolError, problem},
    breaker::Key,
    call::{Abandoned, Context, FIRST_PAUSE, LAST_PAUSE},
    held::Held,
    retry::{self, Verdict},
};

/// What the attempts have in common.
pub struct Attempts<'a> {
    pub context: &'a Context,
    pub contract: &'static Contract,
    pub adapter: adapters::Adapter,
    pub breaker: Key,
    pub side_effects: SideEffects,
    /// How long each may take.
    pub timeout: Duration,
    /// When the last of them ends.
    pub end: Instant,
}

/// How the attempts ended.
#[derive(Debug)]
pub struct Ended {
    /// The last one's number.
    pub attempt: u32,
    pub answer: Result<Value, Failure>,
}

#[derive(Debug)]
pub struct Failure {
    pub error: CallError,
    /// Whether the other side is down, so that an older result would do.
    pub is_upstream_down: bool,
}

enum Next {
    Ended(Result<Value, Failure>),
    /// toolgate's own services are away; that is not the call's fault and costs it no attempt.
    Wait(String),
    /// A failure that may pass, why, and what goes on record when there is no more time or attempt for it.
    Again(&'static str, CallError),
}

impl Attempts<'_> {
    pub async fn run(mut self, held: &mut Held, call: &mut Call, mut attempt: u32) -> Result<Ended, Abandoned> {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            call.deadline = self.end.min(began + self.timeout);
            match self.once(call, began).await {
                Next::Ended(answer) => return Ok(Ended { attempt, answer }),
                Next::Wait(reason) => {
                    tracing::warn!(reason, call_id = %call.call_id, "a part of the service is away; the call waits for it");
                    if !self.sleep(pause).await {
                        if self.side_effects != SideEffects::Effectful {
                            return Err(Abandoned::Shutdown);
                        }
                        // Nothing was sent, but the next worker could not know.
                        let error = ToolError::Infrastructure(reason).record();
                        return Ok(Ended { attempt, answer: Err(Failure { error, is_upstream_down: false }) });
                    }
                    self.end += began.elapsed();
                    pause = (pause * 2).min(LAST_PAUSE);
                }
                Next::Again(reason, error) => {
                    crash::point("worker.failed");
                    match self.again(held, attempt, reason).await? {
                        Some(next) => attempt = next,
                        None => return Ok(Ended { attempt, answer: Err(Failure { error, is_upstream_down: true }) }),
                    }
                }
            }
        }
    }

    async fn once(&self, call: &Call, began: Instant) -> Next {
        let breakers = &self.context.breakers;
        let Ok(permit) = breakers.admit(self.breaker.clone(), Instant::now()) else {
            let error = problem("circuit-open", "The other side has failed too often lately", "try again in a little while");
            return Next::Ended(Err(Failure { error, is_upstream_down: true }));
        };
        let time = call.deadline.saturating_duration_since(began);
        // A time that was cut short says nothing about the other side.
        let has_all_its_time = time + time / 10 >= Duration::from_millis(self.contract.timeout_ms.into());
        let answer = tokio::time::timeout(time, (self.adapter)(call, &self.context.environment)).await;
        let now = Instant::now();
        let Ok(answer) = answer else {
            let asks_somebody = self.breaker.upstream.is_some();
            if asks_somebody && has_all_its_time {
                permit.failed(now);
            }
            return self.timed_out(time, asks_somebody);
        };
        let error = match answer {
            Ok(result) => {
                permit.succeeded(now);
                let checked = self.context.answers.checked(self.contract, result);
                let Ok(checked) = tokio::time::timeout_at(call.deadline.into(), checked).await else {
                    return self.timed_out(time, false);
                };
                return Next::Ended(checked.map_err(|error| {
                    tracing::error!(tool = self.contract.name, call_id = %call.call_id, detail = error.detail, "an adapter broke its contract");
                    Failure { error, is_upstream_down: false }
                }));
            }
            Err(ToolError::Infrastructure(reason)) => return Next::Wait(reason),
            Err(error) => error,
        };
        if let ToolError::Internal(reason) = &error {
            tracing::error!(reason, call_id = %call.call_id, "an adapter failed by its own fault");
        }
        let is_timeout = matches!(error, ToolError::Egress(toolgate_security::EgressError::Timeout));
        match retry::has_failed(&error) {
            Some(true) if has_all_its_time || !is_timeout => permit.failed(now),
            Some(false) => permit.succeeded(now),
            Some(true) | None => drop(permit),
        }
        match retry::verdict(self.side_effects, &error) {
            Verdict::Again(reason) => Next::Again(reason, error.record()),
            Verdict::Final => Next::Ended(Err(Failure { error: error.record(), is_upstream_down: false })),
            Verdict::Unknown => Next::Ended(Err(unknown(&error.record().detail))),
        }
    }

    /// Whoever else was asked may answer the next time; our own work would take as long again.
    fn timed_out(&self, time: Duration, asks_somebody: bool) -> Next {
        let detail = format!("no answer within {} ms", time.as_millis());
        let error = problem("timeout", "The tool did not answer in time", &detail);
        if self.side_effects == SideEffects::Effectful {
            Next::Ended(Err(unknown(&detail)))
        } else if asks_somebody {
            Next::Again("timeout", error)
        } else {
            Next::Ended(Err(Failure { error, is_upstream_down: false }))
        }
    }

    /// Waits and puts the next attempt on record; `None` when there is no attempt or no time left for one.
    async fn again(&self, held: &mut Held, attempt: u32, reason: &'static str) -> Result<Option<u32>, Abandoned> {
        let retry = &self.contract.retry;
        let dice = self.context.environment.clock.new_id().as_u64_pair().1;
        let pause = retry::pause(retry, attempt, dice);
        if attempt >= retry.max_attempts || Instant::now() + pause >= self.end {
            return Ok(None);
        }
        if !self.sleep(pause).await {
            // Another worker begins again, unless it could not know that nothing has happened.
            return if self.side_effects == SideEffects::Effectful { Ok(None) } else { Err(Abandoned::Shutdown) };
        }
        loop {
            let (worker, reason) = (self.context.name.clone(), reason.to_owned());
            let event = match held.call.decide(Command::Retry { worker, reason, max_attempts: retry.max_attempts }) {
                Ok(event) => event,
                Err(tool_call::Error::AttemptsExhausted { .. } | tool_call::Error::AlreadyFinished(_)) => return Ok(None),
                Err(_) => return Err(Abandoned::ClaimLost),
            };
            match held.append_claim(self.context, event).await {
                Ok(()) => {
                    self.context.metrics.retried(self.contract.name);
                    crash::point("worker.retried");
                    return Ok(Some(held.call.attempts));
                }
                Err(Abandoned::Append(AppendError::Conflict)) => {
                    held.reload_until_answered(self.context).await?;
                    if held.call.attempts > attempt {
                        return Err(Abandoned::ClaimLost);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether it slept to the end, and was not told to stop.
    async fn sleep(&self, pause: Duration) -> bool {
        self.context.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }
}

/// Of an effect that may have happened, the truth is that nobody knows.
pub fn unknown(detail: &str) -> Failure {
    let detail = format!("{detail}; whether it took effect is not known, and it is not run again");
    let error = problem("outcome-unknown", "The call may have taken effect", &detail);
    Failure { error, is_upstream_down: false }
}
