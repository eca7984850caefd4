//! The harness: start an application, talk to it, wait for what it does.

mod child;
mod client;
mod instance;
mod load;
mod log;
mod raw;
mod services;
mod sse;
mod stack;
mod test_app;
mod token;
mod wait;

pub use child::{Child, Role};
pub use client::{Answer, Client, send, task, task_titled};
pub use load::post_mixed;
pub use log::{publish_raw, request};
pub use raw::send_raw;
pub use sse::{Frame, Sse};
pub use stack::{Stack, TableOwner};
pub use test_app::TestApp;
pub use token::{Tenant, Token};
pub use wait::{eventually, wait_until, wait_until_count};
