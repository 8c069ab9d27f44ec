//! Hears every command that anybody sends to the director's kernel by generic netlink (nlmon), so
//! that "not one write" is known and not inferred.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pointsman::ipvs::netns::enter_netns;
use socket2::{Domain, Protocol, Socket, Type};

use crate::clock::{PATIENCE, until};
use crate::common::netns::{Machine, shell};

/// `ETH_P_ALL`: what an interface sends is shown to no narrower socket.
const EVERYTHING: u16 = 3;
/// Room for what has not been looked at yet.
const QUEUE: usize = 32 * 1024 * 1024;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `GENL_ID_CTRL`: below, and this, are the families of generic netlink itself.
const CONTROL: u16 = 16;

/// `IPVS_CMD_*` that write.
const WRITES: [(u8, &str); 11] = [
    (1, "new service"),
    (2, "set service"),
    (3, "delete service"),
    (5, "new destination"),
    (6, "set destination"),
    (7, "delete destination"),
    (9, "new daemon"),
    (10, "delete daemon"),
    (12, "set config"),
    (16, "zero"),
    (17, "flush"),
];
/// `IPVS_CMD_GET_SERVICE`.
const GET_SERVICE: u8 = 4;

/// A tap on the netlink of a machine.
#[derive(Debug)]
pub(crate) struct Tap {
    director: Machine,
    /// Numbers of commands.
    heard: Arc<Mutex<Vec<u8>>>,
}

/// A moment, as far as the tap is concerned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(usize);

impl Tap {
    pub(crate) fn on(director: &Machine) -> Self {
        shell("modprobe -d /run/modules nlmon");
        shell(&format!("echo {QUEUE} >/proc/sys/net/core/rmem_max"));
        director.shell("ip link add nlmon0 type nlmon && ip link set nlmon0 up");
        let (name, heard) = (director.name().to_owned(), Arc::default());
        let tap = Self { director: director.clone(), heard: Arc::clone(&heard) };
        thread::spawn(move || {
            enter_netns(&name).unwrap();
            listen(&heard);
        });
        // From here on it is known to hear.
        tap.mark();
        tap
    }

    /// Now: after all that has been sent up to here.
    pub(crate) fn mark(&self) -> Mark {
        let before = self.heard.lock().unwrap().len();
        until("the tap hears a read", PATIENCE, || {
            self.director.shell("ipvsadm -Ln >/dev/null");
            self.heard.lock().unwrap()[before..].contains(&GET_SERVICE).then_some(())
        });
        Mark(self.heard.lock().unwrap().len())
    }

    /// How many writes of which kind there were since.
    pub(crate) fn writes_since(&self, mark: Mark) -> BTreeMap<&'static str, usize> {
        let end = self.mark();
        let mut writes = BTreeMap::new();
        for command in &self.heard.lock().unwrap()[mark.0..end.0] {
            if let Some((_, name)) = WRITES.iter().find(|(number, _)| number == command) {
                *writes.entry(*name).or_default() += 1;
            }
        }
        writes
    }
}

fn listen(heard: &Mutex<Vec<u8>>) {
    let protocol = Protocol::from(i32::from(EVERYTHING.to_be()));
    let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).unwrap();
    socket.set_recv_buffer_size(QUEUE).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(600))).unwrap();
    let mut buffer = vec![0; 65_536];
    while let Ok(length) = socket.read(&mut buffer) {
        let mut commands = Vec::new();
        if requests(&buffer[..length], &mut commands).is_some() {
            heard.lock().unwrap().extend(commands);
        }
    }
}

/// The commands in a packet; `None` for what is no row of netlink messages, such as the packets of
/// users.
fn requests(mut packet: &[u8], commands: &mut Vec<u8>) -> Option<()> {
    while !packet.is_empty() {
        let length = u32::from_ne_bytes(packet.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(packet.get(4..6)?.try_into().ok()?);
        let flags = u16::from_ne_bytes(packet.get(6..8)?.try_into().ok()?);
        let message = packet.get(..length).filter(|message| message.len() >= 20)?;
        if flags & REQUEST != 0 && kind > CONTROL {
            commands.push(message[16]);
        }
        packet = packet.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(())
}
