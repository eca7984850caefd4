//! The log, against a real nats-server.

mod append;
mod framework;
mod quota;
mod read_since;
mod revocations;
mod strangers;
