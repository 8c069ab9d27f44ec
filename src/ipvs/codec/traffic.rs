//! Counted traffic on the wire (`IPVS_STATS_ATTR_*`).
//!
//! Kernels since 4.1 report it twice: as it always was, with 32 bits for connections and packets,
//! and with 64 bits for everything. The wider number is never the smaller one.

use super::wire::{array, attributes};
use crate::ipvs::IpvsError;
use crate::ipvs::model::Traffic;

const CONNECTIONS: u16 = 1;
const PACKETS_IN: u16 = 2;
const PACKETS_OUT: u16 = 3;
const BYTES_IN: u16 = 4;
const BYTES_OUT: u16 = 5;

/// Takes in the content of one of both nests, in whatever order they come.
pub(super) fn add(traffic: &mut Traffic, nest: &[u8]) -> Result<(), IpvsError> {
    for attribute in attributes(nest) {
        let (kind, value) = attribute?;
        let counter = match kind {
            CONNECTIONS => &mut traffic.connections,
            PACKETS_IN => &mut traffic.packets_in,
            PACKETS_OUT => &mut traffic.packets_out,
            BYTES_IN => &mut traffic.bytes_in,
            BYTES_OUT => &mut traffic.bytes_out,
            _ => continue,
        };
        let number = match value.len() {
            4 => u32::from_ne_bytes(array(value)?).into(),
            _ => u64::from_ne_bytes(array(value)?),
        };
        *counter = number.max(*counter);
    }
    Ok(())
}
