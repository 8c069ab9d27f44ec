//! Every screen of `pointsman top` in `tests/golden/top` is drawn exactly so.
//!
//! `UPDATE_GOLDEN=1 cargo test --test top_golden` writes what is drawn; read the difference before
//! you commit it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use pointsman::control::explain::{Explanation, Question};
use pointsman::control::status::Status;
use pointsman::events::Event;
use pointsman::top::{App, Ask, Input, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;
use ratatui::style::{Color, Modifier};
use serde_json::{Value, json};

const FOLDER: &str = "tests/golden/top";

/// A screen on which things happen a second apart.
struct Screen {
    app: App,
    terminal: Terminal<TestBackend>,
    seconds: u64,
}

impl Screen {
    fn new(width: u16, height: u16) -> Self {
        Self::with(width, height, false)
    }

    fn with(width: u16, height: u16, colour: bool) -> Self {
        let terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        Self { app: App::new(Size { width, height }, colour), terminal, seconds: 0 }
    }

    fn input(mut self, input: Input) -> Self {
        self.seconds += 1;
        self.app.update(input, Duration::from_secs(self.seconds));
        self
    }

    fn status(self, status: &Value) -> Self {
        let status: Status = serde_json::from_value(status.clone()).unwrap();
        self.input(Input::Status(Box::new(status)))
    }

    fn silent(self) -> Self {
        self.input(Input::NoAnswer("no daemon answers on /run/x (nobody listens there)".into()))
    }

    fn press(self, keys: &[KeyCode]) -> Self {
        let press = |code| Input::Key(KeyEvent::new(code, KeyModifiers::NONE));
        keys.iter().fold(self, |screen, code| screen.input(press(*code)))
    }

    fn write(self, text: &str) -> Self {
        self.press(&text.chars().map(KeyCode::Char).collect::<Vec<_>>())
    }

    fn resize(mut self, width: u16, height: u16) -> Self {
        self.terminal.backend_mut().resize(width, height);
        self.input(Input::Resized(Size { width, height }))
    }

    fn buffer(&mut self) -> Buffer {
        self.terminal.draw(|frame| draw(&self.app, frame)).unwrap();
        self.terminal.backend().buffer().clone()
    }

    /// The screen as text, without blanks at the ends of lines.
    fn text(&mut self) -> String {
        let buffer = self.buffer();
        let mut text = String::new();
        for y in 0..buffer.area.height {
            let mut skip = 0;
            let mut line = String::new();
            for x in 0..buffer.area.width {
                if skip == 0 {
                    let symbol = buffer[(x, y)].symbol();
                    line += symbol;
                    skip = unicode_width::UnicodeWidthStr::width(symbol).max(1);
                }
                skip -= 1;
            }
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// The line that keys act on.
    fn selected(&mut self) -> String {
        let text = self.text();
        text.lines().find(|line| line.starts_with('>')).unwrap_or_default().to_owned()
    }
}

/// A farm with everything that can be seen in one.
fn farm() -> Value {
    json!({
        "version": "0.1.0", "pid": 4242, "dry_run": false, "ipvs": "kernel",
        "started": "2026-01-02T03:04:05Z",
        "degraded": ["1 of 4 real servers down", "newer policies refused"],
        "policies": {
            "path": "/etc/pointsman/policies", "hash": "1f", "count": 2, "reloads": 3,
            "loaded": "2026-01-02T03:05:00Z",
            "refused": { "at": "2026-01-02T03:06:00Z", "problems": ["www.yaml:5:1: no"] },
        },
        "table": {
            "read_ago": 0.02, "changes": 12, "drift_repaired": 1, "refused": 0, "pending": [],
            "held": ["tcp://192.0.2.1:80 10.0.0.3:80: stays out; no verdict yet"],
            "error": null, "foreign": [],
        },
        "probes": { "targets": 4, "in_flight": 1, "started": 100, "lateness": [] },
        "overrides": [{
            "policy": "www", "real_server": "10.0.0.4", "action": "weight", "weight": 10,
            "by": "alice", "at": "2026-01-02T03:07:00Z", "until": null, "left": null,
            "reason": "disk swap", "applies": true,
        }],
        "services": [
            {
                "service": "tcp://192.0.2.1:80", "policy": "www", "config": "wlc",
                "in_kernel": true,
                "destinations": [
                    destination("10.0.0.1:80", "10.0.0.1", "up", Some(80), Some(80), "status 200 in 606us"),
                    destination("10.0.0.2:80", "10.0.0.2", "down", None, None,
                        "status 503 Überlastet 過負荷\x1b[2J\u{202e}, expected 200-399, after 3ms"),
                    draining("10.0.0.3:80", "10.0.0.3"),
                    overridden("10.0.0.4:80", "10.0.0.4"),
                    sorry("10.0.0.99:80"),
                ],
            },
            {
                "service": "tcp://[2001:db8::1]:443", "policy": "v6", "config": "wrr persistent 5m",
                "in_kernel": false,
                "destinations": [
                    destination("[2001:db8:1234:5678:9abc:def0:1234:5678]:8443", "a", "unknown",
                        Some(1), None, "not probed yet"),
                ],
            },
        ],
        "real_servers": [
            real_server("www", "10.0.0.1", "up"),
            real_server("www", "10.0.0.2", "down"),
            real_server("www", "10.0.0.3", "up"),
            real_server("www", "10.0.0.4", "up"),
            real_server("v6", "a", "unknown"),
        ],
    })
}

fn real_server(policy: &str, name: &str, health: &str) -> Value {
    json!({ "policy": policy, "real_server": name, "health": health, "checks": [] })
}

fn destination(
    key: &str,
    name: &str,
    health: &str,
    wanted: Option<u32>,
    kernel: Option<u32>,
    why: &str,
) -> Value {
    let active = kernel.unwrap_or(0) / 10;
    json!({
        "destination": key, "real_server": name, "health": health, "since": 12001.0,
        "weight_wanted": wanted, "weight_kernel": kernel, "why": why,
        "connections": { "active": active, "inactive": active * 7, "persistent": 0 },
    })
}

fn draining(key: &str, name: &str) -> Value {
    let why = "drained by bob; drains 42s at most, 3 connections left; status 200 in 1ms";
    let mut it = destination(key, name, "up", Some(0), Some(0), why);
    it["drain_left"] = json!(42.0);
    it["connections"]["active"] = json!(3);
    it
}

fn overridden(key: &str, name: &str) -> Value {
    let why = "weight 10 by alice: disk swap; status 200 in 1ms";
    let mut it = destination(key, name, "up", Some(10), Some(80), why);
    it["weight"] = json!({
        "configured": 80, "ramp_percent": null, "advised": null, "overridden": 10,
    });
    it["since"] = json!(45.0);
    it
}

/// Not among the real servers, always up, and not needed.
fn sorry(key: &str) -> Value {
    destination(key, "10.0.0.99", "up", None, None, "no checks: always up")
}

/// A farm on a table that measures its traffic.
fn busy() -> Value {
    let mut status = farm();
    let service = &mut status["services"][0];
    service["rates"] =
        json!({ "connections": 1234, "bytes_in": 3_400_000, "bytes_out": 41_000_000 });
    let destinations = service["destinations"].as_array_mut().unwrap();
    destinations[0]["rates"] =
        json!({ "connections": 1229, "bytes_in": 3_399_000, "bytes_out": 40_900_000 });
    // Its answers do not pass the director.
    destinations[2]["rates"] = json!({ "connections": 5, "bytes_in": 999 });
    status
}

/// A busy farm after as many answers as there are letters, each with one more probe.
fn watched(mut screen: Screen) -> Screen {
    const PROBES: &str = "abafaabcaabaaeabaaabacabaaab";
    for (number, letter) in PROBES.chars().enumerate() {
        let mut status = busy();
        let micros = 606 + u64::from(u32::from(letter) - u32::from('a')) * 700;
        let down = if number < 20 { "pass" } else { "fail" };
        let standing = if number % 5 == 3 { "inconclusive" } else { "pass" };
        for (server, micros, kind) in
            [(0, micros, "pass"), (1, 300 * (number as u64 + 1), down), (2, 2 * micros, standing)]
        {
            status["real_servers"][server]["checks"] = json!([check(micros, kind)]);
        }
        screen = screen.status(&status);
    }
    let before = json!([{ "policy": "www", "real_server": "10.0.0.4", "attempts": [
        { "ago": 9.0, "took": 0.004, "kind": "fail" },
        { "ago": 8.0, "took": 0.004, "kind": "pass" },
    ] }]);
    screen.input(Input::Latencies(serde_json::from_value(before).unwrap()))
}

/// One that has just been probed.
fn check(micros: u64, kind: &str) -> Value {
    let ended = json!({ "secs": 0, "nanos": micros * 1000 });
    json!({
        "check": "tcp 10.0.0.1:80", "health": "up", "since": "2026-01-02T03:04:05Z",
        "since_seconds": 1.0, "streak": 0, "needed": 2, "last_ago": 0.0, "held": null,
        "damping": null, "last": {
            "kind": kind, "reason": "ok", "detail": "",
            "phases": { "connected": null, "tls": null, "first_byte": null, "ended": ended },
        },
    })
}

fn alarm() -> Value {
    let mut status = farm();
    let alarm = json!({ "since_seconds": 30.0, "held": 3, "targets": 4 });
    let parsed: pointsman::control::holding::AlarmStatus =
        serde_json::from_value(alarm.clone()).unwrap();
    status["alarm"] = alarm;
    status["degraded"] = json!([parsed.to_string(), "3 of 4 real servers down"]);
    status
}

fn fine() -> Value {
    let mut status = farm();
    status["degraded"] = json!([]);
    status["policies"]["refused"] = Value::Null;
    status["policies"]["count"] = json!(1);
    status["overrides"] = json!([]);
    status["table"]["held"] = json!([]);
    status["services"].as_array_mut().unwrap().truncate(1);
    status["services"][0]["destinations"].as_array_mut().unwrap().truncate(1);
    status["real_servers"].as_array_mut().unwrap().truncate(1);
    status
}

/// All is well, and a virtual service is in no policy any more.
fn leaving() -> Value {
    let mut status = fine();
    let left = |host: u8| {
        let mut it = draining(&format!("10.0.0.{host}:443"), "-");
        it["real_server"] = Value::Null;
        it["health"] = json!("unknown");
        it["since"] = Value::Null;
        it["why"] = json!("no policy declares it; drains 42s at most, 3 connections left");
        it
    };
    let service = json!({
        "service": "tcp://192.0.2.1:443", "policy": null, "config": "wlc", "in_kernel": true,
        "destinations": [left(1), left(2)],
    });
    status["services"].as_array_mut().unwrap().push(service);
    status
}

/// The same where the kernel refuses weight 0 for one of its destinations.
fn stuck() -> Value {
    let mut status = leaving();
    status["degraded"] = json!(["1 change refused by the kernel"]);
    status["services"][1]["destinations"][1]["weight_kernel"] = json!(80);
    status
}

fn empty() -> Value {
    let mut status = fine();
    status["services"] = json!([]);
    status["real_servers"] = json!([]);
    status
}

fn explanation() -> Explanation {
    serde_json::from_value(json!({
        "policy": "www", "origin": "www.yaml:1", "real_server": "10.0.0.2", "health": "down",
        "checks": [], "override": null,
        "floor": { "needed": 2, "of": 4, "up": 3, "at_floor": "keep", "withdrawn": false },
        "destinations": [{
            "service": "tcp://192.0.2.1:80", "configured": 80, "parts": null, "decided_by": "down",
            "destination": "10.0.0.2:80", "real_server": "10.0.0.2", "health": "down",
            "since": 5.0, "weight_wanted": null, "weight_kernel": null,
            "connections": { "active": 0, "inactive": 0, "persistent": 0 },
            "why": "status 503\x07, expected 200-399, after 3ms",
        }],
    }))
    .unwrap()
}

fn explained(screen: Screen) -> Screen {
    let question = Question { policy: "www".into(), real_server: "10.0.0.2".into() };
    let screen = screen.press(&[KeyCode::Down, KeyCode::Down, KeyCode::Enter]);
    assert_eq!(screen.app.ask(), Some(Ask::Explanation(question.clone())));
    screen.input(Input::Explained(question, Ok(Box::new(explanation()))))
}

/// With a pane of events, the newest of which has words from outside.
fn happened(screen: Screen) -> Screen {
    let screen = screen.press(&[KeyCode::Enter, KeyCode::Char('e')]);
    assert_eq!(screen.app.ask(), Some(Ask::Events));
    let events: Vec<Event> = serde_json::from_value(json!([
        {
            "at": "2026-01-02T03:04:05.000001Z", "event": "started",
            "version": "0.1.0", "pid": 4242, "dry_run": false,
        },
        {
            "at": "2026-01-02T03:04:06.5Z", "event": "override", "policy": "www",
            "real_server": "10.0.0.3", "action": "drained", "by": "bob", "until": null,
            "reason": null,
        },
        {
            "at": "2026-01-02T03:04:07Z", "event": "verdict", "policy": "www",
            "real_server": "10.0.0.2", "from": "up", "to": "down",
            "reason": "status 503 \u{1b}[2J, expected 200-399",
        },
    ]))
    .unwrap();
    screen.input(Input::Events(Ok(events)))
}

#[test]
fn screens_are_as_written_down() {
    let mut more = farm();
    more["probes"]["started"] = json!(107);
    let screens = [
        ("farm-60", Screen::new(60, 24).status(&farm())),
        ("farm-100", Screen::new(100, 24).status(&farm()).status(&more)),
        ("farm-160", Screen::new(160, 24).status(&farm())),
        ("farm-low", Screen::new(80, 8).status(&farm())),
        ("busy-80", Screen::new(80, 24).status(&busy()).press(&[KeyCode::Down])),
        ("busy-160", Screen::new(160, 24).status(&busy())),
        ("curves-60", watched(Screen::new(60, 24)).press(&[KeyCode::Down; 2])),
        ("curves-80", watched(Screen::new(80, 24)).press(&[KeyCode::Down])),
        ("curves-160", watched(Screen::new(160, 24)).press(&[KeyCode::Down; 3])),
        ("curves-explain-80", explained(watched(Screen::new(80, 24)))),
        ("curves-explain-100", explained(watched(Screen::new(100, 30)))),
        ("fine", Screen::new(100, 18).status(&fine())),
        ("leaving", Screen::new(100, 14).status(&leaving())),
        ("leaving-no-problems", Screen::new(100, 12).status(&leaving()).write("p")),
        ("leaving-stuck", Screen::new(100, 12).status(&stuck()).write("p")),
        ("empty", Screen::new(80, 16).status(&empty())),
        ("alarm-60", Screen::new(60, 20).status(&alarm())),
        ("alarm-160", Screen::new(160, 20).status(&alarm())),
        ("asking", Screen::new(60, 16)),
        ("no-daemon", Screen::new(60, 16).silent()),
        ("daemon-gone", Screen::new(100, 20).status(&farm()).silent().input(Input::Tick)),
        ("problems", Screen::new(100, 20).status(&farm()).write("ps")),
        ("no-problems", Screen::new(100, 16).status(&fine()).write("p")),
        ("filtering", Screen::new(100, 20).status(&farm()).write("/過負荷")),
        (
            "filtered",
            Screen::new(100, 20).status(&farm()).write("-/WWW bob").press(&[KeyCode::Enter]),
        ),
        ("nothing-matches", Screen::new(80, 16).status(&farm()).write("/xyz")),
        ("collapsed", Screen::new(100, 20).status(&farm()).write("-")),
        ("explain-60", explained(Screen::new(60, 30).status(&farm()))),
        ("explain-160", explained(Screen::new(160, 30).status(&farm()))),
        ("events-60", happened(Screen::new(60, 24).status(&farm()))),
        ("events-160", happened(Screen::new(160, 24).status(&farm()))),
        ("help-60", Screen::new(60, 30).status(&farm()).write("?")),
        ("too-small", Screen::new(20, 4).status(&farm())),
    ];
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    for (name, mut screen) in screens {
        let path = Path::new(FOLDER).join(name).with_extension("txt");
        names.insert(path.clone());
        let found = screen.text();
        assert!(!found.chars().any(|it| it.is_control() && it != '\n'), "{name}: {found:?}");
        if update {
            fs::write(&path, &found).unwrap();
        } else if fs::read_to_string(&path).unwrap_or_default() != found {
            wrong.push(format!("{}:\n{found}", path.display()));
        }
    }
    let there = fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    assert_eq!(there.collect::<BTreeSet<_>>(), names, "files without a screen");
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 accepts what follows\n\n{}", wrong.join("\n"));
}

/// Ten thousand destinations of a thousand services.
fn large() -> Value {
    let mut status = fine();
    let services = (0..1000).map(|number| {
        let destinations = (0..10).map(|host| {
            let key = format!("10.{}.{}.{host}:80", number / 250, number % 250);
            destination(&key, &key, "up", Some(80), Some(80), "status 200 in 1ms")
        });
        json!({
            "service": format!("tcp://192.0.{}.{}:80", number / 250, number % 250),
            "policy": "www", "config": "wlc", "in_kernel": true,
            "destinations": destinations.collect::<Vec<_>>(),
        })
    });
    status["services"] = services.collect();
    let servers = status["services"].as_array().unwrap().iter();
    let servers = servers.flat_map(|service| service["destinations"].as_array().unwrap());
    let servers = servers.map(|it| real_server("www", it["real_server"].as_str().unwrap(), "up"));
    status["real_servers"] = servers.collect();
    status
}

#[test]
fn ten_thousand_destinations_are_walked_through() {
    let mut screen = Screen::new(100, 24).status(&large());
    assert!(screen.text().contains("1/11000"), "{}", screen.text());
    screen = screen.press(&[KeyCode::End]);
    assert!(screen.selected().starts_with(">   10.3.249.9:80 "), "{}", screen.text());
    screen = screen.press(&[KeyCode::PageUp]);
    assert!(screen.selected().starts_with(">   10.3.248.4:80 "), "{}", screen.text());
    screen = screen.press(&[KeyCode::PageDown, KeyCode::PageDown]);
    assert!(screen.selected().starts_with(">   10.3.249.9:80 "), "{}", screen.text());
    screen = screen.press(&[KeyCode::Home, KeyCode::Down]);
    assert!(screen.selected().starts_with(">   10.0.0.0:80 "), "{}", screen.text());
    screen = screen.write("/10.2.7.3:80");
    assert!(screen.text().contains("    10.2.7.3:80 "), "{}", screen.text());
}

#[test]
fn what_is_selected_stays_so_when_the_status_changes() {
    let mut screen = Screen::new(100, 24).status(&farm()).press(&[KeyCode::Down; 4]);
    assert!(screen.selected().contains("10.0.0.4:80"), "{}", screen.text());
    let mut other = farm();
    other["services"][0]["destinations"].as_array_mut().unwrap().remove(0);
    screen = screen.status(&other);
    assert!(screen.selected().contains("10.0.0.4:80"), "{}", screen.text());
    // What has gone leaves its service selected.
    other["services"][0]["destinations"].as_array_mut().unwrap().remove(2);
    screen = screen.status(&other);
    assert!(screen.selected().contains("tcp://192.0.2.1:80"), "{}", screen.text());
    screen = screen.status(&empty());
    assert_eq!(screen.selected(), "");
    screen = screen.press(&[KeyCode::Down, KeyCode::Enter, KeyCode::PageDown, KeyCode::Char(' ')]);
    screen.text();
}

#[test]
fn services_are_collapsed_and_expanded() {
    let shown = |screen: &mut Screen| {
        let text = screen.text();
        (text.contains(" 10.0.0.1:80"), text.contains("5678]:8443"))
    };
    let mut screen = Screen::new(100, 24).status(&farm()).press(&[KeyCode::Down, KeyCode::Left]);
    assert_eq!(shown(&mut screen), (false, true));
    assert!(screen.selected().starts_with(">+ tcp://192.0.2.1:80"), "{}", screen.text());
    screen = screen.write(" ");
    assert_eq!(shown(&mut screen), (true, true));
    screen = screen.write("-");
    assert_eq!(shown(&mut screen), (false, false));
    screen = screen.press(&[KeyCode::Right]);
    assert_eq!(shown(&mut screen), (true, false));
    screen = screen.write("+");
    assert_eq!(shown(&mut screen), (true, true));
}

#[test]
fn each_order_puts_its_first_first() {
    let mut status = farm();
    let destinations = status["services"][0]["destinations"].as_array_mut().unwrap();
    destinations[3]["connections"]["active"] = json!(9);
    let mut screen = Screen::new(100, 24).status(&status);
    for (order, first) in [
        ("problems", "10.0.0.2:80"),
        ("since", "10.0.0.4:80"),
        ("active", "10.0.0.4:80"),
        ("", "10.0.0.1:80"),
    ] {
        screen = screen.write("s").press(&[KeyCode::Home, KeyCode::Down]);
        assert!(screen.selected().contains(first), "{order}: {}", screen.text());
        assert!(order.is_empty() || screen.text().contains(&format!("by {order}")), "{order}");
    }
}

#[test]
fn the_daemon_comes_back() {
    let mut screen = Screen::new(100, 24).status(&fine()).silent();
    assert!(screen.text().contains("NO ANSWER, below"), "{}", screen.text());
    let mut other = fine();
    other["pid"] = json!(1);
    screen = screen.status(&other);
    let text = screen.text();
    assert!(!text.contains("NO ANSWER") && text.contains("OK: 1 real server up"), "{text}");
    // Its count of probes began anew.
    assert!(text.contains("probes   - a second"), "{text}");
}

#[test]
fn every_size_can_be_drawn() {
    let mut screen = explained(Screen::new(80, 24).status(&alarm()));
    for (width, height) in
        [(1, 1), (24, 6), (25, 7), (30, 9), (60, 10), (500, 200), (300, 3), (80, 24)]
    {
        screen = screen.resize(width, height).press(&[KeyCode::PageDown, KeyCode::Down]);
        screen.text();
        screen = screen.write("?");
        screen.text();
        screen = screen.write("?");
    }
    // What is drawn before the news of a new size has come.
    screen.terminal.backend_mut().resize(30, 8);
    screen.text();
}

#[test]
fn colours_only_repeat_words_and_can_be_off() {
    let colours = |screen: &mut Screen| {
        let buffer = screen.buffer();
        let cells = buffer.content.iter();
        cells.filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    let mut plain = Screen::with(100, 24, false).status(&alarm());
    let mut coloured = Screen::with(100, 24, true).status(&alarm());
    assert_eq!(plain.text(), coloured.text());
    assert_eq!(colours(&mut plain), 0);
    assert!(colours(&mut coloured) > 0);
    let buffer = coloured.buffer();
    let text = coloured.text();
    let (y, line) = text.lines().enumerate().find(|(_, it)| it.contains("10.0.0.2:80")).unwrap();
    let x = line.find("down").unwrap();
    let cell = &buffer[(u16::try_from(x).unwrap(), u16::try_from(y).unwrap())];
    assert_eq!(cell.fg, Color::Red, "{line}");
    assert!(plain.buffer().content.iter().any(|it| it.modifier.contains(Modifier::REVERSED)));
}

#[test]
fn keys_end_it() {
    let end = |code, modifiers| {
        let key = Input::Key(KeyEvent::new(code, modifiers));
        Screen::new(80, 24).status(&fine()).write("/").input(key).app.has_ended()
    };
    assert!(end(KeyCode::Char('c'), KeyModifiers::CONTROL));
    // A letter of a filter.
    assert!(!end(KeyCode::Char('q'), KeyModifiers::NONE));
    assert!(Screen::new(80, 24).write("q").app.has_ended());
}
