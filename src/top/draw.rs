//! The screen: header, list, explanation and the line of keys.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Clear;

use super::app::{App, Mode};
use super::keys::HELP;
use super::words::{clean, head, padded, tail, width, wrap};
use super::{detail, header, list, selected};

/// Less than this shows nothing useful.
const NARROWEST: u16 = 24;
const LOWEST: u16 = 6;
/// A terminal of this height has room for the whole header.
const TALL: u16 = 16;
/// One of this height has room for a pane and for what is known besides.
const TALLER: u16 = 30;

/// Where everything is.
pub(super) struct Places {
    pub(super) header: Rect,
    /// With its headings.
    pub(super) list: Rect,
    /// What is known of the selected line besides; empty where there is nothing or no room.
    pub(super) selected: Rect,
    /// With its title; empty unless it is open.
    pub(super) detail: Rect,
    pub(super) keys: Rect,
}

/// Draws the screen as it is.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < NARROWEST || area.height < LOWEST {
        lines(frame, area, &[Line::raw("terminal too small (q quit)")]);
        return;
    }
    let header = header_lines(app, area);
    let places = places(app, area, header.len());
    lines(frame, places.header, &header);
    list::draw(app, frame, places.list);
    lines(frame, places.selected, &selected::lines(app, usize::from(area.width)));
    if app.detail.is_some() {
        detail::draw(app, frame, places.detail);
    }
    keys(app, frame, places.keys);
    if app.mode == Mode::Help {
        help(app, frame, area);
    }
}

/// How many lines of the list are to be seen.
pub(super) fn list_height(app: &App) -> usize {
    usize::from(of_screen(app).list.height.saturating_sub(1))
}

/// Where everything is on the whole screen.
pub(super) fn of_screen(app: &App) -> Places {
    let area = Rect::from((Position::ORIGIN, app.size));
    places(app, area, header_lines(app, area).len())
}

fn header_lines(app: &App, area: Rect) -> Vec<Line<'static>> {
    header::lines(app, usize::from(area.width), area.height >= TALL)
}

fn places(app: &App, area: Rect, header: usize) -> Places {
    let header = u16::try_from(header).unwrap_or(u16::MAX).min(area.height / 2);
    let least = if app.detail.is_some() { TALLER } else { TALL };
    let selected = if area.height >= least { selected::height(app) } else { 0 };
    let body = area.height.saturating_sub(header + selected + 1);
    let detail = if app.detail.is_some() { body - (body / 3).max(2).min(body) } else { 0 };
    let at = |y, height| Rect { x: area.x, y: area.y + y, width: area.width, height };
    Places {
        header: at(0, header),
        list: at(header, body - detail),
        selected: at(header + body - detail, selected),
        detail: at(header + body - detail + selected, detail),
        keys: at(area.height.saturating_sub(1), 1.min(area.height)),
    }
}

/// Lines from the top of an area, as many as it has room for.
pub(super) fn lines(frame: &mut Frame<'_>, area: Rect, lines: &[Line<'_>]) {
    for (row, line) in area.rows().zip(lines) {
        frame.buffer_mut().set_line(row.x, row.y, line, row.width);
    }
}

fn keys(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.width);
    if app.mode == Mode::Filter {
        let hint = "  Enter keep  Esc drop";
        let filter = tail(&clean(&app.view.filter), room.saturating_sub(2));
        let cursor = area.x + u16::try_from(1 + width(&filter)).unwrap_or(0);
        let line = Line::from(vec![
            Span::styled(format!("/{filter}"), app.palette.title()),
            Span::styled(format!(" {hint}"), app.palette.faint()),
        ]);
        lines(frame, area, &[line]);
        frame.set_cursor_position(Position::new(cursor, area.y));
        return;
    }
    let place = match app.rows.len() {
        0 => String::new(),
        all => format!("{}/{all}", app.selected + 1),
    };
    let place = format!("{}{place}", shown(app));
    let left = room.saturating_sub(width(&place) + 1);
    let words =
        ["q quit", "? help", "/ filter", "p problems", "s order", "Enter explain", "e events"];
    let mut text = String::new();
    for word in words {
        let longer = format!("{text}{}{word}", if text.is_empty() { "" } else { "  " });
        if width(&longer) > left {
            break;
        }
        text = longer;
    }
    let line = Line::from(vec![
        Span::styled(padded(&text, left), app.palette.faint()),
        Span::styled(format!(" {place}"), app.palette.title()),
    ]);
    lines(frame, area, &[line]);
}

/// What the list leaves out, and its order if it is not the usual one.
fn shown(app: &App) -> String {
    let mut text = String::new();
    let filter = clean(app.view.filter.trim());
    if !filter.is_empty() {
        text += &format!("filter `{}`  ", head(&filter, 20));
    }
    if app.view.problems {
        text += "only problems  ";
    }
    if app.view.sort != Default::default() {
        text += &format!("by {}  ", app.view.sort.name());
    }
    text
}

fn help(app: &App, frame: &mut Frame<'_>, area: Rect) {
    const KEYS: usize = 21;
    let room = usize::from(area.width);
    let mut text = vec![Line::styled("Keys (any of them closes this)", app.palette.title())];
    for (key, what) in HELP {
        let what = wrap(what, room.saturating_sub(KEYS).max(8));
        for (number, line) in what.iter().enumerate() {
            let key = if number == 0 { key } else { "" };
            text.push(Line::raw(format!("{} {line}", padded(key, KEYS - 1))));
        }
    }
    text.push(Line::raw(""));
    for column in [
        "! marks what is not up and in the table as declared",
        "WEIGHT is wanted/in the table, - is not there",
        "in a curve × is a probe that failed, · one that could not be sent",
    ] {
        text.extend(wrap(column, room).into_iter().map(Line::raw));
    }
    frame.render_widget(Clear, area);
    lines(frame, area, &text);
}
