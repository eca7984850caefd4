mod get;
mod replay;
