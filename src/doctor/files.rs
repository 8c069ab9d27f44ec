//! What `/proc`, `/sys` and `/lib/modules` say, below a root that tests make themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::facts::{Modules, OtherProcess, Process};

/// Values of `/proc/sys` outside of `net/ipv4/vs` and of the interfaces.
const SYSCTLS: [&str; 12] = [
    "kernel/modules_disabled",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ping_group_range",
    "net/ipv4/tcp_tw_reuse",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/ip_nonlocal_bind",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/ipv4/conf/all/accept_local",
    "net/ipv4/conf/all/rp_filter",
];

/// Values that every interface has, in `net/ipv4/conf`.
const PER_INTERFACE: [&str; 3] = ["accept_local", "rp_filter", "send_redirects"];

/// The name of a daemon's process.
const POINTSMAN: &str = "pointsman";

/// A root directory.
#[derive(Debug, Clone)]
pub struct Root(PathBuf);

impl Root {
    /// `/`, or a directory that looks like it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The kernel's release.
    pub fn release(&self) -> String {
        self.read("proc/sys/kernel/osrelease").unwrap_or_default()
    }

    /// Kernel modules in memory and on disk.
    pub fn modules(&self) -> Modules {
        let folder = format!("lib/modules/{}", self.release());
        let listed = |name: &str| Some(modules_in(&self.read(&format!("{folder}/{name}"))?));
        let loaded = self.read("proc/modules").unwrap_or_default();
        let loaded = loaded.lines().filter_map(|line| line.split_whitespace().next());
        let mut present: BTreeSet<String> = loaded.map(str::to_owned).collect();
        // Those that are built in, if they have parameters.
        present.extend(self.names("sys/module"));
        present.extend(listed("modules.builtin").unwrap_or_default());
        let loadable = listed("modules.dep")
            .ok_or_else(|| format!("there is no /{folder}/modules.dep to look it up in"));
        let locked = self.read("proc/sys/kernel/modules_disabled").is_some_and(|it| it == "1");
        Modules { present, loadable, locked }
    }

    /// Values of `/proc/sys` that findings need, as far as they can be read.
    pub fn sysctls(&self) -> BTreeMap<String, String> {
        let of_ipvs = self.names("proc/sys/net/ipv4/vs").into_iter();
        let mut names: Vec<String> = of_ipvs.map(|name| format!("net/ipv4/vs/{name}")).collect();
        names.extend(SYSCTLS.map(str::to_owned));
        for interface in self.names("proc/sys/net/ipv4/conf") {
            names.extend(PER_INTERFACE.map(|name| format!("net/ipv4/conf/{interface}/{name}")));
        }
        let value = |name: String| Some((dotted(&name), self.read(&format!("proc/sys/{name}"))?));
        names.into_iter().filter_map(value).collect()
    }

