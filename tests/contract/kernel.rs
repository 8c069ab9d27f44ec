//! The suite on a real kernel, and what only a kernel can show.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pointsman::ipvs::codec::{self, Head, Want};
use pointsman::ipvs::memory::Memory;
use pointsman::ipvs::model::{Change, Forwarding, ServiceKey, Table};
use pointsman::ipvs::netlink::Netlink;
use pointsman::ipvs::netns::{NetnsError, enter_netns};
use pointsman::ipvs::{Ipvs, IpvsError};
use pointsman::policy::export::export;
use pointsman::policy::load::load;

use crate::common::uml::in_guest;
use crate::random::Random;
use crate::words::{
    all, at, by, clear, key, one, persistent, read_destination, read_service, service, table,
    weight,
};

const DEADLINE: Duration = Duration::from_secs(120);

#[test]
fn suite() {
    in_guest("kernel::suite", DEADLINE, || {
        let mut kernel = Netlink::open().unwrap();
        for (name, case) in crate::cases() {
            println!("{name}");
            case(&mut kernel);
            clear(&mut kernel);
        }
    });
}

/// Thousands of random changes: memory and kernel give the same answers and the same table.
#[test]
fn agrees_with_memory() {
    in_guest("kernel::agrees_with_memory", DEADLINE, || {
        let mut kernel = Netlink::open().unwrap();
        let mut memory = Memory::default();
        let mut random = Random::new(20_240_229);
        let mut succeeded = 0;
        for round in 0..200 {
            let changes = random.changes(50);
            let there = kernel.execute(&changes);
            let here = memory.execute(&changes);
            for ((change, here), there) in changes.iter().zip(&here).zip(&there) {
                assert_eq!(there, here, "round {round}: the kernel answers otherwise: {change:?}");
            }
            succeeded += there.iter().filter(|result| result.is_ok()).count();
            assert_eq!(table(&mut kernel), table(&mut memory), "after round {round}");
        }
        println!("{succeeded} of 10000 changes succeeded");
        assert!(succeeded > 1000);
    });
}

#[test]
fn facts() {
    in_guest("kernel::facts", DEADLINE, || {
        for (name, fact) in FACTS {
            println!("{name}");
            fact();
        }
    });
}

/// In this order: the first ones need a kernel in which nobody has asked for IPVS yet.
const FACTS: &[(&str, fn())] = &[
    ("without a module there is no table", no_module),
    ("the module is loaded on demand", loaded_on_demand),
    ("a module that was unloaded is loaded again", unloaded),
    ("a scheduler without a module", missing_scheduler),
    ("nothing without the capability", no_capability),
    ("lost answers are not taken for success", lost_answers),
    ("a table for each network namespace", namespaces),
    ("what others made", foreign),
    ("edits keep connections", connections_survive),
    ("reading while others write", read_while_written),
];

const AUTOLOAD: &str = "/proc/sys/kernel/modprobe";

fn no_module() {
    let loader = std::fs::read_to_string(AUTOLOAD).unwrap();
    std::fs::write(AUTOLOAD, "/bin/false").unwrap();
    assert_eq!(Netlink::open().unwrap_err(), IpvsError::NoModule);
    std::fs::write(AUTOLOAD, loader.trim()).unwrap();
}

fn loaded_on_demand() {
    assert_eq!(table(&mut Netlink::open().unwrap()), Table::new());
}

fn unloaded() {
    let www = key("tcp://192.0.2.1:80");
    let mut kernel = Netlink::open().unwrap();
    all(&mut kernel, &[Change::AddService(www, service("rr")), Change::DeleteService(www)]);
    shell("modprobe -d /run/modules -r ip_vs_rr ip_vs");
    assert_eq!(one(&mut kernel, Change::DeleteService(www)), Err(IpvsError::NoModule));
    assert_eq!(table(&mut kernel), Table::new());
    all(&mut kernel, &[Change::AddService(www, service("rr"))]);
    clear(&mut kernel);
}

fn missing_scheduler() {
    let www = key("tcp://192.0.2.1:80");
    let mut kernel = Netlink::open().unwrap();
    let module = IpvsError::NoModuleFor {
        what: "scheduler",
        name: "twos".to_owned(),
        module: "ip_vs_twos".to_owned(),
    };
    assert_eq!(one(&mut kernel, Change::AddService(www, service("twos"))), Err(module));
    let mut config = persistent(300, 32, Some("sip"));
    config.scheduler.0 = "twos".to_owned();
    let error = one(&mut kernel, Change::AddService(www, config)).unwrap_err().to_string();
    assert_eq!(
        error,
        "the kernel has no scheduler or persistence engine `twos` or `sip`: load it with `modprobe -a ip_vs_twos ip_vs_pe_sip`"
    );
    assert_eq!(table(&mut kernel), Table::new());
}

