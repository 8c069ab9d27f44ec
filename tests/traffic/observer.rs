//! Looks at the director's table the whole time, through this crate's netlink code, and remembers
//! every state it was in.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use pointsman::ipvs::Ipvs;
use pointsman::ipvs::model::Table;
use pointsman::ipvs::netlink::Netlink;

use crate::clock::{now, rest};
use crate::common::netns::Machine;

/// A table as lines, `tcp://192.0.2.1:80 wlc` and `tcp://192.0.2.1:80 10.0.0.1:80 weight 1 direct`.
pub(crate) type Lines = BTreeSet<String>;

/// A thread that looks every few milliseconds.
#[derive(Debug)]
pub(crate) struct Observer {
    seen: Arc<Mutex<Vec<State>>>,
    stop: Arc<AtomicBool>,
}

/// A state of the table.
#[derive(Debug, Clone)]
struct State {
    /// When it had been read for the first time.
    since: Instant,
    /// When it began to be read for the last time.
    still: Instant,
    table: Table,
    lines: Lines,
}

impl Observer {
    pub(crate) fn start(director: &Machine) -> Self {
        let mut kernel = director.within(|| Netlink::open().unwrap());
        let (seen, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let observer = Self { seen: Arc::clone(&seen), stop: Arc::clone(&stop) };
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                look(&mut kernel, &seen);
                rest();
            }
        });
        observer
    }

    /// Waits for a state, to be read anew; when it was first seen.
    pub(crate) fn until(
        &self,
        what: &str,
        limit: Duration,
        is_it: impl Fn(&Lines) -> bool,
    ) -> Instant {
        let begun = now();
        loop {
            let last = self.seen.lock().unwrap().last().cloned();
            if let Some(state) = last.as_ref().filter(|state| state.still >= begun)
                && is_it(&state.lines)
            {
                return state.since.max(begun);
            }
            let lines = last.map(|state| state.lines);
            assert!(now() < begun + limit, "not within {limit:?}: {what}; the table: {lines:#?}");
            rest();
        }
    }

    /// Waits until the table is exactly this; when it was.
    pub(crate) fn until_exactly(&self, what: &str, limit: Duration, lines: &Lines) -> Instant {
        self.until(&format!("{what}: {lines:#?}"), limit, |seen| seen == lines)
    }

    /// Waits until there are so many services that lead probes.
    pub(crate) fn until_private(&self, what: &str, number: usize) {
        crate::clock::until(what, crate::clock::PATIENCE, || {
            let seen = self.seen.lock().unwrap();
            let table = &seen.last()?.table;
            (table.keys().filter(|key| key.is_private()).count() == number).then_some(())
        });
    }

    /// The table as it is now.
    pub(crate) fn lines(&self) -> Lines {
        self.until("the table can be read", crate::clock::PATIENCE, |_| true);
        self.seen.lock().unwrap().last().unwrap().lines.clone()
    }

    /// How many states there were since, the one at that moment included.
    pub(crate) fn states_since(&self, moment: Instant) -> Vec<Lines> {
        self.lines();
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|state| state.still >= moment).map(|it| it.lines.clone()).collect()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn look(kernel: &mut Netlink, seen: &Mutex<Vec<State>>) {
    let still = now();
    // Disturbed reads are possible while the daemon writes; the next look is soon.
    let Ok(mut table) = kernel.table() else { return };
    let since = now();
    for service in table.values_mut() {
        service.traffic = Default::default();
        for destination in service.destinations.values_mut() {
            *destination = pointsman::ipvs::model::Destination::new(destination.config);
        }
    }
    let mut seen = seen.lock().unwrap();
    match seen.last_mut() {
        Some(last) if last.table == table => last.still = still,
        _ => seen.push(State { since, still, lines: lines(&table), table }),
    }
}

/// Those of users; what leads probes is apart.
fn lines(table: &Table) -> Lines {
    let mut lines = Lines::new();
    for (key, service) in table.iter().filter(|(key, _)| !key.is_private()) {
        lines.insert(format!("{key} {}", service.config));
        for (destination, found) in &service.destinations {
            lines.insert(format!("{key} {destination} {}", found.config));
        }
    }
    lines
}

/// The lines of services that have the same settings and destinations.
pub(crate) fn services(keys: &[&str], config: &str, destinations: &[String]) -> Lines {
    let mut lines = Lines::new();
    for key in keys {
        lines.insert(format!("{key} {config}"));
        lines.extend(destinations.iter().map(|destination| format!("{key} {destination}")));
    }
    lines
}

/// The lines of `rr` services with these real servers under `direct`, all of one weight.
pub(crate) fn direct(keys: &[&str], weight: u32, addresses: &[&str]) -> Lines {
    let mut lines = Lines::new();
    for key in keys {
        let port = key.rsplit_once(':').unwrap().1;
        let destination = |address| format!("{address}:{port} weight {weight} direct");
        let destinations: Vec<_> = addresses.iter().map(destination).collect();
        lines.extend(services(&[key], "rr", &destinations));
    }
    lines
}

/// Whether a real server is anywhere in a table.
pub(crate) fn holds(lines: &Lines, address: &str) -> bool {
    let (inet, inet6) = (format!(" {address}:"), format!(" [{address}]:"));
    lines.iter().any(|line| line.contains(&inet) || line.contains(&inet6))
}
