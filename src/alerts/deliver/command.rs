//! A program of the operator's: the text on standard input, the rest in the environment.

use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use crate::alerts::message::{Message, Status};
use crate::privileges;

/// The user `nobody` and its group, who runs it when the daemon is root.
const NOBODY: u32 = 65_534;
/// As much of what it complains as an error quotes, in bytes.
const QUOTED: u64 = 400;

pub(super) async fn send(words: &[String], message: &Message) -> Result<(), String> {
    let Some((program, args)) = words.split_first() else { return Err("no command".to_owned()) };
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("POINTSMAN_SUBJECT", &message.subject)
        .env("POINTSMAN_DIRECTOR", &message.director)
        .env("POINTSMAN_AT", &message.at)
        .env(
            "POINTSMAN_STATUS",
            match message.status {
                Status::Firing => "firing",
                Status::Resolved => "resolved",
            },
        )
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let started = privileges::with(privileges::OF_PROGRAMS, || command.spawn());
    let mut child = started.map_err(|error| match error.kind() {
        // Of the daemon that was started without a command in the alerts.
        io::ErrorKind::PermissionDenied => format!(
            "cannot start {program}: {error}; `nobody` must be able to run it, and the daemon must \
             be restarted when the first command comes to the alerts"
        ),
        _ => format!("cannot start {program}: {error}"),
    })?;
    let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
    let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
    let written = async {
        if let Some(mut stdin) = stdin {
            // One that does not read is not asked to.
            let _ = stdin.write_all(message.text.as_bytes()).await;
        }
    };
    let complained = async {
        let mut text = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(QUOTED).read_to_end(&mut text).await;
        }
        String::from_utf8_lossy(&text).trim().replace(char::is_control, " ")
    };
    let ended = async {
        tokio::select! {
            status = child.wait() => status,
            // What it leaves open when it ends is not waited for.
            status = async { written.await; std::future::pending().await } => status,
        }
    };
    let (status, said) = tokio::join!(ended, with_grace(complained));
    // Its number may mean somebody else from now on.
    group.0 = None;
    let status = status.map_err(|error| format!("cannot wait for {program}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let how = how(status);
    Err(if said.is_empty() { how } else { format!("{how}: {said}") })
}

/// Ends a program with all that it started, unless it has ended by itself.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// What a program complains is worth little patience: its children may keep the pipe open.
async fn with_grace(complained: impl Future<Output = String>) -> String {
    const GRACE: std::time::Duration = std::time::Duration::from_secs(5);
    tokio::time::timeout(GRACE, complained).await.unwrap_or_default()
}

fn how(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit status {code}"),
        (_, Some(signal)) => format!("ended by signal {signal}"),
        _ => "ended in an unknown way".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).into()
    }

    #[tokio::test]
    async fn it_gets_text_and_facts_and_fails_in_words() {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let path = directory.path().join("told");
        std::fs::write(&path, "").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode;
        std::fs::set_permissions(directory.path(), mode(0o777)).unwrap();
        std::fs::set_permissions(&path, mode(0o666)).unwrap();
        let message = Message::test("lvs1", "now");
        let script = format!("echo \"$POINTSMAN_SUBJECT\" > {0}; cat >> {0}", path.display());
        assert_eq!(send(&shell(&script), &message).await, Ok(()));
        let told = std::fs::read_to_string(&path).unwrap();
        assert!(told.starts_with("[pointsman lvs1] test\nThis is a test"), "{told}");

        for (script, expected) in [
            ("echo no paper >&2; exit 3", "ended with exit status 3: no paper"),
            ("kill -9 $$", "ended by signal 9"),
        ] {
            assert_eq!(send(&shell(script), &message).await, Err(expected.to_owned()));
        }
        let missing = send(&["/nonexistent".to_owned()], &message).await.unwrap_err();
        assert!(missing.starts_with("cannot start /nonexistent: No such file"), "{missing}");
    }
}
