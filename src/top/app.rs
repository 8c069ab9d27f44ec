//! What the screen knows, and what becomes of it.

use std::time::Duration;

use ratatui::crossterm::event::KeyEvent;
use ratatui::layout::Size;

use super::curve::Curves;
use super::draw;
use super::palette::Palette;
use super::rows::{Row, View, rows};
use crate::control::explain::{Explanation, Question};
use crate::control::latencies::Latencies;
use crate::control::status::{DestinationStatus, ServiceStatus, Status};
use crate::events::Event;
use crate::ipvs::model::{DestinationKey, ServiceKey};

/// What happens.
#[derive(Debug)]
pub enum Input {
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has this size now.
    Resized(Size),
    /// The daemon's answer.
    Status(Box<Status>),
    /// Why there was none.
    NoAnswer(String),
    /// What the daemon remembers of probes before its first answer.
    Latencies(Vec<Latencies>),
    /// The explanation that [`App::ask`] wants, or why there is none.
    Explained(Question, Result<Box<Explanation>, String>),
    /// The newest events, the oldest of them first, or why there are none.
    Events(Result<Vec<Event>, String>),
    /// Time has passed.
    Tick,
    /// Somebody wants it to end.
    End,
}

/// What to ask the daemon besides its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// To explain a real server.
    Explanation(Question),
    /// What happened last.
    Events,
}

/// The whole screen as a value.
#[derive(Debug)]
pub struct App {
    pub(super) palette: Palette,
    pub(super) size: Size,
    /// Since the start.
    pub(super) now: Duration,
    pub(super) picture: Option<Picture>,
    /// How long probes took.
    pub(super) curves: Curves,
    /// Why the last question to the daemon has no answer.
    pub(super) trouble: Option<String>,
    pub(super) view: View,
    pub(super) rows: Vec<Row>,
    /// The line the keys act on.
    pub(super) selected: usize,
    /// The first line that is shown.
    pub(super) first: usize,
    pub(super) mode: Mode,
    /// The pane below the list, if it is open.
    pub(super) detail: Option<Detail>,
    /// Whether it has ended.
    pub(super) ended: bool,
    /// Whether the terminal is to be written anew, whatever it shows.
    pub(super) stale_screen: bool,
}

/// What the daemon said last.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) status: Status,
    /// When it came.
    pub(super) at: Duration,
    /// Probes a second since the picture before it.
    pub(super) rate: Option<f64>,
}

/// What keys do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// They walk through the list.
    List,
    /// They write the filter.
    Filter,
    /// Any of them closes the help.
    Help,
}

/// The pane below the list.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) shows: Shown,
    /// Lines scrolled away.
    pub(super) scrolled: usize,
}

/// What the pane shows.
#[derive(Debug)]
pub(super) enum Shown {
    /// Why what is selected is as it is; the answer may be to another question.
    Explanation(Option<(Question, Result<Box<Explanation>, String>)>),
    /// What happened last.
    Events(Option<Result<Vec<Event>, String>>),
}

/// What is selected, by names that outlive a status.
type Selected = (ServiceKey, Option<DestinationKey>);

impl App {
    /// A screen that knows nothing yet.
    pub fn new(size: Size, colour: bool) -> Self {
        Self {
            palette: Palette { colour },
            size,
            now: Duration::ZERO,
            picture: None,
            curves: Curves::default(),
            trouble: None,
            view: View::default(),
            rows: Vec::new(),
            selected: 0,
            first: 0,
            mode: Mode::List,
            detail: None,
            ended: false,
            stale_screen: false,
        }
    }

    /// Takes what happened at this time since the start.
    pub fn update(&mut self, input: Input, now: Duration) {
        self.now = now;
        match input {
            Input::Key(key) => self.press(key),
            Input::Resized(size) => {
                self.size = size;
                self.stale_screen = true;
            }
            Input::Status(status) => self.show(*status),
            Input::NoAnswer(why) => self.trouble = Some(why),
            Input::Latencies(all) => self.curves.recall(all, now),
            Input::Explained(question, answer) => {
                if let Some(Detail { shows: Shown::Explanation(known), .. }) = &mut self.detail {
                    *known = Some((question, answer));
                }
            }
            Input::Events(answer) => {
                if let Some(Detail { shows: Shown::Events(known), .. }) = &mut self.detail {
                    *known = Some(answer);
                }
            }
            Input::Tick => {}
            Input::End => self.ended = true,
        }
        self.keep_in_sight();
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether the terminal may show something else than was drawn; asked once.
    pub fn take_stale_screen(&mut self) -> bool {
        std::mem::take(&mut self.stale_screen)
    }

    /// What to ask the daemon besides its status.
    pub fn ask(&self) -> Option<Ask> {
        match self.detail.as_ref()?.shows {
            Shown::Explanation(_) => self.question().map(Ask::Explanation),
            Shown::Events(_) => Some(Ask::Events),
        }
    }

    /// What would explain what is selected.
    pub(super) fn question(&self) -> Option<Question> {
        let (service, destination) = self.current()?;
        let (policy, real_server) = (service.policy.clone()?, destination?.real_server.clone()?);
        Some(Question { policy, real_server })
    }

    fn show(&mut self, status: Status) {
        let rate = self.picture.as_ref().and_then(|before| {
            let time = self.now.checked_sub(before.at).filter(|time| !time.is_zero())?;
            let same = before.status.pid == status.pid;
            let probes = status.probes.started.checked_sub(before.status.probes.started)?;
            same.then(|| probes as f64 / time.as_secs_f64())
        });
        let selected = self.selected_key();
        self.curves.remember(&status, self.now);
        self.picture = Some(Picture { status, at: self.now, rate });
        self.trouble = None;
        self.list(selected);
    }

    /// Lists anew after a change of what is shown.
    pub(super) fn relist(&mut self) {
        let selected = self.selected_key();
        self.list(selected);
    }

    /// Lists anew and stays on what was selected, or else on its service, or at its place.
    fn list(&mut self, selected: Option<Selected>) {
        let Some(picture) = &self.picture else { return };
        self.rows = rows(&picture.status, &self.view);
        let Some((service, destination)) = selected else { return };
        let place = |key: Selected| self.rows.iter().position(|row| self.key(*row) == Some(key));
        let found = place((service, destination)).or_else(|| place((service, None)));
        self.selected = found.unwrap_or(self.selected);
    }

    fn selected_key(&self) -> Option<Selected> {
        self.key(*self.rows.get(self.selected)?)
    }

    fn key(&self, row: Row) -> Option<Selected> {
        let (service, destination) = self.of(row)?;
        Some((service.service, destination.map(|it| it.destination)))
    }

    /// What a line shows.
    pub(super) fn of(&self, row: Row) -> Option<(&ServiceStatus, Option<&DestinationStatus>)> {
        let status = &self.picture.as_ref()?.status;
        match row {
            Row::Service { service, .. } => Some((status.services.get(service)?, None)),
            Row::Destination { service, index, .. } => {
                let service = status.services.get(service)?;
                Some((service, Some(service.destinations.get(index)?)))
            }
        }
    }

    /// What is selected.
    pub(super) fn current(&self) -> Option<(&ServiceStatus, Option<&DestinationStatus>)> {
        self.of(*self.rows.get(self.selected)?)
    }

    fn keep_in_sight(&mut self) {
        self.selected = self.selected.min(self.rows.len().saturating_sub(1));
        let visible = draw::list_height(self).max(1);
        let last = self.rows.len().saturating_sub(visible);
        let lowest = (self.selected + 1).saturating_sub(visible);
        self.first = self.first.clamp(lowest, self.selected).min(last);
    }
}
