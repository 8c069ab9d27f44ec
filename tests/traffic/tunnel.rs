//! What a tunnel loses although the real server's own address answers: everything, where it is not
//! unpacked, and what is large, where the way to the real server carries less than its clients are
//! told and nobody says so.

use pointsman::control::status::Status;
use pointsman::health::Health;

use crate::client::Traffic;
use crate::clock::{PATIENCE, now};
use crate::daemon::{Daemon, Policies, policy, until_status};
use crate::observer::{Lines, services};
use crate::server::ALIVE;
use crate::site::{Site, VIP1, VIP2};
use crate::via::{lets_in, via};

const KEY: &str = "tcp://202.96.128.166:80";
const ORDINARY: &str = "tcp://221.5.88.88:80";
/// More than one packet of 1400 bytes.
const PADDING: usize = 1400;

pub(crate) fn loses_what_users_send() {
    let site = Site::new();
    lets_in(&site, "1");
    site.client.send_packets();
    site.director.send_packets();
    for server in &site.servers {
        server.machine().unpack_ipip();
    }
    // Whoever sends to it directly is told of the 1400 bytes in its SYN-ACK. Within the tunnel that
    // makes 1420, which its port drops without a word, as a switch or a filtered router does.
    site.servers[2].machine().shell("ip link set eth0 mtu 1400");
    site.servers[3].machine().shell("ip link set tunl0 down");
    // Else most of its refusals would be silence.
    site.servers[3].machine().sysctl("net/ipv4/icmp_ratelimit", "0");
    let all = site.addresses();
    let settings = "forwarding: tunnel";
    let long = |text: &str| {
        let padding = format!("{ALIVE}, headers: {{ X-Padding: {} }}", "x".repeat(PADDING));
        text.replacen(ALIVE, &padding, 1)
    };
    let ordinary = long(&policy(&[ORDINARY], &format!("name: ordinary\n{settings}"), &all, 80));
    let short = via("www", &[KEY], settings, &all);
    let policies = Policies::new("www.yaml", &short);
    policies.write("ordinary.yaml", &ordinary);
    let _daemon = Daemon::start(&policies, &[]);
    let lines = |in_www: &[usize]| -> Lines {
        let row = |index: &usize| format!("{}:80 weight 1 tunnel ipip", all[*index]);
        let rows = |indices: &[usize]| indices.iter().map(row).collect::<Vec<_>>();
        let mut lines = services(&[ORDINARY], "rr", &rows(&[0, 1, 2, 3]));
        lines.extend(services(&[KEY], "rr", &rows(in_www)));
        lines
    };
    let down = |index: usize| {
        let of = |status: &Status| {
            let www = status.services.iter().find(|it| it.service.to_string() == KEY)?;
            let row = &www.destinations[index];
            (row.health == Health::Down).then(|| row.why.clone())
        };
        let why = of(&until_status("it is down", |status| of(status).is_some())).unwrap();
        println!("  {why}");
        why
    };

    // What is not unpacked is seen by any request, and not by one to its own address.
    site.table.until_exactly("three unpack it", PATIENCE, &lines(&[0, 1, 2]));
    let why = down(3);
    assert!(why.contains("through 202.96.128.166:80: port 80 is closed"), "{why}");
    assert!(why.contains("), or the real server does not unpack the tunnel"), "{why}");

    // What is too large is seen by a large request, and not by one to its own address.
    policies.replace("www.yaml", &long(&short));
    site.table.until_exactly("two are well", PATIENCE, &lines(&[0, 1]));
    let why = down(2);
    assert!(why.contains("through 202.96.128.166:80: no response head within"), "{why}");
    let traffic = |vip: &str| Traffic::padded(&site.client, &[&format!("{vip}:80")], PADDING);
    let users = traffic(VIP1);
    users.hears(&["rs232", "rs233"]);
    users.carry_on(50);
    site.assert_none_failed(&users.stop(), |_| false);
    // Those of the other service find out.
    let users = traffic(VIP2);
    users.carry_on(50);
    let requests = users.stop();
    let failed = |words: &str| {
        requests.failed().any(|it| it.answer.as_ref().is_err_and(|answer| answer.contains(words)))
    };
    assert!(failed("no answer within") && failed("refused"), "{requests}");

    site.servers[2].machine().shell("ip link set eth0 mtu 1500");
    site.servers[3].machine().shell("ip link set tunl0 up");
    site.table.until_exactly("all are well", PATIENCE, &lines(&[0, 1, 2, 3]));
    let users = traffic(VIP1);
    users.hears(&["rs232", "rs233", "rs234", "rs235"]);
    site.assert_none_failed(&users.stop(), |_| false);

    // What no probe can see: the director asks users for smaller packets, and they do not hear it.
    site.director.shell("ip rule add ipproto icmp to 172.16.0.0/24 prohibit");
    site.client.shell(&format!("ip route add {VIP1}/32 via 172.16.0.1 metric 50"));
    let (begun, users) = (now(), traffic(VIP1));
    users.carry_on(50);
    let requests = users.stop();
    assert_eq!(requests.failed().count(), requests.count(), "{requests}");
    assert_eq!(site.table.states_since(begun), [lines(&[0, 1, 2, 3])]);
}
