//! Every way in which a real server stops serving: out of the table within
//! `fall × interval + timeout`, from then on not one failed request, and back after `rise` passes.

use std::time::{Duration, Instant};

use crate::client::Request;
use crate::clock::{PATIENCE, SLACK, until};
use crate::daemon::{
    Daemon, FALL, INTERVAL, Policies, RISE, TIMEOUT, metrics, policy, status, total,
};
use crate::observer::{Lines, holds, services};
use crate::server::{Mode, RealServer};
use crate::site::{Site, VIP1};

pub(crate) fn under_direct() {
    let site = Site::new();
    let scenario = Scenario {
        keys: [format!("tcp://{VIP1}:80"), format!("tcp://{VIP1}:443")],
        entries: [format!("tcp://{VIP1}:80"), format!("tcp://{VIP1}:443")],
        ports: [80, 443],
        forwarding: "direct",
    };
    scenario.play(&site);
}

pub(crate) fn under_masq() {
    let site = Site::new();
    let keys = [format!("tcp://{VIP1}:80"), format!("tcp://{VIP1}:443")];
    let entry = |key: &str, port| format!("{{ service: \"{key}\", port: {port} }}");
    let scenario = Scenario {
        entries: [entry(&keys[0], 8080), entry(&keys[1], 8443)],
        keys,
        ports: [8080, 8443],
        forwarding: "masq",
    };
    let (policies, daemon) = scenario.play(&site);
    counted();
    scenario.quiesce(&site, &policies);
    drop(daemon);
}

/// What the kernel has counted is what clients did, in both directions.
fn counted() {
    // Connections that have ended are inactive for a while; the kernel adds the rest up every two
    // seconds.
    let sums = until("the traffic is counted", PATIENCE, || {
        let page = metrics();
        let sum = |family: &str, label: &str| total(&page, &format!("pointsman_{family}{{"), label);
        let sums = ["in", "out"].map(|direction| {
            let label = format!("direction=\"{direction}\"");
            ["service_packets_total", "service_bytes_total"]
                .into_iter()
                .chain(["destination_packets_total", "destination_bytes_total"])
                .map(|family| sum(family, &label))
                .collect::<Vec<_>>()
        });
        let made = sum("service_new_connections_total", "");
        let all_added_up = sums.iter().all(|sums| sums[0] >= 3 * made && sums[1] > 40 * sums[0]);
        let inactive = sum("destination_connections", "state=\"inactive\"");
        println!("  {made} connections, {inactive} of them inactive, in and out {sums:?}");
        (made > 100 && all_added_up && inactive > 0).then_some(sums)
    });
    // What came back counts on, or anew if the kernel had forgotten it.
    for [service_packets, service_bytes, packets, bytes] in
        sums.map(|sums| <[u64; 4]>::try_from(sums).unwrap())
    {
        assert!((1..=service_packets).contains(&packets), "{packets} of {service_packets}");
        assert!((1..=service_bytes).contains(&bytes), "{bytes} of {service_bytes}");
    }
}

struct Scenario {
    keys: [String; 2],
    entries: [String; 2],
    ports: [u16; 2],
    forwarding: &'static str,
}

/// When a real server failed and when that was seen in the table.
struct Outage {
    failed: Instant,
    gone: Instant,
}

impl Outage {
    fn excuses(&self, request: &Request) -> bool {
        request.ended >= self.failed && request.begun <= self.gone
    }
}

impl Scenario {
    fn play(&self, site: &Site) -> (Policies, Daemon) {
        let policies = Policies::new("www.yaml", &self.policy(site, "remove"));
        let daemon = Daemon::start(&policies, &[]);
        let full = self.table(&site.addresses());
        site.table.until_exactly("all in", PATIENCE, &full);
        let targets = [&format!("{VIP1}:80")[..], &format!("{VIP1}:443")];
        let traffic = site.traffic(&targets);
        let mut outages = Vec::new();
        let modes = [Mode::Hang, Mode::Unavailable, Mode::Refuse, Mode::Reset, Mode::Unplugged];
        for (mode, victim) in modes.into_iter().zip(site.servers.iter().cycle()) {
            traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
            let outage = self.fail(site, victim, mode);
            traffic.carry_on(100);
            self.recover(site, victim, mode);
            outages.push(outage);
        }
        traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
        let requests = traffic.stop();
        site.assert_none_failed(&requests, |it| outages.iter().any(|outage| outage.excuses(it)));
        assert_eq!(status().table.drift_repaired, 0);
        (policies, daemon)
    }

