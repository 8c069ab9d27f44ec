//! The PROXY protocol before a check: the header that a real server behind a proxy wants to see.
//!
//! A probe is made on the director's own account. For that the specification (proxy-protocol.txt
//! of HAProxy, sections 2.1 and 2.2) has two words: version 2 says `LOCAL`, and version 1 says
//! whose connection it is, because servers are known that refuse `PROXY UNKNOWN`.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::outcome::Reason;
use super::progress::Failure;
use super::socket::kernel_words;
use super::target::ProxyProtocol;

/// Signature, version 2 with command `LOCAL`, no family, no addresses.
const LOCAL: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Writes the header as the first bytes of a connection.
pub(super) async fn announce(
    stream: &mut TcpStream,
    version: ProxyProtocol,
) -> Result<(), Failure> {
    let header = match version {
        ProxyProtocol::V1 => {
            let ends = stream.local_addr().and_then(|from| Ok(line(from, stream.peer_addr()?)));
            ends.map_err(|error| broken(&error))?.into_bytes()
        }
        ProxyProtocol::V2 => LOCAL.to_vec(),
    };
    stream.write_all(&header).await.map_err(|error| broken(&error))
}

fn broken(error: &std::io::Error) -> Failure {
    let detail = format!("{} before the PROXY header was taken", kernel_words(error));
    Failure::new(Reason::Reset, detail)
}

/// The line of version 1 for a connection between two addresses of one family.
fn line(from: SocketAddr, to: SocketAddr) -> String {
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_both_ends() {
        for (from, to, text) in [
            ("192.0.2.1:40000", "192.0.2.2:80", "PROXY TCP4 192.0.2.1 192.0.2.2 40000 80\r\n"),
            (
                "[2001:db8::1]:1",
                "[2001:db8::2]:65535",
                "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
            ),
        ] {
            assert_eq!(line(from.parse().unwrap(), to.parse().unwrap()), text);
        }
    }
}
