//! The two text formats of metrics, to the letter: Prometheus 0.0.4 and OpenMetrics 1.0.
//!
//! Where they differ: OpenMetrics names the family of a counter without `_total` and of an info
//! without `_info`, escapes quotes in help, writes bounds as decimals and ends with `# EOF`.

use std::fmt::{Display, Write as _};

use crate::probe::histogram::Histogram;

/// Which format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What a client accepts, by its `Accept` header.
    pub fn accepted(accept: &str) -> Self {
        let wanted = |part: &str| {
            let mut words = part.split(';').map(str::trim);
            let refused = |word: &str| matches!(word, "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
            words.next() == Some("application/openmetrics-text") && !words.any(refused)
        };
        if accept.split(',').any(wanted) { Self::OpenMetrics } else { Self::Text }
    }

    /// Its content type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the numbers of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// They only grow; the name gets `_total`.
    Counter,
    /// They go up and down.
    Gauge,
    /// Durations in buckets; the name gets `_bucket`, `_sum` and `_count`.
    Histogram,
    /// Always 1: the labels say something; the name gets `_info`.
    Info,
}

/// A page of metrics under construction.
#[derive(Debug)]
pub struct Page {
    format: Format,
    text: String,
}

impl Page {
    /// An empty one.
    pub fn new(format: Format) -> Self {
        Self { format, text: String::new() }
    }

    /// Begins a family; its samples must follow at once.
    pub fn family(&mut self, kind: Kind, name: &'static str, help: &str) -> Family<'_> {
        let is_open = self.format == Format::OpenMetrics;
        let suffix = match kind {
            Kind::Counter => "_total",
            Kind::Info => "_info",
            Kind::Gauge | Kind::Histogram => "",
        };
        let family = if is_open { "" } else { suffix };
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Info if is_open => "info",
            Kind::Gauge | Kind::Info => "gauge",
        };
        let help = escape(help, is_open);
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {name}{family} {help}");
        let _ = writeln!(self.text, "# TYPE {name}{family} {word}");
        Family { page: self, name, suffix }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, kind: Kind, name: &'static str, help: &str, value: impl Display) {
        self.family(kind, name, help).sample(&Labels::default(), value);
    }

    /// The finished text.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text += "# EOF\n";
        }
        self.text
    }
}

/// A family that takes samples.
#[derive(Debug)]
pub struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
    suffix: &'static str,
}

impl Family<'_> {
    /// One number. No two samples of a family may have the same labels.
    pub fn sample(&mut self, labels: &Labels, value: impl Display) {
        self.line(self.suffix, labels, value);
    }

    /// One number without labels, if there is one.
    pub fn optional(&mut self, value: Option<impl Display>) {
        if let Some(value) = value {
            self.sample(&Labels::default(), value);
        }
    }

    /// One histogram, in seconds.
    pub fn histogram(&mut self, labels: &Labels, histogram: &Histogram) {
        let mut total = 0;
        for (index, count) in histogram.counts.iter().enumerate() {
            total += count;
            let bound = histogram.bounds.get(index);
            let bound = bound.map_or("+Inf".to_owned(), |millis| self.bound(*millis));
            self.line("_bucket", &labels.and("le", &bound), total);
        }
        self.line("_sum", labels, histogram.sum.as_secs_f64());
        self.line("_count", labels, total);
    }

    fn bound(&self, millis: u64) -> String {
        let seconds = millis as f64 / 1000.0;
        match self.page.format {
            Format::Text => seconds.to_string(),
            // `1.0`, where Display writes `1`.
            Format::OpenMetrics => format!("{seconds:?}"),
        }
    }

    fn line(&mut self, suffix: &str, Labels(labels): &Labels, value: impl Display) {
        let (text, name) = (&mut self.page.text, self.name);
        // Writing to a string does not fail.
        let _ = match labels.as_str() {
            "" => writeln!(text, "{name}{suffix} {value}"),
            labels => writeln!(text, "{name}{suffix}{{{labels}}} {value}"),
        };
    }
}

/// Labels as they are written, `a="1",b="2"`; made once for all families that share them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// These names with these values.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        pairs.iter().fold(Self::default(), |labels, (name, value)| labels.and(name, value))
    }

    /// The same and one more.
    #[must_use]
    pub fn and(&self, name: &str, value: &str) -> Self {
        let comma = if self.0.is_empty() { "" } else { "," };
        Self(format!("{}{comma}{name}=\"{}\"", self.0, escape(value, true)))
    }
}

fn escape(text: &str, quotes: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' => escaped += "\\\\",
            '\n' => escaped += "\\n",
            '"' if quotes => escaped += "\\\"",
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn page(format: Format) -> String {
        let mut page = Page::new(format);
        let mut family = page.family(Kind::Counter, "pointsman_x", "A \"b\" \\ c\nd");
        family.sample(&Labels::of(&[("a", "q\"b\\n\nz"), ("b", "")]), u64::MAX);
        page.family(Kind::Info, "pointsman_build", "Build").sample(&Labels::of(&[("v", "1")]), 1);
        page.single(Kind::Gauge, "pointsman_g", "G", 0.5);
        let mut histogram = Histogram::new(&[500, 1000]);
        for millis in [1, 500, 600, 2000] {
            histogram.count(Duration::from_millis(millis));
        }
        page.family(Kind::Histogram, "pointsman_h_seconds", "H")
            .histogram(&Labels::of(&[("a", "1")]), &histogram);
        page.finish()
    }

    #[test]
    fn text_as_prometheus_reads_it() {
        let expected = r#"# HELP pointsman_x_total A "b" \\ c\nd
# TYPE pointsman_x_total counter
pointsman_x_total{a="q\"b\\n\nz",b=""} 18446744073709551615
# HELP pointsman_build_info Build
# TYPE pointsman_build_info gauge
pointsman_build_info{v="1"} 1
# HELP pointsman_g G
# TYPE pointsman_g gauge
pointsman_g 0.5
# HELP pointsman_h_seconds H
# TYPE pointsman_h_seconds histogram
pointsman_h_seconds_bucket{a="1",le="0.5"} 2
pointsman_h_seconds_bucket{a="1",le="1"} 3
pointsman_h_seconds_bucket{a="1",le="+Inf"} 4
pointsman_h_seconds_sum{a="1"} 3.101
pointsman_h_seconds_count{a="1"} 4
"#;
        assert_eq!(page(Format::Text), expected);
    }

    #[test]
    fn the_same_as_openmetrics() {
        let text = page(Format::OpenMetrics);
        for line in [
            r#"# HELP pointsman_x A \"b\" \\ c\nd"#,
            "# TYPE pointsman_x counter",
            r#"pointsman_x_total{a="q\"b\\n\nz",b=""} 18446744073709551615"#,
            "# TYPE pointsman_build info",
            r#"pointsman_build_info{v="1"} 1"#,
            r#"pointsman_h_seconds_bucket{a="1",le="1.0"} 3"#,
        ] {
            assert!(text.lines().any(|it| it == line), "no `{line}` in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn the_format_is_the_one_accepted() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0, text/plain", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
