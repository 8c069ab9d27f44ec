//! The header: how the whole is.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::app::{App, Picture};
use super::words::{clean, head, wrap_most};
use crate::control::status::Status;
use crate::control::text::age;
use crate::count::count;
use crate::health::Health;

/// Columns of what a line is about.
const TITLE: usize = 9;
/// Lines of a thing that may be long.
const MOST_LINES: usize = 3;

/// Its lines; only the most important ones where there is little room.
pub(super) fn lines(app: &App, width: usize, tall: bool) -> Vec<Line<'static>> {
    let mut lines = Lines { app, room: width.saturating_sub(TITLE), lines: Vec::new() };
    let Some(picture) = &app.picture else {
        lines.nobody();
        return lines.lines;
    };
    let status = &picture.status;
    let dry_run = if status.dry_run { "DRY RUN  " } else { "" };
    let first = format!(
        "pointsman {}  {dry_run}{} table  pid {}  since {}",
        status.version, status.ipvs, status.pid, status.started
    );
    lines.lines.push(Line::styled(head(&clean(&first), width), app.palette.title()));
    lines.state(picture);
    if tall {
        lines.more("policies", &policies(status), status.policies.refused.is_some());
        lines.more("table", &table(status), status.table.error.is_some());
        lines.more("probes", &probes(picture), false);
    }
    lines.lines
}

struct Lines<'a> {
    app: &'a App,
    room: usize,
    lines: Vec<Line<'static>>,
}

impl Lines<'_> {
    fn nobody(&mut self) {
        match &self.app.trouble {
            None => self.add("state", "asking the daemon …", Style::new(), 1),
            Some(why) => self.add("state", &format!("NO ANSWER: {why}"), self.app.palette.bad(), 5),
        }
    }

    fn state(&mut self, picture: &Picture) {
        let (palette, status) = (self.app.palette, &picture.status);
        if let Some(why) = &self.app.trouble {
            let ago = age(self.app.now.saturating_sub(picture.at).as_secs_f64());
            let text = format!("NO ANSWER, below is what it said {ago} ago: {why}");
            self.add("state", &text, palette.bad(), MOST_LINES);
            return;
        }
        let alarm = status.alarm.as_ref().map(ToString::to_string);
        let troubles = status.degraded.iter().filter(|it| Some(*it) != alarm.as_ref());
        let troubles: Vec<&str> = troubles.map(String::as_str).collect();
        if let Some(alarm) = &alarm {
            self.add("ALARM", alarm, palette.alarm(), 2 * MOST_LINES);
        }
        let unknown = match status.count(Health::Unknown) {
            0 => String::new(),
            unknown => format!("; {unknown} without a verdict yet"),
        };
        let (text, style) = if status.is_degraded() {
            let all =
                if troubles.is_empty() { "see ALARM".to_owned() } else { troubles.join("; ") };
            (format!("DEGRADED: {all}{unknown}"), palette.bad())
        } else {
            let up = count(status.count(Health::Up), "real server");
            (format!("OK: {up} up{unknown}"), palette.good())
        };
        self.add("state", &text, style, MOST_LINES);
    }

    /// One line that matters less.
    fn more(&mut self, title: &str, text: &str, bad: bool) {
        let style = if bad { self.app.palette.bad() } else { Style::new() };
        self.add(title, text, style, 1);
    }

    fn add(&mut self, title: &str, text: &str, style: Style, most: usize) {
        let wrapped = wrap_most(&clean(text), self.room, most);
        for (number, line) in wrapped.into_iter().enumerate() {
            let title = if number == 0 { title } else { "" };
            let title = Span::styled(format!("{title:<TITLE$}"), self.app.palette.title());
            self.lines.push(Line::from(vec![title, Span::styled(line, style)]));
        }
    }
}

fn policies(status: &Status) -> String {
    let policies = &status.policies;
    let newer = match (&policies.refused, &policies.held) {
        (Some(refused), _) => format!("newer ones REFUSED at {}, ", refused.at),
        (None, Some(held)) => format!("newer ones HELD since {}, ", held.at),
        (None, None) => String::new(),
    };
    let overrides = match status.overrides.len() {
        0 => String::new(),
        some => format!(", {}", count(some, "override")),
    };
    format!(
        "{}{overrides}, {newer}in force since {}, {}",
        count(policies.count, "policy"),
        policies.loaded,
        count(policies.reloads, "reload")
    )
}

fn table(status: &Status) -> String {
    let table = &status.table;
    let read = table.read_ago.map_or("never read".to_owned(), |ago| format!("read {ago:.1} s ago"));
    let mut text = match &table.error {
        Some(error) => format!("ERROR: {error}; {read}"),
        None => read,
    };
    text += &format!(
        ", {}, {}, {} refused",
        count(table.changes, "change"),
        count(table.drift_repaired, "repair"),
        table.refused
    );
    for (what, count) in [("pending", table.pending.len()), ("held", table.held.len())] {
        if count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    text
}

fn probes(picture: &Picture) -> String {
    let probes = &picture.status.probes;
    let rate = picture.rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    let targets = count(probes.targets, "target");
    format!("{rate} a second, {targets}, {} in flight", probes.in_flight)
}
