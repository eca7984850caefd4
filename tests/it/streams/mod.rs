//! What the event streams do under load: safe mode, and many clients who come and go.

mod many;
mod outage;
mod safe_mode;
