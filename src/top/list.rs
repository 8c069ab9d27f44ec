//! The list of virtual services and their destinations. Only what is to be seen is put into words.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::app::App;
use super::draw::lines;
use super::rows::Row;
use super::words::{clean, head, padded, tail, width};
use crate::control::rates::size;
use crate::control::status::{DestinationStatus, ServiceStatus};
use crate::control::text::age;

/// What is left for WHY before less important columns are shown.
const WHY: usize = 24;
/// The widest destinations: an IPv6 address with a port, and then some.
const WIDEST: usize = 47;
/// The widest ones of IPv4.
const IPV4: usize = 21;
/// As many probes as the curve of a line has.
pub(super) const CURVE: usize = 12;
/// Three columns of rates.
const RATES: usize = 24;

/// Draws headings and as many lines as there is room for.
pub(super) fn draw(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let room = usize::from(area.width);
    let rows: Vec<Row> =
        app.rows.iter().skip(app.first).take(usize::from(area.height)).copied().collect();
    let columns = Columns::of(app, &rows, room);
    let mut all = vec![Line::styled(columns.headings(), app.palette.title())];
    if rows.is_empty() {
        all.push(Line::raw(head(&format!("  {}", empty(app)), room)));
    }
    for (number, row) in rows.iter().enumerate() {
        let line = columns.line(app, *row, app.first + number == app.selected);
        let old = app.trouble.is_some();
        all.push(if old { line.patch_style(app.palette.faint()) } else { line });
    }
    lines(frame, area, &all);
}

/// Why nothing is listed.
fn empty(app: &App) -> &'static str {
    match &app.picture {
        None => "",
        Some(_) if !app.view.filter.trim().is_empty() => "nothing matches (Esc drops the filter)",
        Some(_) if app.view.problems => "no problems (p shows everything)",
        Some(_) => "no virtual services",
    }
}

/// Which columns there are, and how wide.
struct Columns {
    room: usize,
    destination: usize,
    weight: usize,
    since: bool,
    connections: bool,
    latency: bool,
    rates: bool,
}

impl Columns {
    /// As wide as what is to be seen needs; what does not fit is left out, WHY last.
    fn of(app: &App, rows: &[Row], room: usize) -> Self {
        let shown = || rows.iter().filter_map(|row| app.of(*row)?.1);
        let widest = |cell: fn(&DestinationStatus) -> String, heading: &str| {
            shown().map(|it| width(&cell(it))).max().unwrap_or(0).max(heading.len())
        };
        let destination = widest(|it| it.label(), "DESTINATION");
        // Steps of four, so that scrolling moves columns seldom.
        let destination = destination.next_multiple_of(4).min(WIDEST).min((room / 3).max(IPV4));
        let mut columns = Self {
            room,
            destination,
            weight: widest(weight, "WEIGHT"),
            since: false,
            connections: false,
            latency: false,
            rates: false,
        };
        columns.connections = columns.why() >= WHY + 18;
        columns.since = columns.why() >= WHY + 11;
        columns.latency = columns.why() >= WHY + CURVE + 2 && !app.curves.is_empty();
        columns.rates = columns.why() >= WHY + RATES && app.is_measured();
        columns
    }

    /// What is left for WHY.
    fn why(&self) -> usize {
        let since = if self.since { 11 } else { 0 };
        let connections = if self.connections { 18 } else { 0 };
        let latency = if self.latency { CURVE + 2 } else { 0 };
        let rates = if self.rates { RATES } else { 0 };
        let fixed = 4 + self.destination + 2 + 9 + self.weight + 2 + since + connections;
        let fixed = fixed + latency + rates;
        self.room.saturating_sub(fixed)
    }

    fn headings(&self) -> String {
        let mut text = format!("    {}  HEALTH   ", padded("DESTINATION", self.destination));
        if self.since {
            text += "SINCE      ";
        }
        text += &format!("{}  ", padded("WEIGHT", self.weight));
        if self.connections {
            text += "ACTIVE  INACTIVE  ";
        }
        if self.rates {
            text += "CONN/S  IN/S    OUT/S   ";
        }
        if self.latency {
            text += &padded("LATENCY", CURVE + 2);
        }
        head(&(text + "WHY"), self.room)
    }

