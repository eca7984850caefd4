mod get;
mod range;
