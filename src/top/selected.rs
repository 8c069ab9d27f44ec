//! What is known of the selected line beyond its row, for which most terminals have no room there:
//! how long its last probes took, and its traffic.

use ratatui::text::{Line, Span};

use super::app::App;
use super::list::CURVE;
use super::words::head;

/// Columns of what a line is about, as in the header.
const TITLE: usize = 9;
/// What is said of a curve beside it.
const WORDS: usize = 42;

/// How many lines it takes, whatever is selected, so that the list stays where it is.
pub(super) fn height(app: &App) -> u16 {
    u16::from(!app.curves.is_empty()) + u16::from(app.is_measured())
}

/// As many lines as that.
pub(super) fn lines(app: &App, room: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if !app.curves.is_empty() {
        lines.push(line(app, "latency", latency(app, room.saturating_sub(TITLE))));
    }
    if app.is_measured() {
        lines.push(line(app, "traffic", vec![Span::raw(traffic(app))]));
    }
    lines
}

impl App {
    /// Whether the table says how fast its traffic comes: all of it or nothing.
    pub(super) fn is_measured(&self) -> bool {
        let services = self.picture.iter().flat_map(|picture| &picture.status.services);
        services.into_iter().any(|service| service.rates.is_some())
    }
}

/// The curve, then what there is room for.
fn latency(app: &App, room: usize) -> Vec<Span<'static>> {
    let columns = room.saturating_sub(WORDS).max(CURVE);
    let curve = app.current().and_then(|(service, destination)| {
        let real_server = destination?.real_server.as_deref()?;
        app.curves.of(service.policy.as_deref()?, real_server, columns)
    });
    let Some(curve) = curve else { return vec![Span::raw("-")] };
    let mut spans = curve.spans(app.palette);
    spans.push(Span::raw(head(&format!("  {}", curve.words()), room.saturating_sub(spans.len()))));
    spans
}

fn traffic(app: &App) -> String {
    let rates = app.current().and_then(|(service, destination)| match destination {
        None => service.rates,
        Some(destination) => destination.rates,
    });
    rates.map_or("-".to_owned(), |rates| rates.to_string())
}

fn line(app: &App, title: &str, mut words: Vec<Span<'static>>) -> Line<'static> {
    words.insert(0, Span::styled(format!("{title:<TITLE$}"), app.palette.title()));
    let line = Line::from(words);
    let old = app.trouble.is_some();
    if old { line.patch_style(app.palette.faint()) } else { line }
}
