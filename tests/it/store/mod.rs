//! The log, against a real nats-server.

mod append;
mod framework;
mod read_since;
mod strangers;
