//! How to reach PostgreSQL and NATS, whoever started them.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};
use toolgate_store::{Log, LogError, LogOptions, Login, TlsFiles, User};

use super::{DataDir, Error, Nats, Postgres, PostgresRole, data_dir::write_private};
use crate::{master_keys, settings::Settings};

const ENV_FILE: &str = "env";

/// One URL per login, passwords included.
#[derive(Clone, Debug)]
pub struct Connections {
    /// The NATS server, as the operator.
    pub nats: SecretString,
    /// The NATS server as those roles that have a login of their own; the others are the operator.
    pub nats_roles: HashMap<User, SecretString>,
    /// Certificates for NATS.
    pub nats_tls: TlsFiles,
    /// The owner of the schema.
    pub owner: SecretString,
    /// Reads, under row-level security.
    pub reader: SecretString,
    /// Writes read models, under row-level security.
    pub projector: SecretString,
}

/// The URLs of one database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    owner: SecretString,
    reader: SecretString,
    projector: SecretString,
}

/// The logins of one NATS server.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    operator: SecretString,
    roles: HashMap<User, SecretString>,
    tls: TlsFiles,
}

/// What the settings name; the rest has to be started.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub database: Option<Database>,
    pub broker: Option<Broker>,
}

impl Connections {
    /// What one role of the gateway needs, and no more: one login to NATS and at most one to the database. They come from
    /// `settings`, else from the `toolgate up` that is running in the data directory.
    ///
    /// # Errors
    /// When neither names a service that is needed.
    pub fn for_role(settings: &Settings, user: User, login: Option<PostgresRole>) -> Result<Self, Error> {
        let running = |variable| Self::of_running(&settings.data_dir, variable);
        let tls = settings.nats_tls();
        let broker = match (settings.nats_url_of(user), &settings.nats_url) {
            (Some(own), _) => Broker::one_login(own.clone(), Some(user), tls),
            (None, Some(operator)) => Broker::one_login(operator.clone(), None, tls),
            (None, None) => running("NATS_URL")?.broker().only(user),
        };
        let Some(login) = login else {
            return Ok(Self::new(Database::one_login(SecretString::default()), broker));
        };
        let (own, variable) = match login {
            PostgresRole::Reader => (&settings.database_url_reader, "DATABASE_URL_READER"),
            PostgresRole::Projector => (&settings.database_url_projector, "DATABASE_URL_PROJECTOR"),
            PostgresRole::Owner | PostgresRole::Superuser => (&settings.database_url, "DATABASE_URL"),
        };
        let derived = || settings.database_url.as_ref().map(|owner| with_role(owner, login));
        match own.clone().or_else(derived) {
            Some(url) => Ok(Self::new(Database::one_login(url), broker)),
            None => Ok(Self::new(running(variable)?.database().only(login), broker)),
        }
    }

    /// The owner's URL alone, from `settings`, else from a running toolgate.
    ///
    /// # Errors
    /// When neither the settings nor a running toolgate name a database.
    pub fn resolve_owner(settings: &Settings) -> Result<SecretString, Error> {
        match &settings.database_url {
            Some(url) => Ok(url.clone()),
            None => Ok(Self::of_running(&settings.data_dir, "DATABASE_URL")?.owner),
        }
    }

    /// The operator's login to NATS alone: from `settings`, else from the running toolgate whose database is meant as well.
    pub fn resolve_operator(settings: &Settings) -> Option<Self> {
        let broker = match &settings.nats_url {
            Some(operator) => Broker::one_login(operator.clone(), None, settings.nats_tls()),
            None if settings.database_url.is_none() => Self::of_running(&settings.data_dir, "NATS_URL").ok()?.broker(),
            None => return None,
        };
        Some(Self::new(Database::one_login(SecretString::default()), broker))
    }

    /// Makes what is missing of the log, as the operator.
    ///
    /// # Errors
    /// [`LogError`]
    pub async fn set_up_log(&self, settings: &Settings) -> Result<(), LogError> {
        Log::set_up(self.operator(), &log_options(settings)?).await.map(drop)
    }

    /// Opens the log as a role. With a login of its own it opens what exists; as the operator it also makes what is missing.
    ///
    /// # Errors
    /// [`LogError`]
    pub async fn open_log(&self, user: User, settings: &Settings) -> Result<Log, LogError> {
        let options = log_options(settings)?;
        match self.nats_roles.get(&user) {
            Some(url) => Log::connect(self.login(url, user), &options).await,
            None => Log::set_up(self.login(&self.nats, user), &options).await,
        }
    }

