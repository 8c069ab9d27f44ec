//! Netlink framing: headers and attributes, written and read without trust.
//!
//! Knows nothing of IPVS. Reading never indexes, never panics and never loops: whatever does not
//! fit its own length is an error.

use crate::ipvs::IpvsError;

/// `NLM_F_REQUEST`, on every message to the kernel.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: answer success too.
const ACK: u16 = 0x4;
/// `NLM_F_DUMP`: `NLM_F_ROOT | NLM_F_MATCH`.
const DUMP: u16 = 0x300;
/// `NLM_F_DUMP_INTR` on a reply: the table changed while it was dumped.
const INTERRUPTED: u16 = 0x10;

const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// First number that is a family and not a control message (`NLMSG_MIN_TYPE`).
const FIRST_FAMILY: u16 = 16;

const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;
const NESTED: u16 = 0x8000;
/// `NLA_TYPE_MASK`: the type without its nested and byte order bits.
const TYPE_MASK: u16 = 0x3fff;

/// What the kernel is to do with a request besides executing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Answer only if it fails.
    Failure,
    /// Answer success too.
    Acknowledgement,
    /// Answer with every object, then with [`Body::End`].
    Dump,
}

/// What stands in front of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Number of the generic netlink family.
    pub family: u16,
    /// Comes back in every answer to this request.
    pub sequence: u32,
    /// What to answer.
    pub want: Want,
}

/// A request under construction at the end of a buffer.
pub(super) struct Request<'b> {
    buffer: &'b mut Vec<u8>,
    start: usize,
}

impl<'b> Request<'b> {
    pub(super) fn new(buffer: &'b mut Vec<u8>, head: Head, command: u8) -> Self {
        let start = buffer.len();
        let flags = REQUEST
            | match head.want {
                Want::Failure => 0,
                Want::Acknowledgement => ACK,
                Want::Dump => DUMP,
            };
        buffer.extend_from_slice(&0u32.to_ne_bytes());
        buffer.extend_from_slice(&head.family.to_ne_bytes());
        buffer.extend_from_slice(&flags.to_ne_bytes());
        buffer.extend_from_slice(&head.sequence.to_ne_bytes());
        buffer.extend_from_slice(&0u32.to_ne_bytes());
        buffer.extend_from_slice(&[command, 1, 0, 0]);
        Self { buffer, start }
    }

    /// Appends one attribute, padded. The payload is at most some dozens of bytes: every text in
    /// it has been checked against its kernel limit before.
    pub(super) fn put(&mut self, kind: u16, payload: &[u8]) {
        let length = (payload.len() + 4) as u16;
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(self.buffer.len().next_multiple_of(4), 0);
    }

    pub(super) fn put_u16(&mut self, kind: u16, value: u16) {
        self.put(kind, &value.to_ne_bytes());
    }

    pub(super) fn put_u32(&mut self, kind: u16, value: u32) {
        self.put(kind, &value.to_ne_bytes());
    }

    /// Appends a text with its final zero byte.
    pub(super) fn put_text(&mut self, kind: u16, text: &str) {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        self.put(kind, &bytes);
    }

    /// Appends an attribute that holds what `fill` appends.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let at = self.buffer.len();
        self.put(kind | NESTED, &[]);
        fill(self);
        let length = (self.buffer.len() - at) as u16;
        self.buffer[at..at + 2].copy_from_slice(&length.to_ne_bytes());
    }

    /// Writes the length, now that it is known.
    pub(super) fn finish(self) {
        let length = (self.buffer.len() - self.start) as u32;
        self.buffer[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

/// Turns a finished request that stands at the start of `message` into one that wants
/// [`Want::Acknowledgement`].
pub fn want_acknowledgement(message: &mut [u8]) {
    if let Some(flags) = message.get_mut(6..8) {
        flags.copy_from_slice(&(REQUEST | ACK).to_ne_bytes());
    }
}

/// One message from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Of the request it answers.
    pub sequence: u32,
    /// The kernel says that the dump is not consistent.
    pub interrupted: bool,
    /// What it says.
    pub body: Body<'a>,
}

/// What a message from the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// The request succeeded.
    Acknowledged,
    /// The request failed with this error number (positive).
    Refused(i32),
    /// The dump is complete.
    End,
    /// One object: its attributes.
    Object(&'a [u8]),
    /// Nothing of interest.
    Noise,
}

/// Splits what one `recv` brought into messages.
///
/// Ends after the first malformed one.
pub fn replies(bytes: &[u8]) -> Replies<'_> {
    Replies { rest: bytes }
}

