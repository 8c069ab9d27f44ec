//! The ICMP check: an echo request (RFC 792, RFC 4443), and its reply.
//!
//! It proves that the machine is there, and nothing about the service on it. The kernel gives
//! either a datagram socket, which sets the identifier and hears its own replies alone, or a raw
//! one, which hears all ICMP from the real server; so a reply is known by the random bytes in it.

use std::net::{IpAddr, SocketAddr};

use super::datagram::Exchange;
use super::outcome::Reason;
use super::progress::{Failure, Progress};
use super::socket::{self, Origin};
use super::target::Target;

/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;

/// As many bytes of data as ping(8) sends.
const DATA: usize = 56;

/// Echo reply and echo request, of ICMP and of ICMPv6.
const TYPES: [[u8; 2]; 2] = [[0, 8], [129, 128]];

/// Asks and waits for the reply; the text says what passed.
pub(super) async fn ask(
    target: &Target,
    origin: &Origin<'_>,
    progress: &Progress,
) -> Result<String, Failure> {
    let address = target.address.ip();
    let (socket, raw) = socket::echo(address, origin)?;
    let address_family = Family::of(address);
    let request = request(address_family, rand::random(), rand::random());
    progress.wait_for(Reason::HeadTimeout, "echo reply");
    let exchange = Exchange {
        socket,
        address: SocketAddr::new(address, 0),
        timeout: target.timing.timeout,
        progress,
    };
    // Only a raw socket for IPv4 shows the IP header (raw(7)).
    let with_header = raw && address.is_ipv4();
    exchange
        .ask(&request, |packet| {
            let message = if with_header { without_header(packet)? } else { packet };
            is_reply(address_family, message, &request, raw).then(|| "echo reply".to_owned())
        })
        .await
}

#[derive(Debug, Clone, Copy)]
struct Family {
    reply: u8,
    request: u8,
    /// The kernel computes the checksum of ICMPv6 itself (RFC 3542 section 3.1).
    checksum: bool,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        let [reply, request] = TYPES[usize::from(address.is_ipv6())];
        Self { reply, request, checksum: address.is_ipv4() }
    }
}

fn request(family: Family, identifier: u16, data: [u8; DATA]) -> Vec<u8> {
    let mut message = vec![family.request, 0, 0, 0];
    message.extend(identifier.to_be_bytes());
    message.extend(1_u16.to_be_bytes());
    message.extend(data);
    if family.checksum {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(message: &[u8]) -> u16 {
    let words =
        message.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap_or(u16::MAX)
}

fn without_header(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first()? & 0x0f;
    packet.get(usize::from(words) * 4..)
}

/// The same data, under the same sequence number; a raw socket leaves the identifier as it was.
fn is_reply(family: Family, message: &[u8], request: &[u8], raw: bool) -> bool {
    let [of_type, code, _, _, id_high, id_low, rest @ ..] = message else { return false };
    let same_id = request[4..6] == [*id_high, *id_low];
    [*of_type, *code] == [family.reply, 0] && (same_id || !raw) && *rest == request[HEADER - 2..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> [Family; 2] {
        ["192.0.2.1", "2001:db8::1"].map(|address| Family::of(address.parse().unwrap()))
    }

    #[test]
    fn requests_carry_a_checksum_that_sums_up() {
        let request = request(families()[0], 0x1234, [0xfe; DATA]);
        assert_eq!(request.len(), HEADER + DATA);
        // A checksum over a message with its checksum in it is 0.
        assert_eq!(checksum(&request), 0, "{request:?}");
        assert_eq!(checksum(&[0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2, "RFC 1071");
        assert_eq!(checksum(&[0xff; 64]), 0);
    }

    #[test]
    fn replies_are_told_from_everything_else() {
        for family in families() {
            let request = request(family, 7, [9; DATA]);
            let mut reply = request.clone();
            reply[0] = family.reply;
            assert!(is_reply(family, &reply, &request, true));
            assert!(!is_reply(family, &request, &request, true), "one's own request");
            for at in [1, 4, 5, 6, 7, 8, HEADER + DATA - 1] {
                let mut other = reply.clone();
                other[at] ^= 1;
                assert!(!is_reply(family, &other, &request, true), "byte {at}");
            }
            for length in 0..reply.len() {
                assert!(!is_reply(family, &reply[..length], &request, false), "{length} bytes");
            }
            let mut renamed = reply.clone();
            renamed[4..6].copy_from_slice(&[1, 2]);
            assert!(is_reply(family, &renamed, &request, false), "renamed by the kernel");
        }
    }

    #[test]
    fn headers_that_lie_are_not_followed() {
        assert_eq!(without_header(&[]), None);
        assert_eq!(without_header(&[0x4f; 20]), None);
        assert_eq!(without_header(&[0x45; 21]), Some(&[0x45][..]));
    }
}
