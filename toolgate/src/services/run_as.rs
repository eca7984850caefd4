//! The user that runs PostgreSQL when toolgate itself runs as root.

use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use super::Error;

/// An unprivileged user to switch to.
#[derive(Clone, Debug)]
pub(crate) struct RunAs {
    pub user: &'static str,
    pub uid: u32,
    pub gid: u32,
}

impl RunAs {
    /// The user to switch to, or `None` when this process is not root.
    pub fn detect() -> Result<Option<Self>, Error> {
        if id(&["-u"]) != Some(0) {
            return Ok(None);
        }
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|user| Some(Self { user, uid: id(&["-u", user])?, gid: id(&["-g", user])? }))
            .map(Some)
            .ok_or(Error::NoUnprivilegedUser)
    }

    /// Whether this user can enter `directory`; asked of the system, so that access lists count too.
    pub fn can_enter(&self, directory: &Path) -> bool {
        let mut test = Command::new("sh");
        test.args(["-c", "cd -- \"$1\"", "sh"]).arg(directory).current_dir("/");
        succeeds(self.apply(&mut test))
    }

    /// Makes `command` run as this user.
    pub fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.uid(self.uid).gid(self.gid)
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn id(args: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(args).stderr(Stdio::null()).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
