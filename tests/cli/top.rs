//! `pointsman top`, on a terminal of its own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::backend::Backend;
use crate::daemon::Daemon;
use crate::scratch::{DEADLINE, Scratch, end_of, finish, pointsman, within};

/// `pointsman top` on a pseudo-terminal, and what is to be seen there.
struct Top {
    child: Child,
    keyboard: File,
    /// The end that the program has; the terminal's settings are read there.
    terminal: OwnedFd,
    before: Termios,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Top {
    fn start(scratch: &Scratch) -> Self {
        Self::start_with(scratch, |_| {})
    }

    fn start_with(scratch: &Scratch, more: impl FnOnce(&mut Command)) -> Self {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let name = ptsname(&controller, Vec::new()).unwrap();
        let terminal = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&terminal, size).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        // In a session of its own this is its terminal, and not that of who runs the tests.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", env!("CARGO_BIN_EXE_pointsman"), "top"]);
        command.args(["--interval", "100ms", "--socket"]).arg(scratch.socket());
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command.stdin(terminal.try_clone().unwrap());
        command.stdout(terminal.try_clone().unwrap());
        command.stderr(terminal.try_clone().unwrap());
        more(&mut command);
        let child = command.spawn().unwrap();
        drop(command);
        let screen = Arc::new(Mutex::new(vt100::Parser::default()));
        let mut keyboard = File::from(controller);
        let (mut output, seen) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                seen.lock().unwrap().process(&bytes[..length]);
            }
        });
        keyboard.flush().unwrap();
        Self { child, keyboard, terminal, before, screen }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    #[track_caller]
    fn wait(&self, what: &str, is_there: impl Fn(&str) -> bool) {
        let found = within(DEADLINE, || is_there(&self.text()));
        assert!(found, "no {what} in:\n{}", self.text());
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        self.wait(text, |screen| screen.contains(text));
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.terminal).unwrap().local_modes.contains(LocalModes::ICANON)
    }

    /// Waits for its end; the terminal must be as it was.
    #[track_caller]
    fn ended(mut self, code: i32) -> String {
        assert_eq!(end_of(&mut self.child, "top"), Some(code), "{}", self.text());
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        let restored = within(DEADLINE, || {
            let parser = self.screen.lock().unwrap();
            !parser.screen().alternate_screen() && !parser.screen().hide_cursor()
        });
        assert!(restored, "not given back: {}", self.text());
        self.text()
    }

    /// The process itself, which `setsid` may have started as a child of its own.
    fn pid(&self) -> Pid {
        let own = Pid::from_child(&self.child);
        let children = format!("/proc/{0}/task/{0}/children", own.as_raw_nonzero());
        let child = std::fs::read_to_string(children).unwrap_or_default();
        child.trim().parse().ok().and_then(Pid::from_raw).unwrap_or(own)
    }
}

impl Drop for Top {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn shows_the_farm_takes_keys_and_gives_the_terminal_back() {
    let backends = [Backend::start(), Backend::start()];
    let scratch = Scratch::with(&backends);
    let daemon = Daemon::start(&scratch);
    daemon.wait_up(2);
    let mut top = Top::start(&scratch);
    top.wait_for("OK: 2 real servers up");
    assert!(top.is_raw());
    let [one, two] = backends.each_ref().map(|it| it.address.to_string());
    top.wait("both servers", |text| text.contains(&one) && text.contains(&two));

    // What happens is to be seen without a key.
    backends[0].answer(503);
    top.wait_for("DEGRADED: 1 of 2 real servers down");
    top.press("j");
    top.wait("a curve of its probes", |text| {
        let curve = text.lines().find_map(|line| line.strip_prefix("latency  "));
        // It begins with what the daemon remembers.
        curve.is_some_and(|it| {
            it.starts_with(['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█']) && it.contains("××")
        })
    });
    top.press("k");
    top.press("p");
    top.wait("only what is down", |text| text.contains(&one) && !text.contains(&two));
    top.press("p/");
    top.press(&two);
    top.wait("only the other", |text| !text.contains(&one) && text.contains(&two));
    top.press("\r");
    top.wait_for(&format!("filter `{two}`"));
    top.press("j\r");
    top.wait_for("asked      every");
    top.press("e");
    top.wait("what happened", |text| {
        text.contains("-- events, newest first") && text.contains("of www: up → down")
    });
    top.press("q");
    let text = top.ended(0);
    assert_eq!(text.trim(), "", "something was left behind");
}

#[test]
fn a_daemon_that_goes_away_is_waited_for() {
    let scratch = Scratch::with_one();
    let mut top = Top::start(&scratch);
    top.wait_for("NO ANSWER: no daemon answers on");
    let daemon = Daemon::start(&scratch);
    top.wait_for("OK: 1 real server up");
    daemon.stop();
    top.wait_for("NO ANSWER, below is what it said ");
    let again = Daemon::start(&scratch);
    top.wait_for(&format!("pid {}", again.pid()));
    top.wait_for("OK: 1 real server up");
    top.press("\x03");
    top.ended(0);
}

#[test]
fn signals_end_it_in_order() {
    let scratch = Scratch::new();
    for signal in [Signal::TERM, Signal::HUP] {
        let top = Top::start(&scratch);
        top.wait_for("NO ANSWER");
        kill_process(top.pid(), signal).unwrap();
        top.ended(0);
    }
}

#[test]
fn no_color_is_respected() {
    let scratch = Scratch::new();
    let coloured = |screen: &vt100::Screen| {
        let cells = (0..24).flat_map(|y| (0..80).map(move |x| (y, x)));
        let mut cells = cells.filter_map(|(y, x)| screen.cell(y, x));
        cells.any(|cell| cell.fgcolor() != vt100::Color::Default)
    };
    for (value, expected) in [("", true), ("1", false)] {
        let mut top = Top::start_with(&scratch, |command| {
            command.env("NO_COLOR", value);
        });
        top.wait_for("NO ANSWER");
        assert_eq!(coloured(top.screen.lock().unwrap().screen()), expected, "NO_COLOR={value}");
        top.press("q");
        top.ended(0);
    }
}

#[test]
fn without_a_terminal_it_names_what_does_without() {
    let finished = finish(pointsman(&["top"])).exit(2);
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.contains("`pointsman status --watch`"), "{}", finished.stderr);
}
