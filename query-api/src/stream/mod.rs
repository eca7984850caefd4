//! The live side: audit rows as CloudEvents, fanned out to subscribers.

mod client;
mod cloud_event;
mod feed;
mod frames;
mod place;
mod standing;

pub(crate) use client::{Client, ClientFilter};
pub(crate) use cloud_event::CloudEvent;
pub(crate) use feed::Feeds;
pub(crate) use frames::{Resume, frames};
pub(crate) use standing::{Lost, Standing};
