use std::path::PathBuf;

/// Files (PEM) with which a private server speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Lets in only clients with a certificate of this authority.
    pub client_ca: Option<PathBuf>,
}
