//! The integration suite, against a real PostgreSQL and a real nats-server that it starts and stops itself.
//!
//! `routes/` mirrors the URLs; the other folders and files are named after what they put to the test. `app/` is the harness: one
//! pair of services for the whole run, and for every test a database and a log of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod app;
mod archive;
mod as_of;
mod attacks;
mod audit;
mod basehub;
mod census;
mod contracts;
mod erasure;
mod faults;
mod flow;
mod golden;
mod idempotency;
mod knowledge;
mod limits;
mod mcp;
mod openapi;
mod outbound;
mod policy;
mod positions;
mod projector;
mod refusals;
mod render;
mod replay;
mod resilience;
mod routes;
mod secrets;
mod store;
mod streams;
mod tasks;
mod tenancy;
mod vector;
mod webhooks;
mod worker;
