mod get;
mod get_resumed;
