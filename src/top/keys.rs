//! What each key does.

use std::mem::discriminant;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::app::{App, Detail, Mode, Shown};
use super::draw::list_height;
use super::rows::Row;

/// The keys and what they do, for the help.
pub(super) const HELP: [(&str, &str); 14] = [
    ("Up Down, k j", "one line"),
    ("PgUp PgDn, Ctrl-B F", "one page; in the explanation or the events if open"),
    ("Home End, g G", "first and last line"),
    ("Enter", "explain the line, and close that again"),
    ("e", "what happened last, newest first, and close that again"),
    ("Space, Left Right", "collapse and expand a virtual service"),
    ("- +", "collapse and expand all of them"),
    ("/", "filter: words of a service, real server, health or reason"),
    ("p", "only what is not up and in the table as declared"),
    ("s", "order: declared, problems, since (newest first), active"),
    ("Esc", "close what is open below, then drop the filters"),
    ("Ctrl-L", "draw everything anew"),
    ("?", "this"),
    ("q, Ctrl-C", "end"),
];

/// The longest filter, in letters.
const LONGEST_FILTER: usize = 200;

impl App {
    pub(super) fn press(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        match (key.modifiers.contains(KeyModifiers::CONTROL), key.code) {
            (true, KeyCode::Char('c')) => self.ended = true,
            (true, KeyCode::Char('l')) => self.stale_screen = true,
            (control, code) => match self.mode {
                Mode::List => self.walk(control, code),
                Mode::Filter => self.write(control, code),
                Mode::Help => self.mode = Mode::List,
            },
        }
    }

    fn walk(&mut self, control: bool, code: KeyCode) {
        match (control, code) {
            (true, KeyCode::Char('b')) | (_, KeyCode::PageUp) => self.page(false),
            (true, KeyCode::Char('f')) | (_, KeyCode::PageDown) => self.page(true),
            (true, _) => {}
            (_, KeyCode::Char('q')) => self.ended = true,
            (_, KeyCode::Up | KeyCode::Char('k')) => self.select(self.selected.saturating_sub(1)),
            (_, KeyCode::Down | KeyCode::Char('j')) => self.select(self.selected + 1),
            (_, KeyCode::Home | KeyCode::Char('g')) => self.select(0),
            (_, KeyCode::End | KeyCode::Char('G')) => self.select(self.rows.len()),
            (_, KeyCode::Enter) => self.open(Shown::Explanation(None)),
            (_, KeyCode::Char('e')) => self.open(Shown::Events(None)),
            (_, KeyCode::Char(' ')) => self.fold(None),
            (_, KeyCode::Left) => self.fold(Some(true)),
            (_, KeyCode::Right) => self.fold(Some(false)),
            (_, KeyCode::Char('-')) => self.fold_all(true),
            (_, KeyCode::Char('+' | '=')) => self.fold_all(false),
            (_, KeyCode::Char('/')) => self.mode = Mode::Filter,
            (_, KeyCode::Char('?')) => self.mode = Mode::Help,
            (_, KeyCode::Char('p')) => {
                self.view.problems = !self.view.problems;
                self.relist();
            }
            (_, KeyCode::Char('s')) => {
                self.view.sort = self.view.sort.next();
                self.relist();
            }
            (_, KeyCode::Esc) if self.detail.is_some() => self.detail = None,
            (_, KeyCode::Esc) => {
                self.view.filter.clear();
                self.view.problems = false;
                self.relist();
            }
            _ => {}
        }
    }

    /// Opens the pane with this, or closes it if it shows that.
    fn open(&mut self, shows: Shown) {
        let is_it = |open: &Detail| discriminant(&open.shows) == discriminant(&shows);
        self.detail = match self.detail.as_ref().is_some_and(is_it) {
            true => None,
            false => Some(Detail { shows, scrolled: 0 }),
        };
    }

    fn write(&mut self, control: bool, code: KeyCode) {
        match (control, code) {
            (_, KeyCode::Enter) => self.mode = Mode::List,
            (_, KeyCode::Esc) => {
                self.mode = Mode::List;
                self.view.filter.clear();
            }
            (_, KeyCode::Backspace) => {
                self.view.filter.pop();
            }
            (true, KeyCode::Char('u')) => self.view.filter.clear(),
            (false, KeyCode::Char(letter)) => {
                let length = self.view.filter.chars().count();
                if !letter.is_control() && length < LONGEST_FILTER {
                    self.view.filter.push(letter);
                }
            }
            _ => return,
        }
        self.relist();
    }

    fn select(&mut self, row: usize) {
        self.selected = row.min(self.rows.len().saturating_sub(1));
        if let Some(detail) = &mut self.detail {
            detail.scrolled = 0;
        }
    }

    fn page(&mut self, forward: bool) {
        if self.detail.is_some() {
            return self.scroll_detail(forward);
        }
        let page = list_height(self).saturating_sub(1).max(1);
        let row = if forward { self.selected + page } else { self.selected.saturating_sub(page) };
        self.select(row);
    }

    /// Collapses or expands the service of the selected line, or what it is not.
    fn fold(&mut self, collapse: Option<bool>) {
        let Some((service, _)) = self.current() else { return };
        let key = service.service;
        let is_collapsed = self.view.collapsed.contains(&key);
        if collapse.unwrap_or(!is_collapsed) {
            self.view.collapsed.insert(key);
        } else {
            self.view.collapsed.remove(&key);
        }
        self.relist();
    }

    fn fold_all(&mut self, collapse: bool) {
        self.view.collapsed.clear();
        if let Some(picture) = self.picture.as_ref().filter(|_| collapse) {
            let all = picture.status.services.iter().map(|it| it.service);
            self.view.collapsed = all.collect();
        }
        self.relist();
    }

    /// Whether a service is shown without its destinations.
    pub(super) fn is_collapsed(&self, row: Row) -> bool {
        let key = self.of(row).map(|(service, _)| service.service);
        self.view.filter.trim().is_empty()
            && key.is_some_and(|key| self.view.collapsed.contains(&key))
    }
}
