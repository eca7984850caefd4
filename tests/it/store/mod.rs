//! The log, against a real nats-server.

mod append;
mod framework;
mod quota;
mod revocations;
mod strangers;