    /// Opens a log that has been set up, as the operator, who need not have the master keys for what reads no content.
    ///
    /// # Errors
    /// [`LogError`]
    pub async fn open_log_as_operator(&self, settings: &Settings) -> Result<Log, LogError> {
        let options = log_options(settings).unwrap_or_else(|_| without_keys(settings));
        Log::connect(self.operator(), &options).await
    }

    /// The operator's login to NATS.
    pub fn operator(&self) -> Login<'_> {
        self.login(&self.nats, User::Operator)
    }

    fn login<'a>(&'a self, url: &'a SecretString, user: User) -> Login<'a> {
        Login { url: url.expose_secret(), user, tls: &self.nats_tls }
    }

    /// The HTTP address of the `toolgate up` that is running in the data directory.
    ///
    /// # Errors
    /// When none is running there.
    pub fn running_url(data_dir: &Path) -> Result<String, Error> {
        let text = Self::env_of_running(data_dir)?;
        let url = text.lines().find_map(|line| line.strip_prefix("TOOLGATE_URL=")).map(unquote);
        url.ok_or_else(|| not_running("TOOLGATE_URL", data_dir))
    }

    /// The variables with the roles' own logins to NATS.
    pub(crate) fn nats_variables(&self) -> impl Iterator<Item = (&'static str, &str)> {
        User::ROLES.into_iter().filter_map(|user| Some((variable(user), self.nats_roles.get(&user)?.expose_secret())))
    }

    /// Writes the URLs as shell lines that only this user may read.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_env(&self, data: &DataDir, url: &str) -> Result<EnvFile, Error> {
        let path = data.path().join(ENV_FILE);
        let mut lines = vec![
            ("TOOLGATE_URL", url),
            ("NATS_URL", self.nats.expose_secret()),
            ("DATABASE_URL", self.owner.expose_secret()),
            ("DATABASE_URL_READER", self.reader.expose_secret()),
            ("DATABASE_URL_PROJECTOR", self.projector.expose_secret()),
        ];
        lines.extend(self.nats_variables());
        let text: String = lines.iter().map(|(key, value)| format!("{key}={}\n", quote(value))).collect();
        write_private(&path, text.as_bytes())?;
        Ok(EnvFile(path))
    }

    pub(crate) fn given(settings: &Settings) -> Result<Given, Error> {
        let reader = settings.database_url_reader.clone();
        let projector = settings.database_url_projector.clone();
        let database = match &settings.database_url {
            Some(owner) => Some(Database {
                reader: reader.unwrap_or_else(|| with_role(owner, PostgresRole::Reader)),
                projector: projector.unwrap_or_else(|| with_role(owner, PostgresRole::Projector)),
                owner: owner.clone(),
            }),
            None if reader.is_some() || projector.is_some() => {
                return Err(Error::Connections(
                    "DATABASE_URL_READER and DATABASE_URL_PROJECTOR need DATABASE_URL beside them".to_owned(),
                ));
            }
            None => None,
        };
        let roles: HashMap<_, _> =
            User::ROLES.into_iter().filter_map(|user| Some((user, settings.nats_url_of(user)?.clone()))).collect();
        let broker = match &settings.nats_url {
            Some(operator) => Some(Broker { operator: operator.clone(), roles, tls: settings.nats_tls() }),
            None if roles.is_empty() => None,
            None => return Err(Error::Connections("NATS_URL_WORKER and its like need NATS_URL beside them".to_owned())),
        };
        Ok(Given { database, broker })
    }

    pub(crate) fn new(database: Database, broker: Broker) -> Self {
        let Broker { operator, roles, tls } = broker;
        let Database { owner, reader, projector } = database;
        Self { nats: operator, nats_roles: roles, nats_tls: tls, owner, reader, projector }
    }

    fn broker(self) -> Broker {
        Broker { operator: self.nats, roles: self.nats_roles, tls: self.nats_tls }
    }

    fn database(self) -> Database {
        Database { owner: self.owner, reader: self.reader, projector: self.projector }
    }

    /// What the toolgate that holds `data_dir` wrote. A file left over from one that was killed does not count.
    fn of_running(data_dir: &Path, missing: &str) -> Result<Self, Error> {
        let text = Self::env_of_running(data_dir)?;
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| SecretString::from(unquote(value)))
        };
        let all = || {
            Some(Self {
                nats: value("NATS_URL")?,
                nats_roles: User::ROLES.into_iter().filter_map(|user| Some((user, value(variable(user))?))).collect(),
                nats_tls: TlsFiles::default(),
                owner: value("DATABASE_URL")?,
                reader: value("DATABASE_URL_READER")?,
                projector: value("DATABASE_URL_PROJECTOR")?,
            })
        };
        all().ok_or_else(|| not_running(missing, data_dir))
    }

    /// What the toolgate that holds `data_dir` wrote, empty when none does.
    fn env_of_running(data_dir: &Path) -> Result<String, Error> {
        let path = data_dir.join(ENV_FILE);
        if DataDir::is_in_use(data_dir) && path.exists() {
            fs::read_to_string(&path).map_err(Error::file("read", &path))
        } else {
            Ok(String::new())
        }
    }
}

