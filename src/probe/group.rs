//! A running program with everything it has started in its process group.
//!
//! Whatever becomes of the probe, the group is ended and the program reaped: by itself, at the
//! deadline with a moment to clean up, or at once when the daemon ends.

use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// From the request to end to the end by force.
const GRACE: Duration = Duration::from_millis(200);

/// A program that has not been reaped yet. Dropped, it is asked to end, and made to after
/// [`GRACE`]; nobody waits for that.
#[derive(Debug)]
pub(super) struct Group {
    leader: Option<Leader>,
    runtime: Handle,
}

impl Group {
    /// Of a program that was started as the leader of a process group. Blocks when it fails. The
    /// read end of its output is kept, so that it does not break while it cleans up.
    pub(super) fn of(mut child: Child, output: PipeReader, runtime: Handle) -> io::Result<Self> {
        let pid = Pid::from_child(&child);
        let _inside = runtime.enter();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from);
        #[expect(deprecated, reason = "sound for an OwnedFd, and what replaces it is unsafe")]
        let watch = |pidfd| AsyncFd::with_interest(pidfd, Interest::READABLE);
        match pidfd.and_then(watch) {
            Ok(pidfd) => {
                let leader = Some(Leader { child, pid, pidfd, _output: output, reaped: false });
                Ok(Self { leader, runtime: runtime.clone() })
            }
            Err(error) => {
                kill(pid, Signal::KILL);
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Waits for the end of the program; what it has left behind in its group is ended with it.
    /// Cancel-safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        match &mut self.leader {
            Some(leader) => leader.ended().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(leader) = self.leader.take().filter(|leader| !leader.reaped) else { return };
        self.runtime.spawn(leader.end());
    }
}

/// The program itself. Dropped before it is reaped, its group is killed.
#[derive(Debug)]
struct Leader {
    child: Child,
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    _output: PipeReader,
    reaped: bool,
}

impl Leader {
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        loop {
            let mut ready = self.pidfd.readable().await?;
            // Left to be reaped; until then its number means nobody else.
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if waitid(WaitId::Pid(self.pid), look)?.is_none() {
                ready.clear_ready();
                continue;
            }
            kill(self.pid, Signal::KILL);
            self.reaped = true;
            return self.child.wait();
        }
    }

    async fn end(mut self) {
        kill(self.pid, Signal::TERM);
        if timeout(GRACE, self.ended()).await.is_err() {
            kill(self.pid, Signal::KILL);
            // One that the kernel cannot end is waited for as long as that takes.
            let _ = self.ended().await;
        }
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        if !self.reaped {
            kill(self.pid, Signal::KILL);
            let _ = self.child.try_wait();
        }
    }
}

/// A group that is not there any more needs nothing.
fn kill(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}
