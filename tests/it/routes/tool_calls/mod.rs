mod cancel;
mod events;
mod get;
mod http_request;
mod list;
mod post;
mod post_refused;
mod post_tokens;
mod post_unavailable;

pub use post_refused::assert_nothing_happened;
