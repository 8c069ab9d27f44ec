//! Inside a guest: machines on one wire, each a network namespace.
//!
//! ```text
//!    client        director      real server 1   real server 2
//!   eth0 │        eth0 │          eth0 │ lo: VIP   eth0 │ lo: VIP
//!        └─────────────┴───── bridge ──┴───────────────┘
//! ```
//!
//! Only for tests that run in a guest: the host is not asked whether it minds. Names are those of
//! `ip netns`, so `pointsman run --netns director` finds its way too.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use pointsman::ipvs::netns::enter_netns;

use super::uml::is_guest;

const BRIDGE: &str = "wire";

/// One bridge in the guest's own namespace.
#[derive(Debug)]
pub struct Wire(());

impl Wire {
    /// Lays the wire; once in a guest.
    pub fn new() -> Self {
        assert!(is_guest(), "namespaces are made in guests only");
        shell(&format!("ip link add {BRIDGE} type bridge && ip link set {BRIDGE} up"));
        Self(())
    }

    /// Puts a machine on the wire, with addresses such as `10.0.0.1/24` or `2001:db8::1/64` on
    /// its interface `eth0`. The name has at most 12 letters.
    pub fn machine(&self, name: &str, addresses: &[&str]) -> Machine {
        shell(&format!("ip netns add {name}"));
        let machine = Machine { name: name.to_owned() };
        // Addresses are usable at once, every path is a legal one, and nobody is told of a
        // shorter one. Before there is an interface, which takes over what is set by then.
        for kind in ["all", "default"] {
            machine.sysctl(&format!("net/ipv6/conf/{kind}/accept_dad"), "0");
            machine.sysctl(&format!("net/ipv6/conf/{kind}/accept_redirects"), "0");
            machine.sysctl(&format!("net/ipv4/conf/{kind}/accept_redirects"), "0");
            machine.sysctl(&format!("net/ipv4/conf/{kind}/rp_filter"), "0");
        }
        shell(&format!(
            "ip link add p-{name} type veth peer name eth0 netns {name} \
             && ip link set p-{name} master {BRIDGE} up"
        ));
        machine.shell("ip link set lo up && ip link set eth0 up");
        for address in addresses {
            machine.address(address, "eth0");
        }
        machine
    }
}

/// A machine: a network namespace.
#[derive(Debug, Clone)]
pub struct Machine {
    name: String,
}

impl Machine {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds an address with its prefix length to one of its interfaces.
    pub fn address(&self, address: &str, interface: &str) {
        let dad = if address.contains(':') { "nodad" } else { "" };
        self.shell(&format!("ip addr add {address} dev {interface} {dad}"));
    }

    /// Takes a virtual address on `lo`, without a word about it on the wire: what a real server
    /// needs for `direct` and `tunnel`.
    pub fn hold_quietly(&self, address: IpAddr) {
        self.sysctl("net/ipv4/conf/all/arp_ignore", "1");
        self.sysctl("net/ipv4/conf/all/arp_announce", "2");
        self.address(&host_route(address), "lo");
    }

    /// Unpacks IP in IP: what a real server needs for `tunnel ipip`, besides the virtual address.
    pub fn unpack_ipip(&self) {
        // The module brings an interface for any sender to every namespace.
        shell("modprobe -d /run/modules ipip");
        self.shell("ip link set tunl0 up");
        self.sysctl("net/ipv4/conf/tunl0/rp_filter", "0");
    }

    /// Cuts what leaves into packets before it is on the wire: virtual wires carry many of them as one,
    /// whatever the size of a packet may be.
    pub fn send_packets(&self) {
        self.shell("ip link set eth0 gso_max_segs 1");
    }

    /// Takes a virtual address on `eth0` and answers for it: what a director needs.
    pub fn hold(&self, address: IpAddr) {
        self.address(&host_route(address), "eth0");
    }

    /// Forwards packets between machines, and sends no redirects: a director.
    pub fn forward(&self) {
        self.sysctl("net/ipv4/ip_forward", "1");
        self.sysctl("net/ipv6/conf/all/forwarding", "1");
        for name in ["all", "default", "eth0"] {
            self.sysctl(&format!("net/ipv4/conf/{name}/send_redirects"), "0");
        }
    }

    /// Sends what is for elsewhere to this machine: a real server behind `masq`, or a client.
    pub fn route_by(&self, gateway: IpAddr) {
        let version = if gateway.is_ipv4() { "-4" } else { "-6" };
        self.shell(&format!("ip {version} route replace default via {gateway}"));
    }

    /// Sends what leaves from a virtual address straight onto the wire, and not by the gateway: the
    /// director throws away packets that come from an address of its own.
    pub fn answer_directly(&self, address: IpAddr, clients: &str) {
        let version = if address.is_ipv4() { "-4" } else { "-6" };
        self.shell(&format!(
            "ip {version} rule add from {address} lookup 100 \
             && ip {version} route replace {clients} dev eth0 table 100"
        ));
    }

    /// Sets one of `/proc/sys`, as in `net/ipv4/ip_forward`.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.within(|| {
            std::fs::write(format!("/proc/sys/{name}"), value)
                .unwrap_or_else(|error| panic!("{}: {name} = {value}: {error}", self.name));
        });
    }

    /// Takes the machine off the wire or puts it back, as if its cable were pulled.
    pub fn plug(&self, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        shell(&format!("ip link set p-{} {state}", self.name));
    }

    /// Runs Rust code on the machine: every socket it opens is the machine's.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter_netns(&self.name).expect("namespace of a machine");
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that runs on the machine.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).stdin(Stdio::null());
        command
    }

    /// Runs a line of shell on the machine, which must succeed; what it printed.
    pub fn shell(&self, line: &str) -> String {
        succeed(self.command("sh").args(["-c", line]), line)
    }

    /// Starts a program on the machine that is killed at the end.
    pub fn start(&self, mut command: Command) -> Process {
        Process(self.within(|| command.spawn().expect("start a program")))
    }
}

/// A program that is killed when dropped.
#[derive(Debug)]
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a line of shell in the guest's own namespace, which must succeed; what it printed.
pub fn shell(line: &str) -> String {
    succeed(Command::new("sh").args(["-c", line]).stdin(Stdio::null()), line)
}

fn succeed(command: &mut Command, line: &str) -> String {
    let output = command.output().expect("start a shell");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn host_route(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}
