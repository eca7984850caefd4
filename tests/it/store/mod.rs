//! The log, against a real nats-server.

mod append;
mod framework;
mod revocations;
mod strangers;