    fn line(&self, app: &App, row: Row, selected: bool) -> Line<'static> {
        let cursor = if selected { ">" } else { " " };
        let line = match (row, app.of(row)) {
            (Row::Service { up, of, problem, .. }, Some((service, _))) => {
                let fold = if app.is_collapsed(row) { "+" } else { "-" };
                let line = format!("{cursor}{fold} {}", title(service, up, of));
                let problem = problem && app.is_collapsed(row) || up == 0 && of > 0;
                let style = if problem { app.palette.bad() } else { app.palette.title() };
                Line::styled(padded(&head(&line, self.room), self.room), style)
            }
            (Row::Destination { problem, .. }, Some((service, Some(it)))) => {
                self.destination(app, (service, it), cursor, problem)
            }
            _ => Line::default(),
        };
        if selected { line.style(app.palette.selected()) } else { line }
    }

    fn destination(
        &self,
        app: &App,
        (service, it): (&ServiceStatus, &DestinationStatus),
        cursor: &str,
        problem: bool,
    ) -> Line<'static> {
        let mark = if problem { "!" } else { " " };
        let key = tail(&clean(&it.label()), self.destination);
        let before = format!("{cursor}{mark}  {}  ", padded(&key, self.destination));
        let (health, style) = match it.real_server {
            Some(_) => (it.health.to_string(), app.palette.health(it.health)),
            None => ("-".to_owned(), app.palette.doubtful()),
        };
        let mut after = String::new();
        if self.since {
            let since = it.since.map_or("-".to_owned(), age);
            after += &padded(&head(&since, 9), 11);
        }
        let weights = padded(&weight(it), self.weight + 2);
        let differs = it.weight_wanted != it.weight_kernel;
        let differs = if differs { app.palette.bad() } else { Style::new() };
        let mut last = String::new();
        if self.connections {
            last = format!("{:<6}  {:<8}  ", it.connections.active, it.connections.inactive);
        }
        if self.rates {
            let rates = it.rates.as_ref();
            let cell = |text: Option<String>| padded(&text.unwrap_or("-".to_owned()), 8);
            last += &cell(rates.map(|it| it.connections.to_string()));
            last += &cell(rates.map(|it| size(it.bytes_in)));
            last += &cell(rates.and_then(|it| it.bytes_out).map(size));
        }
        let mut spans = vec![
            Span::raw(before),
            Span::styled(format!("{health:<9}"), style),
            Span::raw(after),
            Span::styled(weights, differs),
            Span::raw(last),
        ];
        if self.latency {
            spans.extend(curve(app, service, it));
        }
        spans.push(Span::raw(padded(&head(&clean(&it.why), self.why()), self.why())));
        Line::from(spans)
    }
}

/// The newest probes are to the right, one below the other.
fn curve(app: &App, service: &ServiceStatus, it: &DestinationStatus) -> Vec<Span<'static>> {
    let of = service.policy.as_deref().zip(it.real_server.as_deref());
    let curve = of.and_then(|(policy, name)| app.curves.of(policy, name, CURVE));
    let spans = curve.map(|curve| curve.spans(app.palette)).unwrap_or_default();
    let mut all = vec![Span::raw(" ".repeat(CURVE - spans.len()))];
    all.extend(spans);
    all.push(Span::raw("  "));
    all
}

/// `tcp://192.0.2.1:80  2 of 3 up  policy www  wlc`, or that it leaves.
fn title(service: &ServiceStatus, up: usize, of: usize) -> String {
    let missing = if service.in_kernel { "" } else { "NOT IN THE TABLE  " };
    let (key, origin, config) = (service.service, service.origin(), &service.config);
    let rates = service.rates.map_or(String::new(), |rates| format!("  {rates}"));
    let state = match service.policy {
        Some(_) => format!("{up} of {of} up"),
        None => "leaves".to_owned(),
    };
    clean(&format!("{key}  {state}  {missing}{origin}{rates}  {config}"))
}

/// Wanted and in the table.
fn weight(it: &DestinationStatus) -> String {
    let text = |weight: Option<u32>| weight.map_or("-".to_owned(), |weight| weight.to_string());
    format!("{}/{}", text(it.weight_wanted), text(it.weight_kernel))
}
