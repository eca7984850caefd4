use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, date_time_ymd};
use toolgate::services::{DataDir, ServerTls};
use toolgate_store::Clock;

/// A certificate authority of one test, whose files disappear with it.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: DataDir,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = named(Vec::new(), &format!("authority {}", Clock::system().new_id()));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, directory: DataDir::temporary().unwrap() };
        fs::write(authority.ca(), authority.issuer.pem()).unwrap();
        authority
    }

    /// Its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for a name, with its key.
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        self.write(name, named(vec![name.to_owned()], name))
    }

    /// One whose time is over.
    pub fn issue_expired(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = named(vec![name.to_owned()], name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.write(&format!("{name}-expired"), params)
    }

    fn write(&self, file: &str, params: CertificateParams) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |extension| self.directory.path().join(format!("{file}.{extension}"));
        fs::write(path("pem"), certificate.pem()).unwrap();
        fs::write(path("key"), key.serialize_pem()).unwrap();
        (path("pem"), path("key"))
    }
}

/// Without names of their own, an authority and what it signs would be taken for one another.
fn named(hosts: Vec<String>, common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// What a server needs to show a certificate.
pub fn server_tls((certificate, key): (PathBuf, PathBuf), client_ca: Option<&Authority>) -> ServerTls {
    ServerTls { certificate, key, client_ca: client_ca.map(Authority::ca) }
}
