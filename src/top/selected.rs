//! What is known of the selected line beyond its row, for which most terminals have no room there.

use ratatui::text::{Line, Span};

use super::app::App;
use crate::control::status::Status;

/// Columns of what a line is about, as in the header.
const TITLE: usize = 9;

/// How many lines it takes, whatever is selected, so that the list stays where it is.
pub(super) fn height(app: &App) -> u16 {
    app.picture.as_ref().is_some_and(|it| is_measured(&it.status)).into()
}

/// As many lines as that.
pub(super) fn lines(app: &App) -> Vec<Line<'static>> {
    let Some(picture) = &app.picture else { return Vec::new() };
    let mut lines = Vec::new();
    if is_measured(&picture.status) {
        lines.push(line(app, "traffic", vec![Span::raw(traffic(app))]));
    }
    lines
}

/// Whether the table says how fast its traffic comes: all of it or nothing.
fn is_measured(status: &Status) -> bool {
    status.services.iter().any(|service| service.rates.is_some())
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