fn log_options(settings: &Settings) -> Result<LogOptions, LogError> {
    Ok(LogOptions { master_keys: Some(master_keys::load(settings)?), ..without_keys(settings) })
}

fn without_keys(settings: &Settings) -> LogOptions {
    LogOptions { partitions: settings.partitions, max_bytes: settings.log_max_bytes, replicas: 1, master_keys: None }
}

/// The variable with a role's own URL.
fn variable(user: User) -> &'static str {
    match user {
        User::Operator => "NATS_URL",
        User::CommandApi => "NATS_URL_COMMAND_API",
        User::QueryApi => "NATS_URL_QUERY_API",
        User::Worker => "NATS_URL_WORKER",
        User::Projector => "NATS_URL_PROJECTOR",
    }
}

fn not_running(missing: &str, data_dir: &Path) -> Error {
    Error::Connections(format!(
        "{missing} is not set and no `toolgate up` is running in {}; set it, or start toolgate first",
        data_dir.display()
    ))
}

impl Broker {
    /// For a process that uses one login, a role's own or the operator's.
    fn one_login(url: SecretString, role: Option<User>, tls: TlsFiles) -> Self {
        let roles = role.map(|role| (role, url.clone())).into_iter().collect();
        Self { operator: url, roles, tls }
    }

    /// The same for a role of many.
    fn only(mut self, role: User) -> Self {
        match self.roles.remove(&role) {
            Some(own) => Self::one_login(own, Some(role), self.tls),
            None => Self { roles: HashMap::new(), ..self },
        }
    }

    /// The logins to an account of a server that toolgate started.
    pub fn private(nats: &Nats, account: usize) -> Self {
        let url = |user| nats.url_for(account, user);
        Self {
            operator: url(User::Operator),
            roles: User::ROLES.into_iter().map(|user| (user, url(user))).collect(),
            tls: TlsFiles::default(),
        }
    }
}

impl Database {
    /// For a process that uses one login whatever it does.
    fn one_login(url: SecretString) -> Self {
        Self { owner: url.clone(), reader: url.clone(), projector: url }
    }

    /// The same for a login of many.
    fn only(self, login: PostgresRole) -> Self {
        Self::one_login(match login {
            PostgresRole::Reader => self.reader,
            PostgresRole::Projector => self.projector,
            PostgresRole::Owner | PostgresRole::Superuser => self.owner,
        })
    }

    /// The logins of a server that toolgate started.
    pub fn private(postgres: &Postgres) -> Self {
        Self { owner: postgres.owner_url(), reader: postgres.reader_url(), projector: postgres.projector_url() }
    }
}

/// The file with the shell lines; removed when dropped.
#[derive(Debug)]
pub struct EnvFile(PathBuf);

impl Drop for EnvFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// The same login, acting as another role from the start of the session.
fn with_role(url: &SecretString, role: PostgresRole) -> SecretString {
    let url = url.expose_secret();
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}options=-c%20role%3D{}", role.login()).into()
}

/// Single quotes where the shell would otherwise read more into a value than its text.
fn quote(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_./:@=%-?".contains(c);
    if value.chars().all(is_plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}

fn unquote(value: &str) -> String {
    value
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''))
        .map_or_else(|| value.to_owned(), |inner| inner.replace(r"'\''", "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_added_to_any_url() {
        let added = |url: &str| with_role(&url.into(), PostgresRole::Reader).expose_secret().to_owned();
        assert_eq!(added("postgres://a@h/d"), "postgres://a@h/d?options=-c%20role%3Dtoolgate_reader");
        assert_eq!(
            added("postgres://a@h/d?sslmode=require"),
            "postgres://a@h/d?sslmode=require&options=-c%20role%3Dtoolgate_reader"
        );
    }

    #[test]
    fn quoting_survives_the_shell() {
        for value in ["postgres://a:b@h:1/d?x=y", "a&b", "it's $HOME", ""] {
            assert_eq!(unquote(&quote(value)), value);
            let script = format!("V={}; printf %s \"$V\"", quote(value));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }
}