/// Iterator over the messages of one datagram.
#[derive(Debug, Clone)]
pub struct Replies<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Replies<'a> {
    type Item = Result<Reply<'a>, IpvsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let reply = self.reply();
        if reply.is_err() {
            self.rest = &[];
        }
        Some(reply)
    }
}

impl<'a> Replies<'a> {
    fn reply(&mut self) -> Result<Reply<'a>, IpvsError> {
        let length = u32_at(self.rest, 0)? as usize;
        let kind = u16_at(self.rest, 4)?;
        let flags = u16_at(self.rest, 6)?;
        let sequence = u32_at(self.rest, 8)?;
        let message = self.rest.get(..length).ok_or_else(|| malformed("a message is cut short"))?;
        let payload = message
            .get(HEADER..)
            .ok_or_else(|| malformed("a message is shorter than its header"))?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        let body = body(kind, payload)?;
        Ok(Reply { sequence, interrupted: flags & INTERRUPTED != 0, body })
    }
}

fn body(kind: u16, payload: &[u8]) -> Result<Body<'_>, IpvsError> {
    match kind {
        NLMSG_ERROR => Ok(match u32_at(payload, 0)? as i32 {
            0 => Body::Acknowledged,
            error => Body::Refused(error.saturating_neg()),
        }),
        // Carries the error that ended the dump, if any.
        NLMSG_DONE => Ok(match u32_at(payload, 0) {
            Ok(error) if (error as i32) < 0 => Body::Refused((error as i32).saturating_neg()),
            _ => Body::End,
        }),
        FIRST_FAMILY.. => payload
            .get(GENERIC_HEADER..)
            .map(Body::Object)
            .ok_or_else(|| malformed("a message is shorter than its generic header")),
        NLMSG_NOOP | 0 | 4.. => Ok(Body::Noise),
    }
}

/// Reads the attributes of a message or of a nest.
///
/// Ends after the first malformed one.
pub(super) fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

pub(super) struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), IpvsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let attribute = self.attribute();
        if attribute.is_err() {
            self.rest = &[];
        }
        Some(attribute)
    }
}

impl<'a> Attributes<'a> {
    fn attribute(&mut self) -> Result<(u16, &'a [u8]), IpvsError> {
        let length = u16_at(self.rest, 0)? as usize;
        let kind = u16_at(self.rest, 2)? & TYPE_MASK;
        let payload =
            self.rest.get(4..length).ok_or_else(|| malformed("an attribute is cut short"))?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Ok((kind, payload))
    }
}

pub(super) fn u16_of(bytes: &[u8]) -> Result<u16, IpvsError> {
    array(bytes).map(u16::from_ne_bytes)
}

pub(super) fn u32_of(bytes: &[u8]) -> Result<u32, IpvsError> {
    array(bytes).map(u32::from_ne_bytes)
}

/// A port: two bytes in network order.
pub(super) fn port_of(bytes: &[u8]) -> Result<u16, IpvsError> {
    array(bytes).map(u16::from_be_bytes)
}

/// A text up to its first zero byte.
pub(super) fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The first `N` bytes.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], IpvsError> {
    bytes.first_chunk().copied().ok_or_else(|| malformed("a value is cut short"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, IpvsError> {
    u16_of(bytes.get(at..).unwrap_or_default())
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, IpvsError> {
    u32_of(bytes.get(at..).unwrap_or_default())
}

pub(super) fn malformed(what: &str) -> IpvsError {
    IpvsError::Netlink(format!("the kernel's answer is not understood: {what}"))
}
