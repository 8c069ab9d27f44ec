//! Whole families of metrics as a table of samples, compared with a page.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::http::get;
use crate::scratch::{DEADLINE, within};

/// What a sample is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Is {
    /// This number.
    Exactly(f64),
    /// A moment or a duration, in seconds.
    Between(f64, f64),
}

/// What whole families are: each series, as it is written, with its value.
#[derive(Debug, Default)]
pub(crate) struct Table(pub(crate) BTreeMap<&'static str, BTreeMap<String, Is>>);

impl Table {
    /// A sample of a family with these labels, as they are written.
    pub(crate) fn add(&mut self, family: &'static str, labels: &str, is: Is) {
        self.series(family, "", labels, is);
    }

    pub(crate) fn number(&mut self, family: &'static str, labels: &str, number: impl Into<f64>) {
        self.add(family, labels, Is::Exactly(number.into()));
    }

    /// A family without labels.
    pub(crate) fn one(&mut self, family: &'static str, number: impl Into<f64>) {
        self.number(family, "", number);
    }

    fn series(&mut self, family: &'static str, suffix: &str, labels: &str, is: Is) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let before =
            self.0.entry(family).or_default().insert(format!("{family}{suffix}{labels}"), is);
        assert_eq!(before, None, "{family}{labels} twice");
    }

    /// A histogram of so many probes that took some time, with buckets up to these bounds.
    pub(crate) fn histogram(
        &mut self,
        family: &'static str,
        labels: &str,
        bounds: &[&str],
        count: u32,
    ) {
        let count = f64::from(count);
        let comma = if labels.is_empty() { "" } else { "," };
        for bound in bounds {
            let labels = format!("{labels}{comma}le=\"{bound}\"");
            self.series(family, "_bucket", &labels, Is::Between(0.0, count));
        }
        self.series(family, "_bucket", &format!("{labels}{comma}le=\"+Inf\""), Is::Exactly(count));
        self.series(family, "_count", labels, Is::Exactly(count));
        self.series(family, "_sum", labels, Is::Between(0.0, 60.0 * count));
    }

    /// What is otherwise on a page.
    fn differences(&self, page: &str) -> Vec<String> {
        let found = samples(page);
        let mut differences = Vec::new();
        for (family, expected) in &self.0 {
            let found = found.get(*family).cloned().unwrap_or_default();
            for (series, is) in expected {
                let fits = found.get(series).is_some_and(|value| match is {
                    Is::Exactly(number) => value == number,
                    Is::Between(least, most) => (*least..=*most).contains(value),
                });
                if !fits {
                    differences.push(format!("{series} {:?}, not {is:?}", found.get(series)));
                }
            }
            let others = found.keys().filter(|series| !expected.contains_key(*series));
            differences.extend(others.map(|series| format!("{series} is not expected")));
        }
        differences
    }

    /// Waits for a page that is so.
    #[track_caller]
    pub(crate) fn holds(&self, name: &str, address: SocketAddr) {
        let mut differences = Vec::new();
        let holds = within(DEADLINE, || {
            differences = self.differences(&get(address, "/metrics").is(200).body);
            differences.is_empty()
        });
        assert!(holds, "{name}:\n{}", differences.join("\n"));
    }
}

/// The samples of each family of a page.
fn samples(page: &str) -> BTreeMap<&str, BTreeMap<String, f64>> {
    let mut families: BTreeMap<&str, BTreeMap<String, f64>> = BTreeMap::new();
    let mut family = "";
    for line in page.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            family = words.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap();
            families.entry(family).or_default().insert(series.to_owned(), value);
        }
    }
    families
}
