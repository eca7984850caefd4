//! Removes a temporary data directory after toolgate, however toolgate ended.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::Mutex,
};

use super::{Error, guard::reap};

/// Removes a temporary directory once toolgate and the services in it have ended.
#[derive(Debug)]
pub(crate) struct Janitor {
    child: Option<Child>,
    pipe: Mutex<Option<ChildStdin>>,
}

/// Reads process groups to wait for until the pipe closes, waits at most 30 s for each, then removes the directory.
const JANITOR: &str = r#"
groups=
while read -r group; do groups="$groups $group"; done
for group in $groups; do
    left=300
    while [ "$left" -gt 0 ] && kill -0 -- "-$group"; do
        sleep 0.1
        left=$((left - 1))
    done
done
left=50
while [ "$left" -gt 0 ] && [ -e "$1" ]; do
    rm -rf -- "$1" && exit 0
    sleep 0.1
    left=$((left - 1))
done
"#;

impl Janitor {
    pub fn start(directory: &Path) -> Result<Self, Error> {
        let mut child = Command::new("sh")
            .args(["-c", JANITOR, "sh"])
            .arg(directory)
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::file("start", "sh"))?;
        let pipe = child.stdin.take();
        Ok(Self { child: Some(child), pipe: Mutex::new(pipe) })
    }

    /// Waits for this process group before removing the directory.
    pub fn outlive(&self, group: u32) {
        let written: io::Result<()> = match self.pipe.lock() {
            Ok(mut pipe) => pipe.as_mut().map_or(Ok(()), |pipe| writeln!(pipe, "{group}")),
            Err(_) => Ok(()),
        };
        // Without the janitor the directory stays behind; nothing else depends on it.
        drop(written);
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        if let Ok(mut pipe) = self.pipe.lock() {
            *pipe = None;
        }
        reap(self.child.take());
    }
}
