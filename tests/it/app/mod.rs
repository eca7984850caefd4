//! The harness: start an application, talk to it, wait for what it does.

mod authority;
mod child;
mod client;
mod instance;
mod load;
mod log;
mod proxy;
mod raw;
mod services;
mod sse;
mod stack;
mod test_app;
mod token;
mod wait;

pub use authority::{Authority, server_tls};
pub use child::{Child, Role, free_port, leashed};
pub use client::{Answer, Client, send, task, task_titled};
pub use load::post_mixed;
pub use log::{RawNats, publish_raw, request};
pub use proxy::Proxy;
pub use raw::send_raw;
pub use sse::{Frame, Sse};
pub use stack::{PARTITIONS, Stack, TableOwner};
pub use test_app::TestApp;
pub use token::{Tenant, Token};
pub use wait::{eventually, wait_until, wait_until_count};