fn no_capability() {
    in_thread(|| {
        // The command inherits none of this thread's capabilities but gets root's own, so it is
        // the thread that drops them.
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(rustix::thread::CapabilitySet::NET_ADMIN);
        rustix::thread::set_capabilities(None, sets).unwrap();
        let mut kernel = Netlink::open().unwrap();
        assert_eq!(kernel.table(), Err(IpvsError::Denied));
        let changes: Vec<Change> =
            (1..=300).map(|mark| Change::DeleteService(key(&format!("fwmark://{mark}")))).collect();
        assert_eq!(kernel.execute(&changes), vec![Err(IpvsError::Denied); 300]);
        shell("ip netns add denied");
        sets.effective = rustix::thread::CapabilitySet::empty();
        rustix::thread::set_capabilities(None, sets).unwrap();
        let error = enter_netns("denied").unwrap_err();
        assert!(matches!(error, NetnsError::Denied(_)), "{error:?}");
    });
}

/// With room for a few answers only, the kernel drops the others and says so: nobody knows then
/// what has been done.
fn lost_answers() {
    const LIMIT: &str = "/proc/sys/net/core/rmem_max";
    let limit = std::fs::read_to_string(LIMIT).unwrap();
    std::fs::write(LIMIT, "4608").unwrap();
    in_thread(|| {
        let mut sets = rustix::thread::capabilities(None).unwrap();
        sets.effective.remove(rustix::thread::CapabilitySet::NET_ADMIN);
        rustix::thread::set_capabilities(None, sets).unwrap();
        let mut kernel = Netlink::open().unwrap();
        let changes = vec![Change::DeleteService(key("fwmark://1")); 150];
        let lost = IpvsError::Netlink("the kernel's answers were lost; read again".to_owned());
        assert!(lost.is_retryable());
        for _ in 0..3 {
            let results = kernel.execute(&changes);
            assert_eq!(results, vec![Err(lost.clone()); 150]);
            // The socket goes on working.
            assert_eq!(kernel.table(), Err(IpvsError::Denied));
            let few = kernel.execute(&changes[..2]);
            assert_eq!(few, [Err(IpvsError::Denied), Err(IpvsError::Denied)]);
        }
    });
    std::fs::write(LIMIT, limit.trim()).unwrap();
}

fn namespaces() {
    shell("ip netns add inner");
    let (www, dns) = (key("tcp://192.0.2.1:80"), key("udp://192.0.2.1:53"));
    let mut outer = Netlink::open().unwrap();
    all(&mut outer, &[Change::AddService(www, service("rr"))]);
    let mut inner = in_thread(|| {
        enter_netns("inner").unwrap();
        Netlink::open().unwrap()
    });
    // The socket stays where it was made, whoever uses it.
    assert_eq!(table(&mut inner), Table::new());
    all(&mut inner, &[Change::AddService(dns, service("wlc"))]);
    assert!(table(&mut inner).contains_key(&dns) && !table(&mut inner).contains_key(&www));
    assert!(table(&mut outer).contains_key(&www) && !table(&mut outer).contains_key(&dns));
    std::fs::write("/run/netns/file", "").unwrap();
    let error = in_thread(|| enter_netns("file").unwrap_err());
    assert!(matches!(error, NetnsError::Foreign(_)), "{error:?}");
    clear(&mut inner);
    clear(&mut outer);
}

fn foreign() {
    shell("ipvsadm -A -t 192.0.2.9:80 -s wlc -p 120 -M 255.255.255.0");
    shell("ipvsadm -a -t 192.0.2.9:80 -r 198.51.100.9:80 -g -w 7 -x 10 -y 5");
    shell("ipvsadm -a -t 192.0.2.9:80 -r 198.51.100.8:80 -i --tun-type gue --tun-port 6080 -w 7");
    shell("ipvsadm -A -f 9 -6 -s mh -b mh-port");
    let mut kernel = Netlink::open().unwrap();
    let strange = add_strange_service();
    let (www, mark) = (key("tcp://192.0.2.9:80"), key("fwmark://9/inet6"));
    let read = table(&mut kernel);
    assert_eq!(read.keys().copied().collect::<Vec<_>>(), [www, mark], "besides {strange}");
    assert_eq!(read[&www].config.to_string(), "wlc persistent 120s/24");
    assert_eq!(read[&mark].config.to_string(), "mh mh-port");
    let destinations: Vec<String> = read[&www]
        .destinations
        .iter()
        .map(|(key, destination)| format!("{key} {}", destination.config))
        .collect();
    assert_eq!(
        destinations,
        [
            "198.51.100.8:80 weight 7 tunnel gue port 6080 checksum none",
            "198.51.100.9:80 weight 7 direct upper 10 lower 5",
        ]
    );
    exported(&read, &[mark]);
    clear(&mut kernel);
    shell("ipvsadm -C");
}

