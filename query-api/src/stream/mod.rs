//! The live side: audit rows as CloudEvents, fanned out to subscribers.

mod client;
mod course;
mod feed;
mod mode;
mod rendered;
mod replay;
mod tail;

pub(crate) use client::{Client, ClientFilter};
pub(crate) use feed::Feeds;
pub(crate) use mode::Modes;
pub use mode::SafeMode;
pub(crate) use replay::{Part, Replay, Speed};