    /// The interface of the default route for IPv4: the one with the least metric.
    pub fn default_route(&self) -> Option<String> {
        const ANYWHERE: &str = "00000000";
        let routes = self.read("proc/thread-self/net/route")?;
        let default = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [interface, ANYWHERE, _, _, _, _, metric, ANYWHERE, ..] = words[..] else {
                return None;
            };
            Some((metric.parse::<u32>().ok()?, interface.to_owned()))
        };
        routes.lines().filter_map(default).min().map(|(_, interface)| interface)
    }

    /// All processes but this one, without those that are seen to be in another network namespace.
    pub fn processes(&self) -> Vec<OtherProcess> {
        let ids = self.names("proc").into_iter().filter_map(|name| name.parse().ok());
        let others = ids.filter(|pid| *pid != std::process::id() && !self.is_elsewhere(*pid));
        let mut others: Vec<_> = others.filter_map(|pid| self.other(pid)).collect();
        others.sort_by_key(|process| process.pid);
        others
    }

    fn other(&self, pid: u32) -> Option<OtherProcess> {
        let name = self.read(&format!("proc/{pid}/comm"))?;
        Some(OtherProcess { pid, name })
    }

    fn is_elsewhere(&self, pid: u32) -> bool {
        let namespace = |of: &str| fs::read_link(self.0.join(format!("proc/{of}/ns/net"))).ok();
        let (its, ours) = (namespace(&pid.to_string()), namespace("thread-self"));
        matches!((its, ours), (Some(its), Some(ours)) if its != ours)
    }

    /// What a daemon may do; `None` if there is no such process to be seen.
    pub fn process(&self, pid: u32) -> Option<Process> {
        self.read(&format!("proc/{pid}/comm")).filter(|name| name == POINTSMAN)?;
        let status = self.read(&format!("proc/{pid}/status"))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        let user = field("Uid:").and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        let capabilities = u64::from_str_radix(field("CapPrm:")?.trim(), 16).ok()?;
        let groups = [field("Gid:"), field("Groups:")].into_iter().flatten();
        let groups = groups.flat_map(str::split_whitespace).filter_map(|it| it.parse().ok());
        let limits = self.read(&format!("proc/{pid}/limits")).unwrap_or_default();
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
        let hard = files.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        let groups = groups.collect();
        Some(Process { user: user.unwrap_or(0), capabilities, groups, open_files: hard })
    }

    /// Whether keepalived is told to balance, and not only to move addresses.
    pub fn keepalived_balances(&self) -> Option<bool> {
        let text = self.read("etc/keepalived/keepalived.conf")?;
        let has = |word: &str| text.lines().any(|line| line.trim_start().starts_with(word));
        match has("virtual_server") {
            true => Some(true),
            // What is in other files is not known.
            false => (!has("include")).then_some(false),
        }
    }

    /// The text of a file without white space around it.
    fn read(&self, path: &str) -> Option<String> {
        let bytes = fs::read(self.0.join(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The names in a directory, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(Path::new(&self.0).join(path)).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }
}

/// A path below `/proc/sys` as sysctl(8) names it: dots and slashes change places.
fn dotted(path: &str) -> String {
    let swap = |letter| match letter {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    path.chars().map(swap).collect()
}

/// Names of the modules that a file of `/lib/modules` lists, one path at the start of each line.
fn modules_in(list: &str) -> BTreeSet<String> {
    let name = |line: &str| {
        let path = line.split(':').next()?;
        let (name, _) = path.rsplit('/').next()?.split_once(".ko")?;
        Some(name.replace('-', "_"))
    };
    list.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::new(directory.path());
        (directory, root)
    }

    #[test]
    fn an_empty_root_has_nothing_and_says_so() {
        let (_directory, root) = root(&[]);
        assert_eq!(root.release(), "");
        assert!(root.sysctls().is_empty() && root.processes().is_empty());
        assert!(root.modules().present.is_empty());
        assert!(root.modules().loadable.unwrap_err().contains("modules.dep"));
        assert!(root.default_route().is_none() && root.process(1).is_none());
    }

    #[test]
    fn modules_are_loaded_built_in_or_on_disk() {
        let (_directory, root) = root(&[
            ("proc/sys/kernel/osrelease", "6.1.0-18-amd64\n"),
            ("proc/sys/kernel/modules_disabled", "1\n"),
            ("proc/modules", "ip_vs_wrr 16384 1 - Live 0x0\nnf_nat 1 0 - Live 0x0\n"),
            ("sys/module/ip_vs/parameters/conn_tab_bits", "12\n"),
            ("lib/modules/6.1.0-18-amd64/modules.builtin", "kernel/net/ip-vs-rr.ko\n"),
            (
                "lib/modules/6.1.0-18-amd64/modules.dep",
                "kernel/net/ip_vs_mh.ko.xz: kernel/net/ip_vs.ko.xz\nkernel/net/ip_vs_sh.ko:\n",
            ),
        ]);
        let modules = root.modules();
        for name in ["ip_vs", "ip_vs_rr", "ip_vs_wrr", "nf_nat"] {
            assert!(modules.present.contains(name), "{name}");
        }
        let loadable: Vec<_> = modules.loadable.unwrap().into_iter().collect();
        assert_eq!(loadable, ["ip_vs_mh", "ip_vs_sh"]);
        assert!(modules.locked);
    }

    #[test]
    fn sysctls_have_the_names_of_the_command() {
        let (_directory, root) = root(&[
            ("proc/sys/net/ipv4/ip_forward", "0\n"),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/ipv4/vs/conntrack", "1\n"),
            ("proc/sys/net/ipv4/conf/eth0.100/rp_filter", "2\n"),
        ]);
        let sysctls = root.sysctls();
        let value = |name: &str| sysctls.get(name).map(String::as_str);
        assert_eq!(value("net.ipv4.ip_forward"), Some("0"));
        assert_eq!(value("net.ipv4.ip_local_port_range"), Some("32768\t60999"));
        assert_eq!(value("net.ipv4.vs.conntrack"), Some("1"));
        assert_eq!(value("net.ipv4.conf.eth0/100.rp_filter"), Some("2"));
        assert_eq!(sysctls.len(), 4);
    }

    #[test]
    fn keepalived_is_read_as_far_as_it_goes() {
        for (text, balances) in [
            ("vrrp_instance www {\n}\n", Some(false)),
            ("vrrp_instance www {\n}\n  virtual_server 192.0.2.80 80 {\n", Some(true)),
            ("# virtual_server\ninclude conf.d/*.conf\n", None),
        ] {
            let (_directory, root) = root(&[("etc/keepalived/keepalived.conf", text)]);
            assert_eq!(root.keepalived_balances(), balances, "{text}");
        }
        assert_eq!(root(&[]).1.keepalived_balances(), None);
    }

    #[test]
    fn the_default_route_is_the_best_one() {
        let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let routes = "eth0 0000A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
                      wlan0 00000000 0100A8C0 0003 0 0 600 00000000 0 0 0\n\
                      eth1 00000000 0100A8C0 0003 0 0 100 00000000 0 0 0\n";
        let (_directory, root) =
            root(&[("proc/thread-self/net/route", &(head.to_owned() + routes))]);
        assert_eq!(root.default_route().as_deref(), Some("eth1"));
    }

    #[test]
    fn processes_and_what_they_may() {
        let (directory, root) = root(&[
            ("proc/7/comm", "keepalived\n"),
            ("proc/8/comm", "pointsman\n"),
            (
                "proc/8/status",
                "Name:\tpointsman\nUid:\t0\t6\t0\t0\nGid:\t7\t8\t7\t7\nGroups:\t9 \nCapPrm:\t0000000000001000\n",
            ),
            (
                "proc/8/limits",
                "Limit  Soft Hard Units\nMax open files            1024                 524288               files\n",
            ),
            ("proc/11/comm", "elsewhere\n"),
            ("proc/11/ns/x", ""),
            ("proc/thread-self/ns/x", ""),
            ("proc/self/comm", "doctor\n"),
        ]);
        let link = |pid: &str, to: &str| {
            let path = directory.path().join(format!("proc/{pid}/ns/net"));
            std::os::unix::fs::symlink(to, path).unwrap();
        };
        link("11", "net:[2]");
        link("thread-self", "net:[1]");
        let found: Vec<_> = root.processes().into_iter().map(|it| (it.pid, it.name)).collect();
        assert_eq!(found, [(7, "keepalived".to_owned()), (8, "pointsman".to_owned())]);
        let process = root.process(8).unwrap();
        assert_eq!((process.user, process.capabilities), (6, 1 << 12));
        assert_eq!(process.groups, BTreeSet::from([7, 8, 9]));
        assert_eq!(process.open_files, Some(524_288));
        assert!(root.process(7).is_none(), "not a daemon of ours");
    }
}