    /// A real server fails and goes; the others stay.
    fn fail(&self, site: &Site, victim: &RealServer, mode: Mode) -> Outage {
        let others: Vec<_> =
            site.addresses().into_iter().filter(|address| *address != victim.address).collect();
        let failed = victim.turn(mode);
        let limit = INTERVAL * FALL + TIMEOUT;
        let what = format!("{mode:?}: out");
        let gone = site.table.until_exactly(&what, limit + SLACK, &self.table(&others));
        println!(
            "  {} {mode:?}: out after {:?} (at most {limit:?})",
            self.forwarding,
            gone - failed
        );
        let answers = victim.probes_since(failed);
        let last = answers.iter().rfind(|probe| probe.at <= gone);
        if let Some(last) = last.filter(|_| mode == Mode::Unavailable) {
            println!("    from its last answer to the table: {:?}", gone - last.at);
        }
        Outage { failed, gone }
    }

    /// It serves again and comes back, not before enough passes.
    fn recover(&self, site: &Site, server: &RealServer, mode: Mode) {
        let served = server.turn(Mode::Serve);
        let limit = INTERVAL * RISE + TIMEOUT;
        let full = self.table(&site.addresses());
        let back = site.table.until_exactly("back", limit + SLACK, &full);
        let answers = server.probes_since(served);
        let passes = answers.iter().filter(|probe| probe.passed && probe.at <= back).count();
        println!(
            "  {} {mode:?}: back after {:?} (at most {limit:?}) and {passes} passes",
            self.forwarding,
            back - served
        );
        assert_eq!(passes, RISE as usize);
    }

    /// With `on_down: quiesce` a real server that is merely slow loses no request at all: those it
    /// has go on, new ones go elsewhere.
    fn quiesce(&self, site: &Site, policies: &Policies) {
        policies.replace("www.yaml", &self.policy(site, "quiesce"));
        let targets = [&format!("{VIP1}:80")[..], &format!("{VIP1}:443")];
        let traffic = site.traffic(&targets);
        traffic.hears(&["rs232", "rs233", "rs234", "rs235"]);
        // The policy is in force when there is no other way for the real server to go.
        crate::daemon::until_status("the edit is in force", |status| status.policies.reloads == 1);
        let victim = &site.servers[0];
        victim.turn(Mode::Slow);
        let still = |port| format!("{}:{port} weight 0 masq", victim.address);
        let limit: Duration = INTERVAL * FALL + TIMEOUT + SLACK;
        site.table.until("quiesced", limit, |lines| {
            let is_still =
                |(key, port): (&String, _)| lines.contains(&format!("{key} {}", still(port)));
            self.keys.iter().zip(self.ports).all(is_still)
        });
        traffic.carry_on(100);
        victim.turn(Mode::Serve);
        let full = self.table(&site.addresses());
        site.table.until_exactly("at work again", PATIENCE, &full);
        traffic.hears(&["rs232"]);
        let requests = traffic.stop();
        site.assert_none_failed(&requests, |_| false);
        assert!(holds(&site.table.lines(), &victim.address));
    }

    fn policy(&self, site: &Site, on_down: &str) -> String {
        let settings = format!("forwarding: {}\nweight: 80\non_down: {on_down}", self.forwarding);
        let entries = self.entries.each_ref().map(String::as_str);
        policy(&entries, &settings, &site.addresses(), self.ports[0])
    }

    fn table(&self, addresses: &[&str]) -> Lines {
        let mut lines = Lines::new();
        for (key, port) in self.keys.iter().zip(self.ports) {
            let destinations: Vec<_> = addresses
                .iter()
                .map(|address| format!("{address}:{port} weight 80 {}", self.forwarding))
                .collect();
            lines.extend(services(&[key], "rr", &destinations));
        }
        lines
    }
}
