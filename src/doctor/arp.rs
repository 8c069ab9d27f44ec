//! Who answers ARP for a virtual address, beside this machine.
//!
//! Under `direct` and `tunnel` real servers hold the virtual address too, and one that says so takes
//! clients past the director: no probe of ours can see that, because this machine never asks for
//! an address that it holds. So it is asked on the wire (RFC 826), from an address of our own, which
//! tells nobody anything new.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, bind};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::facts::{Facts, Interface, Seen};

/// How long answers are waited for after each of the [`ROUNDS`].
const PATIENCE: Duration = Duration::from_millis(300);
const ROUNDS: usize = 2;
/// `ETH_P_ARP`, linux/if_ether.h.
const ARP: u16 = 0x0806;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet head and ARP packet for IPv4.
const FRAME: usize = 14 + 28;

type Mac = [u8; 6];

/// The other machines that answer for each of these, by their hardware addresses. Those that this
/// machine does not hold are nobody's trouble here and left out.
pub(super) fn others(facts: &Facts, addresses: &[IpAddr]) -> BTreeMap<IpAddr, Seen<Vec<String>>> {
    let held = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(v4) => facts.holder(*address).filter(|it| it.up).map(|it| (*v4, it)),
        IpAddr::V6(_) => None,
    });
    let held: Vec<(Ipv4Addr, &Interface)> = held.collect();
    let ours = macs();
    let mut found: BTreeMap<IpAddr, Seen<Vec<String>>> = BTreeMap::new();
    for wire in facts.wires().filter(|it| it.up) {
        let Some((link, mac)) = ours.get(&wire.name) else { continue };
        let asked: Vec<Ipv4Addr> =
            held.iter().filter(|(vip, on)| is_on(facts, *vip, on, wire)).map(|it| it.0).collect();
        if asked.is_empty() {
            continue;
        }
        let own = wire.addresses.iter().find_map(|(address, _)| match address {
            IpAddr::V4(own) if !addresses.contains(address) => Some(*own),
            _ => None,
        });
        let answered = ask(link, *mac, own.unwrap_or(Ipv4Addr::UNSPECIFIED), &asked);
        for vip in asked {
            let others = answered.as_ref().map_err(Clone::clone).map(|answered| {
                let strange = answered.iter().filter(|(of, _)| *of == vip).map(|it| it.1);
                let strange = strange.filter(|it| !ours.values().any(|(_, own)| own == it));
                strange.map(|it| format!("{} on {}", text(it), wire.name)).collect()
            });
            merge(found.entry(vip.into()).or_insert(Ok(Vec::new())), others);
        }
    }
    found
}

/// A wire that clients of a virtual address may be on: that of its network, else that which has it,
/// else any.
fn is_on(facts: &Facts, vip: Ipv4Addr, holder: &Interface, wire: &Interface) -> bool {
    match facts.way_to(vip.into()).filter(|it| it.addresses.iter().any(|(_, length)| *length < 32))
    {
        Some(way) => way.name == wire.name,
        None => holder.name == wire.name || holder.name == "lo",
    }
}

fn merge(into: &mut Seen<Vec<String>>, more: Seen<Vec<String>>) {
    match (into, more) {
        (Ok(all), Ok(more)) => all.extend(more),
        (into @ Ok(_), Err(reason)) => *into = Err(reason),
        (Err(_), _) => {}
    }
}

/// Interfaces with an Ethernet address.
fn macs() -> BTreeMap<String, (LinkAddr, Mac)> {
    let all = getifaddrs().into_iter().flatten();
    let link = |one: nix::ifaddrs::InterfaceAddress| {
        let link = *one.address?.as_link_addr()?;
        Some((one.interface_name, (link, link.addr().filter(|mac| *mac != [0; 6])?)))
    };
    all.filter_map(link).collect()
}

/// Asks and listens; whoever answered for one of them.
fn ask(
    link: &LinkAddr,
    mac: Mac,
    own: Ipv4Addr,
    asked: &[Ipv4Addr],
) -> Seen<BTreeSet<(Ipv4Addr, Mac)>> {
    let socket = open(link).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::PERM) => "asking for ARP needs CAP_NET_RAW; run doctor as root".to_owned(),
        _ => format!("ARP cannot be asked: {error}"),
    })?;
    let mut answered = BTreeSet::new();
    for _ in 0..ROUNDS {
        for vip in asked {
            // One that cannot be sent is as good as one that is lost.
            let _ = send(&socket, &request(mac, own, *vip), SendFlags::empty());
        }
        listen(&socket, |frame| answered.extend(answer(frame)));
    }
    Ok(answered)
}

fn open(link: &LinkAddr) -> io::Result<OwnedFd> {
    let protocol = Protocol::from_raw(u32::from(ARP.to_be()).try_into().map_err(io::Error::other)?);
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(protocol))?;
    bind(socket.as_raw_fd(), link)?;
    Ok(socket)
}

#[expect(clippy::disallowed_methods, reason = "the shell's clock: answers come when they come")]
fn listen(socket: &OwnedFd, mut hear: impl FnMut(&[u8])) {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(left) = left.try_into() else { return };
        let mut ready = [PollFd::new(socket, PollFlags::IN)];
        if !matches!(poll(&mut ready, Some(&left)), Ok(1..)) {
            return;
        }
        let mut frame = [0; 128];
        if let Ok((_, length)) = recv(socket, &mut frame[..], RecvFlags::empty()) {
            hear(&frame[..length.min(frame.len())]);
        }
    }
}

/// Who has this address? For everybody.
fn request(mac: Mac, own: Ipv4Addr, vip: Ipv4Addr) -> [u8; FRAME] {
    let parts: [&[u8]; 11] = [
        &[0xff; 6],
        &mac,
        &ARP.to_be_bytes(),
        // Ethernet and IPv4, with addresses of 6 and 4 bytes.
        &[0, 1],
        &[8, 0],
        &[6, 4],
        &REQUEST.to_be_bytes(),
        &mac,
        &own.octets(),
        &[0; 6],
        &vip.octets(),
    ];
    let mut frame = [0; FRAME];
    frame.iter_mut().zip(parts.concat()).for_each(|(byte, value)| *byte = value);
    frame
}

/// Whose address it is and where, if a frame says that.
fn answer(frame: &[u8]) -> Option<(Ipv4Addr, Mac)> {
    let is_reply = frame.get(12..22)? == [8, 6, 0, 1, 8, 0, 6, 4, 0, u8::try_from(REPLY).ok()?];
    let mac: Mac = frame.get(22..28)?.try_into().ok()?;
    let address: [u8; 4] = frame.get(28..32)?.try_into().ok()?;
    is_reply.then_some((address.into(), mac))
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_an_answer_by_its_kind() {
        let (mac, vip) = ([2, 0, 0, 0, 0, 7], Ipv4Addr::new(192, 0, 2, 80));
        let mut frame = request(mac, vip, Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(answer(&frame), None);
        frame[21] = 2;
        assert_eq!(answer(&frame), Some((vip, mac)));
        assert_eq!(text(mac), "02:00:00:00:00:07");
        (0..FRAME - 10).for_each(|length| assert_eq!(answer(&frame[..length]), None, "{length}"));
    }
}
