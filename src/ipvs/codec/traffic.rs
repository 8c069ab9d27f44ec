//! Counted traffic on the wire (`IPVS_STATS_ATTR_*`).
//!
//! Kernels since 4.1 report it twice: as it always was, with 32 bits for connections, packets and
//! rates, and with 64 bits for everything. The wider number is never the smaller one.

use super::wire::{array, attributes};
use crate::ipvs::IpvsError;
use crate::ipvs::model::{Rates, Traffic};

const CONNECTIONS: u16 = 1;
const PACKETS_IN: u16 = 2;
const PACKETS_OUT: u16 = 3;
const BYTES_IN: u16 = 4;
const BYTES_OUT: u16 = 5;
const CONNECTIONS_A_SECOND: u16 = 6;
const BYTES_IN_A_SECOND: u16 = 9;
const BYTES_OUT_A_SECOND: u16 = 10;

/// Takes in the content of one of both nests, in whatever order they come.
pub(super) fn add(traffic: &mut Traffic, nest: &[u8]) -> Result<(), IpvsError> {
    for attribute in attributes(nest) {
        let (kind, value) = attribute?;
        let rates = &mut traffic.rates;
        let number = match kind {
            CONNECTIONS => &mut traffic.connections,
            PACKETS_IN => &mut traffic.packets_in,
            PACKETS_OUT => &mut traffic.packets_out,
            BYTES_IN => &mut traffic.bytes_in,
            BYTES_OUT => &mut traffic.bytes_out,
            CONNECTIONS_A_SECOND => &mut rates.get_or_insert_with(Rates::default).connections,
            BYTES_IN_A_SECOND => &mut rates.get_or_insert_with(Rates::default).bytes_in,
            BYTES_OUT_A_SECOND => &mut rates.get_or_insert_with(Rates::default).bytes_out,
            _ => continue,
        };
        let read = match value.len() {
            4 => u32::from_ne_bytes(array(value)?).into(),
            _ => u64::from_ne_bytes(array(value)?),
        };
        *number = read.max(*number);
    }
    Ok(())
}
