use super::*;
use crate::policy::load::load;
use crate::policy::model::TargetId;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[expect(clippy::disallowed_methods, reason = "any instant will do as the beginning")]
fn beginning() -> Instant {
    Instant::now()
}

/// Policies over real servers `10.0.0.N`: one entry each, the ports of its checks.
fn site(policies: &[(&[u8], &[u16])]) -> PolicySet {
    let policy = |(number, (hosts, ports)): (usize, &(&[u8], &[u16]))| {
        let servers: Vec<_> = hosts.iter().map(|host| format!("10.0.0.{host}")).collect();
        let checks: Vec<_> = ports.iter().map(|port| format!("tcp: {{ port: {port} }}")).collect();
        format!(
            "name: p{number}\nvirtual_services: [tcp://192.0.2.{}:80]\nreal_servers: [{}]\nchecks: [{}]\n",
            number + 1,
            servers.join(", "),
            checks.join(", ")
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let text: Vec<String> = policies.iter().enumerate().map(policy).collect();
    std::fs::write(directory.path().join("site.yaml"), text.join("---\n")).unwrap();
    load(directory.path()).unwrap_or_else(|problems| panic!("{}", problems[0])).set
}

fn limit(most: Share) -> BlastLimit {
    BlastLimit { most: Some(most), window: Duration::from_secs(60) }
}

/// A wave over a site whose verdicts are set by address and port.
struct Play {
    set: PolicySet,
    wave: Wave,
    health: Vec<Health>,
    start: Instant,
}

impl Play {
    fn new(limit: BlastLimit, policies: &[(&[u8], &[u16])]) -> Self {
        let set = site(policies);
        let mut wave = Wave::new(limit);
        assert_eq!(wave.set_policies(&set, |_| None, beginning()), None);
        let health = vec![Health::Up; set.targets.len()];
        Self { set, wave, health, start: beginning() }
    }

    /// The real servers of the first policy need so many of their checks.
    fn need(&mut self, needed: usize) {
        for server in &mut self.set.policies[0].real_servers {
            server.needed = needed;
        }
        assert_eq!(self.wave.set_policies(&self.set, Some, self.start), None);
    }

    fn target(&self, host: u8, port: u16) -> u32 {
        let address = format!("10.0.0.{host}:{port}").parse().unwrap();
        let found = self.set.targets.iter().position(|target| target.address == address);
        u32::try_from(found.unwrap()).unwrap()
    }

    fn turn(&mut self, second: u64, host: u8, port: u16, to: Health) -> Option<Event> {
        let target = self.target(host, port);
        let from = std::mem::replace(&mut self.health[target as usize], to);
        let now = self.start + Duration::from_secs(second);
        self.wave.turned(target, Transition { from, to }, false, now)
    }

    /// Turns down without a word.
    fn fall_silent(&mut self, second: u64, host: u8) -> Option<Event> {
        let target = self.target(host, 80);
        let from = std::mem::replace(&mut self.health[target as usize], Health::Down);
        let now = self.start + Duration::from_secs(second);
        self.wave.turned(target, Transition { from, to: Health::Down }, true, now)
    }

    fn down(&mut self, second: u64, host: u8) -> Option<Event> {
        self.turn(second, host, 80, Health::Down)
    }

    fn all_down(&mut self, second: u64, hosts: impl IntoIterator<Item = u8>) {
        for host in hosts {
            let _ = self.down(second, host);
        }
    }

    fn is_down(&self, host: u8) -> bool {
        self.health[self.target(host, 80) as usize] == Health::Down
    }

    fn up(&mut self, second: u64, host: u8) -> Option<Event> {
        self.turn(second, host, 80, Health::Up)
    }

    /// One that was left over fails a probe and goes.
    fn fail_on_parole(&mut self, second: u64, host: u8) -> Option<Event> {
        let target = self.target(host, 80);
        let from = self.probe(second, host, OutcomeKind::Fail, 1).unwrap();
        let now = self.start + Duration::from_secs(second);
        self.wave.turned(target, Transition { from, to: Health::Down }, false, now)
    }

    /// What came of a probe that began at a second, where `fall` is needed.
    fn probe(&mut self, second: u64, host: u8, kind: OutcomeKind, fall: u32) -> Option<Health> {
        let begun = self.start + Duration::from_secs(second);
        self.wave.probed(self.target(host, 80), kind, begun, fall)
    }

    fn held(&self) -> usize {
        let held = (0..self.health.len()).filter(|target| self.wave.held(*target as u32).is_some());
        held.count()
    }

    fn holds(&self) -> bool {
        self.wave.alarm(self.health.len()).is_some()
    }
}

fn is_tripped(event: Option<Event>) -> bool {
    matches!(event, Some(Event::Tripped(_)))
}

#[test]
fn more_than_the_limit_trips_it_and_all_of_the_wave_is_held() {
    for (most, hosts, trips_at) in [
        (Share::Count(2), 4, Some(3)),
        (Share::Count(1), 2, Some(2)),
        (Share::Count(4), 4, None),
        (Share::Percent(50), 10, Some(6)),
        (Share::Percent(50), 11, Some(6)),
        (Share::Percent(30), 20, Some(7)),
        // Too few for a share.
        (Share::Percent(50), 9, None),
    ] {
        let hosts: Vec<u8> = (1..=hosts).collect();
        let mut play = Play::new(limit(most), &[(&hosts, &[80])]);
        let events: Vec<_> = hosts.iter().map(|host| play.down(u64::from(*host), *host)).collect();
        let tripped = events.iter().position(|event| is_tripped(*event)).map(|index| index + 1);
        assert_eq!(tripped, trips_at, "{most:?} of {}", hosts.len());
        let held = if trips_at.is_some() { hosts.len() } else { 0 };
        assert_eq!(play.held(), held, "those before the trip and after it");
    }
}

#[test]
fn what_is_held_counts_as_what_it_was() {
    let mut play = Play::new(limit(Share::Count(1)), &[(&[1, 2, 3], &[80])]);
    play.health[0] = Health::Unknown;
    play.all_down(1, 1..=3);
    let held: Vec<_> = (0..3).map(|target| play.wave.held(target)).collect();
    assert_eq!(held, [Some(Health::Unknown), Some(Health::Up), Some(Health::Up)]);
    let alarm = play.wave.alarm(3).unwrap();
    assert_eq!((alarm.held, alarm.targets), (3, 3));
    assert_eq!(alarm.since, play.start + Duration::from_secs(1));
}

#[test]
fn one_dead_machine_is_one_however_much_is_on_it() {
    // Forty ports of one machine, and a second policy that asks it too.
    let ports: Vec<u16> = (80..112).collect();
    let mut play = Play::new(
        limit(Share::Count(1)),
        &[(&[1, 2, 3], &ports), (&[1, 2], &[200, 201, 202, 203, 204, 205, 206, 207])],
    );
    for port in ports.into_iter().chain(200..208) {
        assert_eq!(play.turn(1, 1, port, Health::Down), None, "port {port}");
    }
    assert!(is_tripped(play.turn(1, 3, 80, Health::Down)));
}

#[test]
fn an_application_that_dies_everywhere_is_no_ill_director() {
    // Three applications on each of ten machines; one of them has had a bad release.
    let hosts: Vec<u8> = (1..=10).collect();
    let policies: &[(&[u8], &[u16])] = &[(&hosts, &[80]), (&hosts, &[81]), (&hosts, &[82])];
    let mut play = Play::new(BlastLimit::default(), policies);
    for host in &hosts {
        assert_eq!(play.turn(1, *host, 81, Health::Down), None);
    }
    // Another one everywhere: now it looks different.
    let tripped = hosts.iter().filter(|host| is_tripped(play.turn(2, **host, 80, Health::Down)));
    assert_eq!(tripped.count(), 1);
}

#[test]
fn the_first_of_several_checks_takes_its_real_server_along() {
    // The quick check notices first, and its verdict alone would empty the services.
    let hosts: Vec<u8> = (1..=10).collect();
    let mut play = Play::new(BlastLimit::default(), &[(&hosts, &[80, 81, 82, 83])]);
    let tripped = hosts.iter().position(|host| is_tripped(play.down(1, *host)));
    assert_eq!(tripped, Some(5));
}

#[test]
fn a_real_server_is_hit_when_too_many_of_its_checks_are_down() {
    let hosts: Vec<u8> = (1..=10).collect();
    let mut play = Play::new(BlastLimit::default(), &[(&hosts, &[80, 81])]);
    play.need(1);
    let mut turn = |second, port| {
        hosts.iter().position(|host| is_tripped(play.turn(second, *host, port, Health::Down)))
    };
    assert_eq!(turn(1, 80), None, "the other check keeps all of them in");
    // However long ago that was, now nothing is left.
    assert_eq!(turn(1000, 81), Some(5));
}

#[test]
fn what_died_long_before_is_no_part_of_the_wave() {
    let mut play = Play::new(limit(Share::Count(1)), &[(&[1, 2, 3, 4], &[80])]);
    assert_eq!(play.down(0, 1), None);
    assert_eq!(play.down(61, 2), None);
    assert!(is_tripped(play.down(121, 3)));
    assert_eq!((play.held(), play.wave.held(play.target(1, 80))), (2, None));
    // While it holds nobody is too old.
    play.down(10_000, 4);
    assert_eq!(play.held(), 3);
}

#[test]
fn who_recovers_leaves_and_at_half_the_limit_it_is_over() {
    let mut play = Play::new(limit(Share::Count(4)), &[(&[1, 2, 3, 4, 5, 6], &[80])]);
    play.all_down(1, 1..=6);
    assert_eq!(play.held(), 6);
    (1..=3).for_each(|host| assert_eq!(play.up(2, host), None));
    assert_eq!(play.held(), 3, "three lost of a limit of four is not half");
    let ended = play.up(3, 4);
    assert!(matches!(ended, Some(Event::Ended(Extent { lost: 2, addresses: 6, targets: 2 }))));
    assert_eq!((play.held(), play.holds()), (2, false), "held until they fail once more");
    assert_eq!(play.up(4, 5), None);
    assert_eq!(play.held(), 1);
    // The one that is left belongs to no new wave, but a failure does.
    play.all_down(5, 1..=3);
    assert_eq!(play.fail_on_parole(6, 6), None);
    assert_eq!((play.held(), play.holds()), (0, false));
    assert!(is_tripped(play.down(7, 4)));
    assert_eq!(play.held(), 5);
}

#[test]
fn a_relapse_is_held_again_with_those_that_had_not_recovered() {
    let mut play = Play::new(limit(Share::Count(2)), &[(&[1, 2, 3, 4], &[80])]);
    play.all_down(1, 1..=4);
    for host in 1..=3 {
        let _ = play.up(2, host);
    }
    assert_eq!((play.held(), play.holds()), (1, false));
    play.all_down(3, 1..=2);
    assert!(is_tripped(play.fail_on_parole(3, 4)));
    assert_eq!(play.held(), 3);
}

#[test]
fn on_parole_only_failures_in_a_row_that_began_there_count() {
    use OutcomeKind::{Fail, Inconclusive, Pass};
    let mut play = Play::new(limit(Share::Count(2)), &[(&[1, 2, 3], &[80])]);
    play.all_down(1, 1..=3);
    assert_eq!(play.probe(1, 3, Fail, 1), None, "it is held, and not on parole");
    let _ = (play.up(9, 1), play.up(9, 2));
    assert_eq!((play.held(), play.holds()), (1, false));
    for (second, outcome) in [(8, Fail), (8, Fail), (9, Fail), (10, Pass), (11, Fail)] {
        assert_eq!(play.probe(second, 3, outcome, 2), None, "{outcome:?} in second {second}");
    }
    assert_eq!(play.probe(12, 3, Inconclusive, 2), None);
    assert_eq!(play.held(), 1);
    assert_eq!(play.probe(13, 3, Fail, 2), Some(Health::Up));
}

#[test]
fn who_flaps_within_the_wave_is_one() {
    let mut play = Play::new(limit(Share::Count(1)), &[(&[1, 2, 3], &[80])]);
    for second in 0..50 {
        assert_eq!(play.down(second, 1), None);
        assert_eq!(play.up(second, 1), None);
    }
    assert_eq!(play.down(50, 1), None);
    assert!(is_tripped(play.down(51, 2)));
}

#[test]
fn an_operator_releases_it_and_later_waves_trip_it_again() {
    let mut play = Play::new(limit(Share::Count(1)), &[(&[1, 2, 3, 4], &[80])]);
    assert_eq!(play.down(1, 1), None);
    assert_eq!(play.wave.release(), 0, "nobody is held yet");
    let _ = play.up(1, 1);
    play.all_down(1, 1..=2);
    assert!(play.holds());
    assert_eq!(play.wave.release(), 2);
    assert_eq!((play.held(), play.holds()), (0, false));
    assert_eq!(play.down(2, 3), None, "one more is below the limit again");
    assert!(is_tripped(play.down(3, 4)));
    assert_eq!(play.held(), 2);
}

#[test]
fn a_release_is_of_those_on_parole_and_of_those_of_the_next_wave() {
    let mut play = Play::new(limit(Share::Count(2)), &[(&[1, 2, 3, 4, 5], &[80])]);
    play.all_down(1, 1..=4);
    for host in 1..=3 {
        let _ = play.up(2, host);
    }
    assert_eq!((play.held(), play.holds()), (1, false), "one on parole");
    play.all_down(3, 1..=3);
    assert_eq!((play.held(), play.holds()), (4, true), "and three of the next wave");
    assert_eq!(play.wave.release(), 4);
    assert_eq!((play.held(), play.wave.release()), (0, 0));
}

#[test]
fn off_is_off() {
    let off = BlastLimit { most: None, ..BlastLimit::default() };
    let hosts: Vec<u8> = (1..=20).collect();
    let mut play = Play::new(off, &[(&hosts, &[80])]);
    assert!(hosts.iter().all(|host| play.down(1, *host).is_none()));
}

#[test]
fn what_leaves_the_policies_leaves_the_wave() {
    let mut play = Play::new(limit(Share::Count(2)), &[(&[1, 2, 3, 4], &[80])]);
    play.all_down(1, 1..=3);
    let fewer = site(&[(&[1, 4, 5], &[80])]);
    let old = play.set.targets.clone();
    let before = |target: u32| {
        let target = &fewer.targets[target as usize];
        old.iter().position(|old| old == target).map(|index| index as u32)
    };
    let event = play.wave.set_policies(&fewer, before, play.start);
    assert!(matches!(event, Some(Event::Ended(Extent { lost: 1, addresses: 3, targets: 1 }))));
    assert!(!play.holds());
}

#[test]
fn a_reload_that_changes_nothing_of_it_keeps_it() {
    let mut play = Play::new(limit(Share::Count(1)), &[(&[2, 3], &[80])]);
    play.all_down(1, 2..=3);
    let more = site(&[(&[1, 2, 3], &[80])]);
    assert_eq!(play.wave.set_policies(&more, |target| target.checked_sub(1), play.start), None);
    let held: Vec<_> = (0..3).map(|target| play.wave.held(target)).collect();
    assert_eq!(held, [None, Some(Health::Up), Some(Health::Up)]);
}

#[test]
fn of_few_addresses_a_share_takes_all_of_them_in_silence() {
    let silence = |limit: BlastLimit, hosts: &[u8], prepare: &dyn Fn(&mut Play)| {
        let mut play = Play::new(limit, &[(hosts, &[80])]);
        prepare(&mut play);
        let up: Vec<u8> = hosts.iter().copied().filter(|it| !play.is_down(*it)).collect();
        let events = up.iter().map(|host| play.fall_silent(100 + u64::from(*host), *host));
        let tripped = events.map(is_tripped).position(|it| it).map(|index| index + 1);
        (tripped, play.held())
    };
    let half = limit(Share::Percent(50));
    let nothing = |_: &mut Play| {};
    assert_eq!(silence(half, &[1, 2, 3, 4], &nothing), (Some(4), 4));
    assert_eq!(silence(half, &[1, 2], &nothing), (Some(2), 2));
    assert_eq!(silence(half, &[1], &nothing), (None, 0), "one dies by itself");
    assert_eq!(silence(limit(Share::Percent(100)), &[1, 2], &nothing), (None, 0));
    let one_spoke = |play: &mut Play| _ = play.down(99, 1);
    assert_eq!(silence(half, &[1, 2, 3], &one_spoke), (None, 0), "the network was there");
    let one_is_dead = |play: &mut Play| _ = play.fall_silent(1, 1);
    assert_eq!(silence(half, &[1, 2, 3], &one_is_dead), (Some(2), 2), "long before the wave");
    let apology = |play: &mut Play| {
        play.set.policies[0].sorry_server = play.set.policies[0].real_servers.pop();
        play.wave.set_policies(&play.set, Some, play.start);
    };
    assert_eq!(silence(half, &[1, 2, 3, 4], &apology), (None, 0), "somebody serves");
}

#[test]
fn of_few_addresses_the_first_that_is_back_ends_it() {
    let mut play = Play::new(limit(Share::Percent(50)), &[(&[1, 2, 3], &[80])]);
    let tripped = (1..=3).any(|host| is_tripped(play.fall_silent(1, host)));
    assert!(tripped && play.holds());
    assert!(matches!(play.up(9, 2), Some(Event::Ended(_))));
    assert_eq!((play.holds(), play.held()), (false, 2), "the others are on parole");
    assert_eq!(play.fail_on_parole(10, 1), None, "one failure trips nothing");
    assert_eq!(play.held(), 1);
}

#[test]
fn a_newcomer_that_nobody_has_asked_ends_nothing() {
    let mut play = Play::new(limit(Share::Percent(50)), &[(&[2, 3], &[80])]);
    let _ = (play.fall_silent(1, 2), play.fall_silent(1, 3));
    assert!(play.holds());
    let more = site(&[(&[1, 2, 3], &[80])]);
    assert_eq!(play.wave.set_policies(&more, |target| target.checked_sub(1), play.start), None);
    assert_eq!((play.holds(), play.wave.held(1)), (true, Some(Health::Up)));
    let none = site(&[(&[1], &[80])]);
    let event = play.wave.set_policies(&none, |target| (target > 0).then_some(target), play.start);
    assert!(matches!(event, Some(Event::Ended(_))), "nobody is left of the wave");
}

#[test]
fn a_real_server_without_checks_is_not_counted() {
    let mut set = site(&[(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], &[80])]);
    set.policies[0].real_servers[9].targets = Vec::<TargetId>::new();
    set.policies[0].real_servers[9].needed = 0;
    let mut wave = Wave::new(BlastLimit::default());
    wave.set_policies(&set, |_| None, beginning());
    let turn = Transition { from: Health::Up, to: Health::Down };
    let now = beginning();
    assert!((0..9).all(|target| wave.turned(target, turn, false, now).is_none()), "nine: too few");
}

proptest! {
    /// What is counted bit by bit is what a look at everything finds, whatever happens; and it
    /// holds exactly from more than the limit to half of it.
    #[test]
    fn counts_are_exact(
        most in prop_oneof![(1u32..5).prop_map(Share::Count), (20u8..80).prop_map(Share::Percent)],
        needed in 1usize..=2,
        turns in proptest::collection::vec((1u8..=12, 0usize..3, any::<bool>(), 0u64..40), 0..80),
    ) {
        let hosts: Vec<u8> = (1..=12).collect();
        let policies: &[(&[u8], &[u16])] =
            &[(&hosts, &[80, 81]), (&hosts[..6], &[81]), (&hosts[3..8], &[82])];
        let mut play = Play::new(limit(most), policies);
        play.need(needed);
        let (mut now, mut wave) = (0, std::collections::BTreeMap::<(u8, u16), u64>::new());
        let mut held = false;
        for (host, port, down, pause) in turns {
            now += pause;
            let asked: &[u16] = if (4..=8).contains(&host) { &[80, 81, 82] } else { &[80, 81] };
            let port = asked[port % asked.len()];
            let target = play.target(host, port) as usize;
            let to = if down { Health::Down } else { Health::Up };
            if play.health[target] == to {
                continue;
            }
            let event = play.turn(now, host, port, to);
            if down && !held {
                wave.retain(|_, at| now - *at <= 60);
            }
            match down {
                true => drop(wave.insert((host, port), now)),
                false => drop(wave.remove(&(host, port))),
            }
            let is_lost = |host: &u8| {
                let hit = |ports: &[u16], needed| {
                    let is_down = |port: &&u16| {
                        play.health[play.target(*host, **port) as usize] == Health::Down
                    };
                    ports.iter().any(|port| wave.contains_key(&(*host, *port)))
                        && ports.iter().filter(is_down).count() > ports.len() - needed
                };
                let mut servers = vec![hit(&[80, 81], needed)];
                if *host <= 6 { servers.push(hit(&[81], 1)) }
                if (4..=8).contains(host) { servers.push(hit(&[82], 1)) }
                servers.iter().filter(|hit| **hit).count() * 2 > servers.len()
            };
            let lost = hosts.iter().filter(|host| is_lost(host)).count();
            let (above, below) = match most {
                Share::Count(most) => (lost > most as usize, lost * 2 <= most as usize),
                Share::Percent(share) => {
                    let share = usize::from(share) * 12;
                    (lost * 100 > share, lost * 200 <= share)
                }
            };
            match event {
                Some(Event::Tripped(extent)) => {
                    prop_assert!(!held && down && above);
                    prop_assert_eq!((extent.lost, extent.addresses), (lost, 12));
                    held = true;
                }
                Some(Event::Ended(extent)) => {
                    prop_assert!(held && !down && below);
                    prop_assert_eq!(extent.targets, wave.len());
                    held = false;
                    wave.clear();
                    play.wave.release();
                }
                None => {
                    let quiet = if held { !below } else { !down || !above };
                    prop_assert!(quiet, "{} lost, held: {}", lost, held);
                }
            }
            let expected: BTreeSet<(u8, u16)> =
                if held { wave.keys().copied().collect() } else { BTreeSet::new() };
            prop_assert_eq!(play.held(), expected.len());
            prop_assert_eq!(play.holds(), held);
        }
    }
}
