//! Three things keep users from their answers, and nothing says so. `doctor` names exactly those;
//! the commands it prints, run as they are, bring the answers back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::clock::PATIENCE;
use crate::common::netns::shell;
use crate::daemon::{Daemon, Policies, answer, policy, program};
use crate::observer::services;
use crate::site::{DIRECTOR, Site, VIP1};

/// Tells the kernel that its clock is right, as programs do that set it: adjtimex(2), number 159 here,
/// with `ADJ_STATUS` and `ADJ_MAXERROR`, which are 0 then.
const SYNCHRONISE: &str =
    r#"perl -e '$timex = pack("Lx4q4lx164", 0x14); syscall(159, $timex) < 0 and die $!'"#;

pub(crate) fn its_commands_mend() {
    let site = Site::new();
    let all = site.addresses();
    let entry = format!("{{ service: \"tcp://{VIP1}:80\", port: 8080 }}");
    let text = policy(&[&entry], "forwarding: masq\nweight: 80\non_down: cut", &all, 8080);
    let policies = Policies::new("www.yaml", &text);
    site.director.shell(&format!("ip addr del {VIP1}/32 dev eth0"));
    site.director.sysctl("net/ipv4/ip_forward", "0");
    let _daemon = Daemon::start(&policies, &[]);
    let rows: Vec<_> = all.iter().map(|it| format!("{it}:8080 weight 80 masq")).collect();
    let key = format!("tcp://{VIP1}:80");
    site.table.until_exactly("all in", PATIENCE, &services(&[&key], "rr", &rows));
    // Everything looks well, and nobody is served.
    assert_eq!(ask(&site), None);

    let found = doctor(&policies, 3);
    let clock = found["findings"].as_array().unwrap().iter().find(|it| it["id"] == "clock");
    let is = "not synchronised; no program runs here that is known to set it";
    assert_eq!(clock.unwrap()["is"], is);
    shell(SYNCHRONISE);
    let found = doctor(&policies, 3);
    let wrong = serious(&found);
    println!("  found: {wrong:#?}");
    let ids: Vec<&str> = wrong.iter().map(|it| it["subject"].as_str().unwrap()).collect();
    assert_eq!(ids, [VIP1, "net.ipv4.ip_forward", "net.ipv4.vs.expire_nodest_conn"]);
    run(&wrong);
    assert!(serious(&doctor(&policies, 0)).is_empty());
    assert!(ask(&site).is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    beyond_sysctls(&site, &policies);
    wherever_the_address_is(&site, &policies);
    another_one_answers(&site, &policies);
    without_the_capability(&policies);
}

/// A real server that says that it has the virtual address takes clients past the director.
fn another_one_answers(site: &Site, policies: &Policies) {
    let machine = site.servers[1].machine();
    machine.sysctl("net/ipv4/conf/all/arp_ignore", "0");
    let found = doctor(policies, 3);
    let wrong = serious(&found);
    println!("  found: {wrong:#?}");
    let [finding] = &wrong[..] else { panic!("{wrong:#?}") };
    let mut read = Command::new("ip");
    read.args(["netns", "exec", machine.name(), "cat", "/sys/class/net/eth0/address"]);
    let mac = String::from_utf8(answer(&mut read).stdout).unwrap();
    assert_eq!(finding["subject"], format!("ARP for {VIP1}"));
    assert_eq!(finding["is"], format!("also answered by {} on eth0", mac.trim()));
    assert_eq!(finding["run_on"], "real-server");
    machine.shell(finding["command"].as_str().unwrap());
    doctor(policies, 0);
}

/// What only netlink tells: timeouts, and who synchronises connections.
fn beyond_sysctls(site: &Site, policies: &Policies) {
    site.by_hand("--set 30 0 0");
    site.by_hand("--start-daemon backup --mcast-interface eth0 --syncid 5");
    let found = doctor(policies, 3);
    let wrong = serious(&found);
    let is: Vec<&str> = wrong.iter().map(|it| it["is"].as_str().unwrap()).collect();
    assert_eq!(is, ["30 s", "backup only, on a machine that holds a virtual address"]);
    run(&wrong);
    let left = doctor(policies, 0);
    assert!(serious(&left).is_empty());
    let sync = left["findings"].as_array().unwrap().iter().find(|it| it["id"] == "sync").unwrap();
    let mut roles: Vec<&str> = sync["is"].as_str().unwrap().split("; ").collect();
    roles.sort_unstable();
    assert_eq!(roles, ["backup on eth0, id 5", "master on eth0, id 5"]);

    // What the finding says of it is true.
    site.director.sysctl("net/ipv4/vs/backup_only", "1");
    assert!(ask(site).is_none());
    let found = doctor(policies, 3);
    assert_eq!(serious(&found)[0]["id"], "backup-only");
    run(&serious(&found));
    assert!(ask(site).is_some());
    site.by_hand("--stop-daemon master");
    site.by_hand("--stop-daemon backup");
}

/// An address counts where the kernel says so: also on an interface that is down.
fn wherever_the_address_is(site: &Site, policies: &Policies) {
    let served = || ask(site).is_some();
    site.director.shell(&format!("ip addr del {VIP1}/32 dev eth0"));
    site.director.sysctl("net/ipv4/ip_nonlocal_bind", "1");
    assert_eq!(serious(&doctor(policies, 3))[0]["subject"], VIP1);
    assert!(!served());
    site.director.shell("ip link add vip0 type veth peer name vip1");
    site.director.shell(&format!("ip addr add {VIP1}/32 dev vip0"));
    doctor(policies, 0);
    assert!(served());
    site.director.shell("ip link del vip0");
    site.director.shell(&format!("ip route add local {VIP1} dev lo"));
    doctor(policies, 0);
    assert!(served());
    site.director.shell(&format!("ip addr add {VIP1}/32 dev eth0"));
    site.director.sysctl("net/ipv4/ip_nonlocal_bind", "0");

    site.director.sysctl("net/ipv4/ip_forward", "0");
    assert!(!served(), "masq needs forwarding");
    site.director.sysctl("net/ipv4/ip_forward", "1");
    assert!(served());
}

/// Runs the commands as they are printed.
fn run(findings: &[&Value]) {
    for finding in findings {
        assert_eq!(finding["run_on"], "director");
        let command = finding["command"].as_str().unwrap();
        println!("  run: {command}");
        shell(command);
    }
}

/// Without it there is less to see, and that is said.
fn without_the_capability(policies: &Policies) {
    let whole = command(policies);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--"]).arg(whole.get_program());
    let found = found(command.args(whole.get_args()), 0);
    let unseen = found["findings"].as_array().unwrap().iter().find(|it| it["id"] == "ipvs-unseen");
    assert_eq!(unseen.unwrap()["is"], "cannot tell: it needs CAP_NET_ADMIN; run doctor as root");
}

/// What `doctor` says of the director.
fn doctor(policies: &Policies, code: i32) -> Value {
    found(&mut command(policies), code)
}

fn command(policies: &Policies) -> Command {
    let mut command = program("doctor");
    command.arg("--policies").arg(&policies.directory);
    // Whatever a guest has is in memory; a directory that is not there yet is none to warn of.
    command.args(["--netns", DIRECTOR, "--state-dir", "/tmp/not-yet", "--output", "json"]);
    command
}

fn found(command: &mut Command, code: i32) -> Value {
    let output = answer(command);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{text}{output:?}");
    serde_json::from_str(&text).unwrap()
}

fn serious(answer: &Value) -> Vec<&Value> {
    let findings = answer["findings"].as_array().unwrap().iter();
    findings.filter(|it| it["severity"] == "error" || it["severity"] == "warning").collect()
}

/// One request of a user; `None` without an answer in time.
fn ask(site: &Site) -> Option<String> {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let address: SocketAddr = format!("{VIP1}:80").parse().unwrap();
    site.client.within(|| {
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).ok()?;
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let request = "GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}
