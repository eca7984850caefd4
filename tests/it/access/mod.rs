//! What each login to NATS and PostgreSQL may do, and how the connections are protected.

mod deployment;
mod nats;
mod postgres;
mod set_up;
mod tls;
