//! The sign of life: sent only while every loop turns.
//!
//! A heart is polled beside a loop, by the same thread. While that is inside a call that does not
//! return, such as netlink to a kernel that hangs, the heart does not beat, and systemd restarts
//! the daemon.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use super::Notifier;

/// Signs of life within the time that systemd allows.
const SIGNS: u32 = 3;

/// Feels whether a loop turns.
#[derive(Debug)]
pub struct Pulse(mpsc::Sender<oneshot::Sender<()>>);

/// Answers for a loop.
#[derive(Debug)]
pub struct Heart(mpsc::Receiver<oneshot::Sender<()>>);

/// A pulse and the heart it feels.
pub fn pulse() -> (Pulse, Heart) {
    let (feel, felt) = mpsc::channel(1);
    (Pulse(feel), Heart(felt))
}

impl Heart {
    /// The loop, with this heart beside it.
    pub async fn beat_beside<T>(mut self, work: impl Future<Output = T>) -> T {
        let beats = async {
            while let Some(beat) = self.0.recv().await {
                // Whoever felt it may have gone.
                let _ = beat.send(());
            }
            std::future::pending().await
        };
        tokio::select! {
            done = work => done,
            never = beats => never,
        }
    }
}

impl Pulse {
    /// Resolves to true once the loop has turned, to false when it has ended.
    async fn is_felt(&self) -> bool {
        let (beat, felt) = oneshot::channel();
        self.0.send(beat).await.is_ok() && felt.await.is_ok()
    }
}

/// Tells systemd that the daemon lives, after each turn of all loops, until one of them ends.
pub async fn watch(notifier: Notifier, limit: Duration, pulses: Vec<Pulse>) {
    let mut ticks = tokio::time::interval(limit / SIGNS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for pulse in &pulses {
            if !pulse.is_felt().await {
                return;
            }
        }
        notifier.alive();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::path::Path;

    use super::*;
    use crate::notify::Environment;

    const LIMIT: Duration = Duration::from_secs(30);

    fn signs(systemd: &UnixDatagram) -> usize {
        let mut buffer = [0; 64];
        let heard = std::iter::from_fn(|| systemd.recv(&mut buffer).ok());
        heard.inspect(|length| assert_eq!(*length, "WATCHDOG=1".len())).count()
    }

    fn listen(path: &Path) -> (UnixDatagram, Notifier) {
        let systemd = UnixDatagram::bind(path).unwrap();
        systemd.set_nonblocking(true).unwrap();
        let socket = Some(path.as_os_str().to_owned());
        (systemd, Notifier::new(&Environment { socket, ..Environment::default() }).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn alive_while_all_loops_turn() {
        let directory = tempfile::tempdir().unwrap();
        let (systemd, notifier) = listen(&directory.path().join("notify"));
        let ((first, heart), (second, other)) = (pulse(), pulse());
        tokio::spawn(heart.beat_beside(std::future::pending::<()>()));
        let (stop, stopped) = oneshot::channel::<()>();
        let ending = tokio::spawn(other.beat_beside(stopped));
        let watching = tokio::spawn(watch(notifier, LIMIT, vec![first, second]));
        for _ in 0..5 {
            tokio::time::sleep(LIMIT).await;
            let count = signs(&systemd);
            assert!((3..=4).contains(&count), "{count}");
        }

        stop.send(()).unwrap();
        ending.await.unwrap().unwrap();
        watching.await.unwrap();
        assert_eq!(signs(&systemd), 0, "one loop has ended");
    }

    /// The loop of the second heart is inside a call that returns when the test lets it.
    #[test]
    fn a_call_that_hangs_stops_the_signs() {
        let directory = tempfile::tempdir().unwrap();
        let (systemd, notifier) = listen(&directory.path().join("notify"));
        let ((first, heart), (second, stuck)) = (pulse(), pulse());
        let (release, kernel) = std::sync::mpsc::channel::<()>();
        let (inside, entered) = std::sync::mpsc::channel();
        let hanging = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(stuck.beat_beside(async {
                inside.send(()).unwrap();
                kernel.recv().unwrap();
            }));
        });
        entered.recv().unwrap();
        let mut clock = tokio::runtime::Builder::new_current_thread();
        let runtime = clock.enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            tokio::spawn(heart.beat_beside(std::future::pending::<()>()));
            let watching = watch(notifier, LIMIT, vec![first, second]);
            tokio::time::timeout(LIMIT * 10, watching).await.unwrap_err();
        });
        assert_eq!(signs(&systemd), 0);
        release.send(()).unwrap();
        hanging.join().unwrap();
    }
}
