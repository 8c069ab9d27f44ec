//! NSD: answers, codes, an answer that is too long for a datagram, and a port without a server.

use std::net::SocketAddr;
use std::process::Command;

use domain::base::Name;
use domain::base::iana::{Rcode, Rtype};
use pointsman::probe::dns::{Answer, DnsCheck, Transport, plain};
use pointsman::probe::outcome::Reason;
use pointsman::probe::target::{CheckKind, TextMatch, UdpCheck};
use rustix::process::Signal;

use crate::ask::{self, expect, expect_silence};
use crate::program::{Server, find, free_address};

fn start() -> Option<(Server, SocketAddr)> {
    let program = find("nsd")?;
    let (directory, address) = (ask::directory(), free_address());
    let path = directory.path().display();
    let long: String = (0..9).map(|line| format!("long TXT {}{line}\n", "x".repeat(200))).collect();
    let zone = format!(
        "$ORIGIN example.org.
$TTL 60
@ SOA ns hostmaster 7 3600 600 86400 60
@ NS ns
ns A 192.0.2.53
www A 192.0.2.80
www AAAA 2001:db8::80
{long}"
    );
    std::fs::write(directory.path().join("example.org"), zone).unwrap();
    let configuration = format!(
        "server:
    ip-address: 127.0.0.1@{}
    username: \"\"
    zonesdir: \"{path}\"
    database: \"\"
    pidfile: \"\"
    xfrdfile: \"{path}/xfrd\"
    zonelistfile: \"{path}/zones\"
    xfrdir: \"{path}\"
    server-count: 1
remote-control:
    control-enable: no
zone:
    name: example.org
    zonefile: example.org
zone:
    name: missing.example
    zonefile: missing
",
        address.port()
    );
    let file = directory.path().join("nsd.conf");
    std::fs::write(&file, configuration).unwrap();
    let mut command = Command::new(program);
    command.args(["-d", "-c"]).arg(file);
    let server = Server::start(directory, &mut command).ends_with(Signal::TERM);
    Some((server.listens(address), address))
}

fn ask_for(name: &str, record_type: Rtype) -> DnsCheck {
    DnsCheck {
        name: name.parse::<Name<Vec<u8>>>().unwrap(),
        record_type,
        transport: Transport::Udp,
        rcodes: vec![Rcode::NOERROR],
        answer: Answer::Any,
    }
}

fn records(records: &[&str]) -> Answer {
    Answer::Records(records.iter().map(|data| plain(data)).collect())
}

#[tokio::test]
async fn answers_codes_and_the_end() {
    use Reason::{Content, Ok, Refused, Status};
    let Some((server, address)) = start() else { return };
    let www = |record_type, data| DnsCheck {
        answer: records(&[data]),
        ..ask_for("www.example.org", record_type)
    };
    let long = ask_for("long.example.org", Rtype::TXT);
    let end = TextMatch::Contains(format!("{}8", "x".repeat(200)));
    let nxdomain =
        DnsCheck { rcodes: vec![Rcode::NXDOMAIN], ..ask_for("no.example.org", Rtype::A) };
    for (check, reason, piece) in [
        (www(Rtype::A, "192.0.2.80"), Ok, "NOERROR, with the answer expected"),
        (www(Rtype::AAAA, "2001:DB8:0::80"), Ok, "NOERROR, with the answer expected"),
        (www(Rtype::A, "192.0.2.81"), Content, "no \"192.0.2.81\"; NOERROR with \"192.0.2.80\""),
        (ask_for("example.org", Rtype::SOA), Ok, "NOERROR"),
        (ask_for("no.example.org", Rtype::A), Status, "NXDOMAIN, expected NOERROR"),
        (nxdomain, Ok, "NXDOMAIN"),
        (ask_for("example.com", Rtype::A), Status, "REFUSED, expected NOERROR"),
        (ask_for("missing.example", Rtype::SOA), Status, "SERVFAIL, expected NOERROR"),
        // Cut short in a datagram: NOERROR counts, a record is asked for again over TCP.
        (long.clone(), Ok, "NOERROR"),
        (DnsCheck { answer: Answer::Matches(vec![end]), ..long }, Ok, "with the answer expected"),
    ] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let check = DnsCheck { transport, ..check.clone() };
            expect(address, CheckKind::Dns(check), reason, piece).await;
        }
    }
    let query = UdpCheck { send: QUERY.to_vec(), expect: Some(answered()) };
    expect(address, CheckKind::Udp(query.clone()), Ok, "the answer does match").await;
    // NSD has no word for an empty datagram.
    expect_silence(address, CheckKind::Udp(UdpCheck::default()), Ok, "not refused").await;

    drop(server);
    let gone = CheckKind::Dns(ask_for("example.org", Rtype::SOA));
    for check in [gone, CheckKind::Udp(query), CheckKind::Udp(UdpCheck::default())] {
        expect(address, check, Refused, "closed").await;
    }
}

/// `example.org SOA`, as a `udp` check would send it.
const QUERY: &[u8] = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\x03org\0\0\x06\0\x01";

/// The same identifier, an authoritative answer, no error.
fn answered() -> TextMatch {
    let pattern = pointsman::probe::target::Pattern::new("(?-u)^\\x124\\x84\\x00");
    TextMatch::Regex(pattern.unwrap())
}
