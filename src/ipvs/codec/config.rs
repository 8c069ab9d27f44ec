//! Timeouts and synchronisation on the wire (`IPVS_CMD_ATTR_TIMEOUT_*`, `IPVS_DAEMON_ATTR_*`).

use super::wire::{Head, Request, attributes, text_of, u32_of};
use crate::ipvs::IpvsError;
use crate::ipvs::model::{SyncDaemon, Timeouts};

const GET_DAEMON: u8 = 11;
const GET_CONFIG: u8 = 13;

const ATTR_DAEMON: u16 = 3;
const ATTR_TCP: u16 = 4;
const ATTR_TCP_FIN: u16 = 5;
const ATTR_UDP: u16 = 6;

const STATE: u16 = 1;
const INTERFACE: u16 = 2;
const SYNC_ID: u16 = 3;
const MASTER: u32 = 1;

/// Appends the question for the timeouts; one object answers it.
pub fn put_get_timeouts(buffer: &mut Vec<u8>, head: Head) {
    Request::new(buffer, head, GET_CONFIG).finish();
}

/// Appends the question for the synchronisation threads. `head` should want a dump.
pub fn put_get_sync_daemons(buffer: &mut Vec<u8>, head: Head) {
    Request::new(buffer, head, GET_DAEMON).finish();
}

/// Reads the answer to [`put_get_timeouts`].
///
/// # Errors
/// [`IpvsError::Netlink`] if it makes no sense.
pub fn timeouts(object: &[u8]) -> Result<Timeouts, IpvsError> {
    let mut timeouts = Timeouts::default();
    for attribute in attributes(object) {
        let (kind, value) = attribute?;
        match kind {
            ATTR_TCP => timeouts.tcp = u32_of(value)?,
            ATTR_TCP_FIN => timeouts.tcp_fin = u32_of(value)?,
            ATTR_UDP => timeouts.udp = u32_of(value)?,
            _ => {}
        }
    }
    Ok(timeouts)
}

/// Reads one answer to [`put_get_sync_daemons`].
///
/// # Errors
/// [`IpvsError::Netlink`] if it makes no sense.
pub fn sync_daemon(object: &[u8]) -> Result<SyncDaemon, IpvsError> {
    let nest = super::find(object, ATTR_DAEMON, "a synchronisation thread is missing")?;
    let mut daemon = SyncDaemon { master: false, interface: String::new(), sync_id: 0 };
    for attribute in attributes(nest) {
        let (kind, value) = attribute?;
        match kind {
            STATE => daemon.master = u32_of(value)? == MASTER,
            INTERFACE => daemon.interface = text_of(value),
            SYNC_ID => daemon.sync_id = u32_of(value)?,
            _ => {}
        }
    }
    Ok(daemon)
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Body, Want, replies};
    use super::*;

    /// What a kernel sends: a message of a made-up family with what `fill` puts into it.
    fn message(fill: impl FnOnce(&mut Request<'_>)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let head = Head { family: 30, sequence: 7, want: Want::Failure };
        let mut message = Request::new(&mut bytes, head, 1);
        fill(&mut message);
        message.finish();
        bytes
    }

    fn object<T>(bytes: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
        match replies(bytes).next().unwrap().unwrap().body {
            Body::Object(object) => read(object),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn timeouts_are_in_seconds() {
        let bytes = message(|it| {
            it.put_u32(ATTR_TCP, 900);
            it.put_u32(ATTR_TCP_FIN, 120);
            it.put_u32(ATTR_UDP, 300);
            it.put_u32(99, 1);
        });
        let expected = Timeouts { tcp: 900, tcp_fin: 120, udp: 300 };
        assert_eq!(object(&bytes, timeouts), Ok(expected));
        let short = message(|it| it.put_u16(ATTR_TCP, 1));
        assert!(object(&short, timeouts).is_err());
    }

    #[test]
    fn a_synchronisation_thread_is_master_or_backup() {
        for (state, master) in [(1, true), (2, false)] {
            let bytes = message(|it| {
                it.nest(ATTR_DAEMON, |nest| {
                    nest.put_u32(STATE, state);
                    nest.put_text(INTERFACE, "eth1");
                    nest.put_u32(SYNC_ID, 5);
                });
            });
            let expected = SyncDaemon { master, interface: "eth1".to_owned(), sync_id: 5 };
            assert_eq!(object(&bytes, sync_daemon), Ok(expected));
        }
        assert!(object(&message(|_| {}), sync_daemon).is_err());
    }
}
