mod events;
mod get;
mod list;
