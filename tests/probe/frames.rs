//! HTTP/2 frames by hand, so that servers can send wrong ones (RFC 9113 section 4.1).

use crate::support::{Step, say};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field that is not indexed (RFC 7541 section 6.2.2); both lengths below 127.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0, name.len() as u8];
    field.extend(name.as_bytes());
    field.push(value.len() as u8);
    field.extend(value.as_bytes());
    field
}

/// The head of the answer to the only request: a status and further fields.
pub(crate) fn head(status: u16, fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    let mut block = field(":status", &status.to_string());
    block.extend(fields.iter().flat_map(|(name, value)| field(name, value)));
    frame(HEADERS, END_HEADERS | flags, 1, &block)
}

/// Fields after the body.
pub(crate) fn trailers(fields: &[(&str, &str)]) -> Vec<u8> {
    let block: Vec<_> = fields.iter().flat_map(|(name, value)| field(name, value)).collect();
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
}

/// Hears the client, sends its own empty SETTINGS and these frames, then waits for the end.
pub(crate) fn script(frames: &[Vec<u8>]) -> Vec<Step> {
    let mut all = frame(SETTINGS, 0, 0, &[]);
    all.extend(frames.concat());
    vec![Step::Read, say(all), Step::Hang]
}

/// The same, but one frame without end.
pub(crate) fn flood(frames: &[Vec<u8>], again: Vec<u8>) -> Vec<Step> {
    let mut script = script(frames);
    script[2] = Step::Repeat(again);
    script
}
