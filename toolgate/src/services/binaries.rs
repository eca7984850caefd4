//! Finds installed servers of a version that toolgate can use.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::run_as::RunAs;

/// A version as major and minor number, the text after them ignored.
pub(crate) type Version = (u32, u32);

/// A server that answered with its version.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub path: PathBuf,
    pub version: Version,
}

impl Program {
    /// Asks the server at `path` for its version, as the user that will run it.
    pub fn ask(path: PathBuf, run_as: Option<&RunAs>) -> Option<Self> {
        let mut command = Command::new(&path);
        command.arg("--version").current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = run_as {
            user.apply(&mut command);
        }
        let output = command.output().ok()?;
        let version = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { path, version })
    }
}

/// Every installed PostgreSQL server that has its initdb beside it, newest first.
pub(crate) fn installed_postgres(run_as: Option<&RunAs>) -> Vec<Program> {
    let mut places = search_path();
    for (parent, prefix, inner) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        places.extend(matching(Path::new(parent), prefix, inner));
    }
    let servers = real_paths(places, "postgres");
    let complete = servers.into_iter().filter(|server| server.with_file_name("initdb").exists());
    newest_first(complete, run_as)
}

/// Every installed nats-server, newest first.
pub(crate) fn installed_nats() -> Vec<Program> {
    let mut places = search_path();
    places.extend(["/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from));
    newest_first(real_paths(places, "nats-server").into_iter(), None)
}

/// `2.9` for a version, as it is usually written.
pub(crate) fn show((major, minor): Version) -> String {
    format!("{major}.{minor}")
}

fn newest_first(servers: impl Iterator<Item = PathBuf>, run_as: Option<&RunAs>) -> Vec<Program> {
    let mut programs: Vec<_> = servers.filter_map(|path| Program::ask(path, run_as)).collect();
    programs.sort_by_key(|program| std::cmp::Reverse(program.version));
    programs
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

/// The existing files called `name` in `places`, with links resolved so that each appears once.
fn real_paths(places: Vec<PathBuf>, name: &str) -> BTreeSet<PathBuf> {
    places.into_iter().filter_map(|place| place.join(name).canonicalize().ok()).collect()
}

fn matching(parent: &Path, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path().join(inner))
        .collect()
}

/// The first number of a `--version` line, with its minor part when there is one.
fn parse_version(text: &str) -> Option<Version> {
    let word = text.split([' ', '\n']).find_map(|word| {
        let word = word.trim_start_matches('v');
        word.starts_with(|c: char| c.is_ascii_digit()).then_some(word)
    })?;
    let mut numbers = word.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().ok());
    let major = numbers.next().flatten()?;
    Some((major, numbers.next().flatten().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_servers_print_them() {
        let cases = [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", (15, 18)),
            ("postgres (PostgreSQL) 19beta1\n", (19, 0)),
            ("nats-server: v2.15.1\n", (2, 15)),
            ("nats-server: v2.9.10\n", (2, 9)),
        ];
        for (text, version) in cases {
            assert_eq!(parse_version(text), Some(version), "{text}");
        }
        assert_eq!(parse_version("command not found"), None);
    }
}