/// What `ipvsadm` made is what the exported policies declare, but for these.
fn exported(read: &Table, empty: &[ServiceKey]) {
    let export = export(read);
    let left_out: Vec<_> = export.left_out.iter().map(|(key, _)| *key).collect();
    assert_eq!(left_out, empty);
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), &export.yaml).unwrap();
    let set = load(file.path()).unwrap().set;
    let services = set.policies.iter().flat_map(|policy| &policy.services);
    let declared: Vec<_> = services.map(|service| (service.key, service.config.clone())).collect();
    let there = read.iter().filter(|(key, _)| !empty.contains(key));
    assert_eq!(declared, there.map(|(key, it)| (*key, it.config.clone())).collect::<Vec<_>>());
    let destinations = |key: &ServiceKey| {
        let found = set.policies.iter().flat_map(|policy| &policy.services);
        let found = found.filter(|service| service.key == *key).flat_map(|it| &it.destinations);
        found.map(|it| (it.key, it.config)).collect::<Vec<_>>()
    };
    for (key, _) in declared {
        let there = read[&key].destinations.iter().map(|(key, it)| (*key, it.config));
        assert_eq!(destinations(&key), there.collect::<Vec<_>>());
    }
}

/// Adds a service of a protocol that has no name here, by a command whose bytes are changed.
fn add_strange_service() -> &'static str {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, netlink};
    let socket =
        rustix::net::socket(AddressFamily::NETLINK, SocketType::RAW, Some(netlink::GENERIC))
            .unwrap();
    let mut answer = [0; 8192];
    let mut ask = |request: &[u8]| {
        rustix::net::send(&socket, request, SendFlags::empty()).unwrap();
        let (length, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).unwrap();
        answer[..length].to_vec()
    };
    let mut request = Vec::new();
    codec::put_get_family(&mut request, 1);
    let bytes = ask(&request);
    let reply = codec::replies(&bytes).next().unwrap().unwrap();
    let codec::Body::Object(object) = reply.body else { panic!("{reply:?}") };
    let family = codec::family(object).unwrap();

    request.clear();
    let head = Head { family, sequence: 2, want: Want::Acknowledgement };
    let change = Change::AddService(key("sctp://192.0.2.9:132"), service("rr"));
    codec::put_change(&mut request, head, &change).unwrap();
    let sctp = request.windows(2).position(|bytes| bytes == 132u16.to_ne_bytes()).unwrap();
    request[sctp] = 50;
    let bytes = ask(&request);
    let reply = codec::replies(&bytes).next().unwrap().unwrap();
    assert_eq!(reply.body, codec::Body::Acknowledged);
    "a service of protocol 50 (ESP)"
}

fn connections_survive() {
    shell("ip addr add 192.0.2.1/32 dev lo");
    shell("ip addr add 192.0.2.2/32 dev lo");
    let listener = TcpListener::bind("192.0.2.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (name, server) =
        (key(&format!("tcp://192.0.2.1:{port}")), at(&format!("192.0.2.2:{port}")));
    let direct =
        |weight| pointsman::ipvs::model::DestinationConfig { weight, ..by(Forwarding::Direct) };
    let mut kernel = Netlink::open().unwrap();
    let changes =
        [Change::AddService(name, service("rr")), Change::AddDestination(name, server, direct(1))];
    all(&mut kernel, &changes);
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut accepted, _) = listener.accept().unwrap();
    let mut exchange = |kernel: &mut Netlink| {
        client.write_all(b"ping").unwrap();
        let mut heard = [0; 4];
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"ping");
        let connections = read_destination(kernel, &name, &server).connections;
        assert_eq!((connections.active, connections.persistent), (1, 0));
    };
    exchange(&mut kernel);
    for change in [
        Change::SetDestination(name, server, direct(80)),
        Change::SetDestination(name, server, direct(0)),
        Change::SetService(name, service("mh")),
        Change::SetService(name, persistent(300, 24, None)),
        Change::SetDestination(
            name,
            server,
            pointsman::ipvs::model::DestinationConfig { upper_threshold: 1, ..direct(0) },
        ),
    ] {
        all(&mut kernel, &[change]);
        exchange(&mut kernel);
    }
    assert_eq!(read_service(&mut kernel, &name).config, persistent(300, 24, None));
    clear(&mut kernel);
}

/// Tables read while another socket changes them are never an error, and never invented.
fn read_while_written() {
    let www = key("tcp://192.0.2.1:80");
    let servers: Vec<_> =
        (0..500).map(|n| at(&format!("10.1.{}.{}:80", n / 250, n % 250 + 1))).collect();
    let mut reader = Netlink::open().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = Netlink::open().unwrap();
            let add: Vec<Change> = std::iter::once(Change::AddService(www, service("rr")))
                .chain(servers.iter().map(|s| Change::AddDestination(www, *s, weight(1))))
                .collect();
            while !stop.load(Ordering::Relaxed) {
                all(&mut writer, &add);
                all(&mut writer, &[Change::DeleteService(www)]);
            }
        });
        for _ in 0..200 {
            let table = table(&mut reader);
            assert!(table.len() <= 1);
            let read = table.get(&www).map(|service| service.destinations.keys());
            assert!(read.into_iter().flatten().all(|key| servers.contains(key)));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn shell(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "{command}: {status}");
}
