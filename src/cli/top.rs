//! `pointsman top`: the terminal, the keyboard and the daemon around [`crate::top`].
//!
//! | Thread | Does |
//! |---|---|
//! | main | takes what happens, one by one, and draws |
//! | keyboard | waits for keys |
//! | daemon | asks it on time, and waits for signals |
//!
//! So neither a daemon that hangs nor megabytes of JSON keep a key waiting.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use ratatui::crossterm::terminal::disable_raw_mode;
use ratatui::layout::Size;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::args::Top as Args;
use super::{Exit, Failure, colour, runtime};
use crate::control::client;
use crate::control::explain::Explanation;
use crate::control::latencies::Latencies;
use crate::control::status::Status;
use crate::events::Event;
use crate::top::{App, Ask, Input, draw};

/// So much may wait for a terminal that is slower than what happens; the rest is dropped.
const MOST_WAITING: usize = 256;
/// A terminal gets so long to take what is on its way when the end has come.
const PATIENCE: Duration = Duration::from_secs(2);
/// The age of the last answer is shown this exactly.
const TICK: Duration = Duration::from_secs(1);

pub(super) fn top(args: Args) -> Result<Exit, Failure> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let message = "`top` needs a terminal for its keys and its screen; \
                       for a pipe or a file there is `pointsman status --watch`";
        return Err(Failure { exit: Exit::Usage, message: message.to_owned() });
    }
    let failed = |error| Failure::text(format!("cannot use this terminal: {error}"));
    let runtime = runtime()?;
    let (sender, inputs) = sync_channel(MOST_WAITING);
    let (ask, asked) = watch::channel(None);
    let _screen = Screen;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let keys = Sender(sender.clone());
    thread::Builder::new()
        .name("keyboard".into())
        .spawn(move || keyboard(&keys))
        .map_err(failed)?;
    let answers = Sender(sender);
    let daemon = move || {
        runtime.block_on(async {
            tokio::select! {
                () = poll(&args, asked, &answers) => {}
                _ = ending() => {}
            }
            answers.send(Input::End);
            tokio::time::sleep(PATIENCE).await;
        });
        // The main thread hangs on a terminal that takes nothing, and so would a farewell.
        let _ = disable_raw_mode();
        std::process::exit(Exit::Failed as i32);
    };
    thread::Builder::new().name("daemon".into()).spawn(daemon).map_err(failed)?;
    let size = terminal.size().map_err(failed)?;
    show(App::new(size, colour(&io::stdout())), &mut terminal, &inputs, &ask).map_err(failed)?;
    Ok(Exit::Done)
}

/// Gives the terminal back however this ends.
struct Screen;

impl Drop for Screen {
    fn drop(&mut self) {
        // A panic has done so before its message, which a second time would hide. A terminal that
        // is gone needs nothing.
        if !thread::panicking() {
            let _ = ratatui::try_restore();
        }
    }
}

/// Where a thread reports to. Its end, also by a panic, is the end of it all.
struct Sender(SyncSender<Input>);

impl Sender {
    fn send(&self, input: Input) {
        let _ = self.0.try_send(input);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.0.send(Input::End);
    }
}

/// Takes everything that has happened, then draws once.
#[expect(clippy::disallowed_methods, reason = "the shell's clock: how old an answer is")]
fn show(
    mut app: App,
    terminal: &mut DefaultTerminal,
    inputs: &Receiver<Input>,
    ask: &watch::Sender<Option<Ask>>,
) -> io::Result<()> {
    let start = Instant::now();
    while !app.has_ended() {
        if app.take_stale_screen() {
            terminal.clear()?;
        }
        terminal.draw(|frame| draw(&app, frame))?;
        let first = match inputs.recv_timeout(TICK) {
            Ok(input) => input,
            Err(RecvTimeoutError::Timeout) => Input::Tick,
            Err(RecvTimeoutError::Disconnected) => Input::End,
        };
        for input in std::iter::once(first).chain(inputs.try_iter()) {
            app.update(input, start.elapsed());
        }
        ask.send_if_modified(|now| {
            let wanted = app.ask();
            let is_other = *now != wanted;
            *now = wanted;
            is_other
        });
    }
    Ok(())
}

/// Ends when the terminal does.
fn keyboard(inputs: &Sender) {
    while let Ok(read) = event::read() {
        match read {
            event::Event::Key(key) => inputs.send(Input::Key(key)),
            event::Event::Resize(width, height) => {
                inputs.send(Input::Resized(Size { width, height }))
            }
            _ => {}
        }
    }
}

/// Asks for the status on time, and for what else is wanted at once and then as often.
async fn poll(args: &Args, mut asked: watch::Receiver<Option<Ask>>, inputs: &Sender) {
    let socket = &args.socket.socket;
    let mut recalled = false;
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => match client::get::<Status>(socket, "/v1/status").await {
                Ok(status) => {
                    inputs.send(Input::Status(Box::new(status)));
                    if !std::mem::replace(&mut recalled, true) {
                        // The curves begin with what came before; they grow without it too.
                        let before = client::get::<Vec<Latencies>>(socket, "/v1/latencies").await;
                        inputs.send(Input::Latencies(before.unwrap_or_default()));
                    }
                }
                Err(error) => inputs.send(Input::NoAnswer(error.to_string())),
            },
            changed = asked.changed() => if changed.is_err() {
                return;
            },
        }
        let wanted = asked.borrow_and_update().clone();
        match wanted {
            None => {}
            Some(Ask::Explanation(question)) => {
                let answer = client::get::<Explanation>(socket, &question.resource()).await;
                let answer = answer.map(Box::new).map_err(|error| error.to_string());
                inputs.send(Input::Explained(question, answer));
            }
            Some(Ask::Events) => {
                let answer = client::get::<Vec<Event>>(socket, "/v1/events").await;
                inputs.send(Input::Events(answer.map_err(|error| error.to_string())));
            }
        }
    }
}

/// Waits for somebody who wants it to end.
async fn ending() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
