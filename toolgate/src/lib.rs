//! The toolgate command: every role of the gateway in one binary, and the private services behind `toolgate up`.

pub mod bench;
pub mod cli;
pub mod dev_issuer;
pub mod loader;
pub mod master_keys;
pub mod migrations;
pub mod roles;
pub mod secrets;
pub mod services;
pub mod settings;
