use std::borrow::Borrow;

use toolgate_events::Envelope;
use toolgate_store::{KeyError, Keyring, Received};

/// A sealed event as it was said, or why that is not known; `None` for what is not sealed.
pub type Opened = Option<Result<Envelope, String>>;

/// The events that are sealed, as they were said, in the order of `messages`. One whose bytes were changed is parked; where a key is
/// missing, nothing goes on, because what is left out now would be missing for ever.
///
/// # Errors
/// [`KeyError`]
pub async fn open<M: Borrow<Received>>(keys: &Keyring, messages: &[M]) -> Result<Vec<Opened>, KeyError> {
    let mut opened = Vec::with_capacity(messages.len());
    for message in messages.iter().map(Borrow::borrow) {
        let sealed = Envelope::decode(&message.payload).ok().filter(|envelope| !envelope.sealed_members().is_empty());
        opened.push(match sealed {
            None => None,
            Some(envelope) => match keys.open(envelope).await {
                Ok(envelope) => Some(Ok(envelope)),
                Err(KeyError::Broken(reason)) => Some(Err(reason)),
                Err(error) => return Err(error),
            },
        });
    }
    Ok(opened)
}

pub fn as_ref(opened: &Opened) -> Option<Result<&Envelope, String>> {
    opened.as_ref().map(|opened| opened.as_ref().map_err(Clone::clone))
}
