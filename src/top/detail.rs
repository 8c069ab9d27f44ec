//! The pane below the list: what is selected explained, or what happened last.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::app::{App, Shown};
use super::draw::{self, of_screen};
use super::words::{clean, head, width, wrap};
use crate::control::explain::{Explanation, Question};
use crate::control::explain_text::render;
use crate::control::status::{DestinationStatus, ServiceStatus};
use crate::events::Event;

const ASKING: &str = "asking the daemon …";

pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.width);
    let text = text(app, room);
    let body = usize::from(area.height.saturating_sub(1));
    let Some(detail) = &app.detail else { return };
    let scrolled = detail.scrolled.min(text.len().saturating_sub(body));
    let below = text.len().saturating_sub(scrolled + body);
    let more = if scrolled + below > 0 { "  PgUp PgDn scroll" } else { "" };
    let name = match detail.shows {
        Shown::Explanation(_) => "explain",
        Shown::Events(_) => "events, newest first",
    };
    let title = head(&format!("-- {name}  Esc close{more} "), room);
    let title = format!("{title}{}", "-".repeat(room.saturating_sub(width(&title))));
    let mut lines = vec![Line::styled(title, app.palette.title())];
    lines.extend(text.into_iter().skip(scrolled).take(body).map(Line::raw));
    draw::lines(frame, area, &lines);
}

impl App {
    /// One page of the pane.
    pub(super) fn scroll_detail(&mut self, forward: bool) {
        let area = of_screen(self).detail;
        let page = usize::from(area.height.saturating_sub(1)).max(1);
        let end = text(self, usize::from(area.width)).len().saturating_sub(page);
        let Some(detail) = &mut self.detail else { return };
        let at = detail.scrolled.min(end);
        detail.scrolled = if forward { (at + page).min(end) } else { at.saturating_sub(page) };
    }
}

/// Its lines, wrapped.
fn text(app: &App, room: usize) -> Vec<String> {
    let text = match app.detail.as_ref().map(|it| &it.shows) {
        Some(Shown::Explanation(answer)) => explanation(app, answer.as_ref()),
        Some(Shown::Events(answer)) => events(answer.as_ref()),
        None => String::new(),
    };
    text.lines().flat_map(|line| wrap(&clean(line), room)).collect()
}

fn explanation(app: &App, answer: Option<&(Question, Result<Box<Explanation>, String>)>) -> String {
    match app.current() {
        None => "nothing is selected".to_owned(),
        Some((service, None)) => of_service(service),
        Some((service, Some(it))) => match (app.question(), answer) {
            (None, _) => of_stranger(service, it),
            (Some(question), Some((of, Ok(explanation)))) if *of == question => render(explanation),
            (Some(question), Some((of, Err(why)))) if *of == question => why.clone(),
            (Some(_), _) => ASKING.to_owned(),
        },
    }
}

fn events(answer: Option<&Result<Vec<Event>, String>>) -> String {
    match answer {
        None => ASKING.to_owned(),
        Some(Err(why)) => why.clone(),
        Some(Ok(events)) if events.is_empty() => "nothing has happened yet".to_owned(),
        Some(Ok(events)) => events.iter().rev().map(|event| format!("{event}\n")).collect(),
    }
}

fn of_service(service: &ServiceStatus) -> String {
    let there = if service.in_kernel { "in the table" } else { "NOT IN THE TABLE" };
    let all = || service.destinations.iter();
    let active: u64 = all().map(|it| u64::from(it.connections.active)).sum();
    let inactive: u64 = all().map(|it| u64::from(it.connections.inactive)).sum();
    format!(
        "{}, {}: {there}\n  settings   {}\n  has        {} destinations, {active} active \
         and {inactive} inactive connections\nSelect a destination to have it explained.",
        service.service,
        service.origin(),
        service.config,
        service.destinations.len()
    )
}

/// A destination that no policy declares has nothing the daemon could explain.
fn of_stranger(service: &ServiceStatus, it: &DestinationStatus) -> String {
    format!("{} in {}\n  why        {}", it.label(), service.service, it.why)
}
