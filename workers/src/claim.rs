//! A claim in the log, before anything happens: so that of several workers one runs a call, and so that it is known afterwards
//! that a call may have taken effect.

use toolgate_events::{
    Status,
    tool_call::{self, Command},
    tools::{Contract, SideEffects},
};
use toolgate_store::{AppendError, Delivery};

use crate::{
    call::{Abandoned, Context},
    held::Held,
};

/// What a worker may do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Run {
        attempt: u32,
    },
    /// As often as the contract allows it was begun, and never ended.
    Exhausted {
        attempt: u32,
    },
    /// An attempt of an effectful call left no outcome: nobody knows what it did.
    Unknown {
        attempt: u32,
    },
    Finished,
}

/// Only an effectful call pays for a durable claim, and any call that came again: how often a message was delivered says nothing
/// about how often it was run, since a worker may die with calls it never got to.
pub async fn claim(
    context: &Context,
    contract: &Contract,
    side_effects: SideEffects,
    delivery: &Delivery,
    held: &mut Held,
) -> Result<Claim, Abandoned> {
    let is_effectful = side_effects == SideEffects::Effectful;
    if !is_effectful && delivery.delivered == 1 {
        return Ok(Claim::Run { attempt: 1 });
    }
    loop {
        let worker = context.name.clone();
        // Before the append, which reads the call anew where the log does not tell what became of it.
        let status = held.call.status;
        let command = match status {
            // The broker gives a running call away only when its worker has been silent too long.
            Some(Status::Running) if is_effectful => return Ok(Claim::Unknown { attempt: held.call.attempts }),
            Some(Status::Running) => {
                Command::Retry { worker, reason: "worker_lost".to_owned(), max_attempts: contract.retry.max_attempts }
            }
            _ => Command::Start { worker },
        };
        let event = match held.call.decide(command) {
            Ok(event) => event,
            Err(tool_call::Error::AttemptsExhausted { .. }) => return Ok(Claim::Exhausted { attempt: held.call.attempts }),
            Err(tool_call::Error::AlreadyFinished(_)) => return Ok(Claim::Finished),
            Err(_) => return Err(Abandoned::ClaimLost),
        };
        match held.append_claim(context, event).await {
            Ok(()) => return Ok(Claim::Run { attempt: held.call.attempts }),
            Err(Abandoned::Append(AppendError::Conflict)) => {
                held.reload(context).await?;
                // Somebody claimed between our reading and our writing: they run it.
                if held.call.status == Some(Status::Running) && status != Some(Status::Running) {
                    return Err(Abandoned::ClaimLost);
                }
            }
            Err(error) => return Err(error),
        }
    }
}
