//! The kernel's IPVS table over a generic netlink socket.
//!
//! Owns the socket and the conversation: batches, answers matched by sequence number, dumps read
//! again when they were disturbed. Blocks, but never for longer than five seconds without a word
//! from the kernel. What the bytes mean is [`codec`]'s, what an error number means [`rules`]'.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::codec::{self, Body, Head, Want};
use super::model::{Change, Service, ServiceKey, SyncDaemon, Table, Timeouts};
use super::{Ipvs, IpvsError, rules};

/// Most messages in one `send`: 277 failures fill the default receive buffer, past which the
/// kernel drops answers.
const BATCH: usize = 200;

/// How long the kernel may be silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often a disturbed read is repeated before it is an error.
const ATTEMPTS: usize = 5;

/// Larger than any datagram of a dump (32 KiB).
const RECEIVE: usize = 64 * 1024;

/// Room in the kernel for answers nobody has read yet.
const QUEUE: usize = 4 * 1024 * 1024;

/// The table of the network namespace in which the socket was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
    buffer: Vec<u8>,
    /// An exchange was given up: answers to it may still come.
    unsettled: bool,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread and looks for IPVS. The
    /// kernel loads the module `ip_vs` on its own if it can.
    ///
    /// # Errors
    /// [`IpvsError::NoModule`] if there is none, [`IpvsError::Netlink`] if there is no socket.
    /// Lack of privileges shows when the table is read.
    pub fn open() -> Result<Self, IpvsError> {
        let mut netlink = Self {
            socket: socket().map_err(|errno| failure("cannot open a socket", errno))?,
            family: 0,
            sequence: 0,
            buffer: vec![0; RECEIVE],
            unsettled: false,
        };
        netlink.find_family()?;
        Ok(netlink)
    }

    /// How long the kernel remembers connections.
    ///
    /// # Errors
    /// As [`Ipvs::table`].
    pub fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        self.settle();
        let head =
            Head { family: self.family, sequence: self.next_sequence(), want: Want::Failure };
        let mut request = Vec::new();
        codec::put_get_timeouts(&mut request, head);
        self.send(&request)?;
        let mut timeouts = Timeouts::default();
        let answer = self.answers(head.sequence, |object| {
            timeouts = codec::timeouts(object)?;
            Ok(Next::Stop)
        });
        answer.map(|()| timeouts).map_err(Trouble::into_error)
    }

    /// The threads that synchronise connections with other directors.
    ///
    /// # Errors
    /// As [`Ipvs::table`].
    pub fn sync_daemons(&mut self) -> Result<Vec<SyncDaemon>, IpvsError> {
        let mut daemons = Vec::new();
        let dump = self.dump(codec::put_get_sync_daemons, |object| {
            daemons.push(codec::sync_daemon(object)?);
            Ok(())
        });
        dump.map(|()| daemons).map_err(Trouble::into_error)
    }
}

impl Ipvs for Netlink {
    fn table(&mut self) -> Result<Table, IpvsError> {
        // The number changes when the module is unloaded and loaded again.
        self.find_family()?;
        for _ in 0..ATTEMPTS {
            match self.read_table() {
                Ok(table) => return Ok(table),
                Err(Trouble::Disturbed) => {}
                Err(Trouble::Failed(error)) => return Err(error),
                Err(Trouble::Refused(number)) => return Err(read_refused(number)),
            }
        }
        Err(IpvsError::Netlink(format!("the table kept changing during {ATTEMPTS} reads of it")))
    }

    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        changes.chunks(BATCH).flat_map(|batch| self.execute_batch(batch)).collect()
    }
}

/// Why an exchange brought no result.
enum Trouble {
    /// Answers were lost or are inconsistent: ask again.
    Disturbed,
    /// The kernel answered with this error number.
    Refused(i32),
    /// Asking again does not help.
    Failed(IpvsError),
}

impl Trouble {
    fn into_error(self) -> IpvsError {
        match self {
            Self::Disturbed => IpvsError::Netlink("the kernel's answer was lost".to_owned()),
            Self::Refused(number) => read_refused(number),
            Self::Failed(error) => error,
        }
    }
}

impl From<IpvsError> for Trouble {
    fn from(error: IpvsError) -> Self {
        Self::Failed(error)
    }
}

impl Netlink {
    fn find_family(&mut self) -> Result<(), IpvsError> {
        self.settle();
        let sequence = self.next_sequence();
        let mut request = Vec::new();
        codec::put_get_family(&mut request, sequence);
        self.send(&request)?;
        // No dump: the one object is the whole answer, nothing marks its end.
        let mut family = None;
        let answer = self.answers(sequence, |object| {
            family = Some(codec::family(object)?);
            Ok(Next::Stop)
        });
        match (answer, family) {
            (Ok(()), Some(family)) => {
                self.family = family;
                Ok(())
            }
            (Err(Trouble::Refused(number)), _) if number == Errno::NOENT.raw_os_error() => {
                Err(IpvsError::NoModule)
            }
            (Err(Trouble::Refused(number)), _) => Err(read_refused(number)),
            (Err(Trouble::Failed(error)), _) => Err(error),
            (Err(Trouble::Disturbed), _) | (Ok(()), None) => {
                Err(IpvsError::Netlink("no answer to the question for IPVS".to_owned()))
            }
        }
    }

    fn read_table(&mut self) -> Result<Table, Trouble> {
        let mut table = Table::new();
        self.dump(codec::put_get_services, |object| {
            if let Some((key, service)) = codec::service(object)? {
                table.insert(key, service);
            }
            Ok(())
        })?;
        for (key, service) in &mut table {
            // A service that has gone since is an empty dump.
            self.read_destinations(key, service)?;
        }
        Ok(table)
    }

    fn read_destinations(
        &mut self,
        key: &ServiceKey,
        service: &mut Service,
    ) -> Result<(), Trouble> {
        self.dump(
            |request, head| codec::put_get_destinations(request, head, key),
            |object| {
                if let Some((address, destination)) = codec::destination(object, key.family())? {
                    service.destinations.insert(address, destination);
                }
                Ok(())
            },
        )
    }

    /// Asks for a dump and hands out its objects; one may come twice.
    fn dump(
        &mut self,
        put: impl FnOnce(&mut Vec<u8>, Head),
        mut take: impl FnMut(&[u8]) -> Result<(), IpvsError>,
    ) -> Result<(), Trouble> {
        self.settle();
        let head = Head { family: self.family, sequence: self.next_sequence(), want: Want::Dump };
        let mut request = Vec::with_capacity(128);
        put(&mut request, head);
        self.send(&request)?;
        self.answers(head.sequence, |object| take(object).map(|()| Next::Continue))
    }

    /// Receives the answers to one request until the kernel, or `take`, says it was the last.
    fn answers(
        &mut self,
        sequence: u32,
        mut take: impl FnMut(&[u8]) -> Result<Next, IpvsError>,
    ) -> Result<(), Trouble> {
        let mut interrupted = false;
        loop {
            let length = self.receive()?;
            for reply in codec::replies(&self.buffer[..length]) {
                let reply = reply.inspect_err(|_| self.unsettled = true)?;
                if reply.sequence != sequence {
                    continue;
                }
                interrupted |= reply.interrupted;
                let next = match reply.body {
                    Body::Object(object) => take(object).inspect_err(|_| self.unsettled = true)?,
                    Body::End | Body::Acknowledged => Next::Stop,
                    Body::Refused(number) => return Err(Trouble::Refused(number)),
                    Body::Noise => Next::Continue,
                };
                match next {
                    Next::Continue => {}
                    Next::Stop if interrupted => return Err(Trouble::Disturbed),
                    Next::Stop => return Ok(()),
                }
            }
        }
    }

    fn execute_batch(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        self.settle();
        let first = self.sequence.wrapping_add(1);
        self.sequence = self.sequence.wrapping_add(changes.len() as u32);
        let mut request = Vec::with_capacity(changes.len() * 192);
        let mut results = Vec::with_capacity(changes.len());
        let mut last = None;
        for (index, change) in changes.iter().enumerate() {
            let sequence = first.wrapping_add(index as u32);
            let head = Head { family: self.family, sequence, want: Want::Failure };
            let at = request.len();
            let result = codec::put_change(&mut request, head, change);
            last = if result.is_ok() { Some((index, at)) } else { last };
            results.push(result);
        }
        // Success is silent but for the last one: its answer says that all are done.
        let Some((last, at)) = last else { return results };
        codec::want_acknowledgement(&mut request[at..]);
        let outcome =
            self.send(&request).and_then(|()| self.collect(changes, first, last, &mut results));
        if let Err(error) = outcome {
            // Done or not, nobody knows: whoever plans reads the table again.
            results.iter_mut().filter(|r| r.is_ok()).for_each(|r| *r = Err(error.clone()));
        }
        results
    }

    /// Receives the answers to a batch up to the one to change number `last`.
    fn collect(
        &mut self,
        changes: &[Change],
        first: u32,
        last: usize,
        results: &mut [Result<(), IpvsError>],
    ) -> Result<(), IpvsError> {
        loop {
            let length = self.receive().map_err(|trouble| match trouble {
                Trouble::Failed(error) => error,
                Trouble::Disturbed | Trouble::Refused(_) => {
                    IpvsError::Netlink("the kernel's answers were lost; read again".to_owned())
                }
            })?;
            for reply in codec::replies(&self.buffer[..length]) {
                let reply = reply.inspect_err(|_| self.unsettled = true)?;
                let index = reply.sequence.wrapping_sub(first) as usize;
                let Some(change) = changes.get(index) else { continue };
                if let Body::Refused(number) = reply.body {
                    results[index] = Err(rules::explain(change, number));
                }
                if index == last {
                    return Ok(());
                }
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, request: &[u8]) -> Result<(), IpvsError> {
        rustix::io::retry_on_intr(|| send(&self.socket, request, SendFlags::empty()))
            .map(drop)
            .map_err(|errno| failure("cannot send", errno))
    }

    /// Receives one datagram into the buffer.
    fn receive(&mut self) -> Result<usize, Trouble> {
        let received = rustix::io::retry_on_intr(|| {
            recv(&self.socket, &mut self.buffer[..], RecvFlags::TRUNC)
        });
        let trouble = match received {
            Ok((length, whole)) if length == whole => return Ok(length),
            Ok(_) => IpvsError::Netlink("an answer is larger than any should be".to_owned()).into(),
            Err(Errno::NOBUFS) => Trouble::Disturbed,
            Err(Errno::AGAIN) => IpvsError::Netlink(format!(
                "no answer from the kernel within {} s",
                PATIENCE.as_secs()
            ))
            .into(),
            Err(errno) => failure("cannot receive", errno).into(),
        };
        self.unsettled = true;
        Err(trouble)
    }

    /// Throws away what is left of an exchange that was given up. A dump in progress goes on with
    /// every datagram that is read, and the kernel refuses another one until it has ended.
    fn settle(&mut self) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        loop {
            match recv(&self.socket, &mut self.buffer[..], flags) {
                Ok(_) | Err(Errno::NOBUFS | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether more answers are expected.
enum Next {
    Continue,
    Stop,
}

fn socket() -> Result<OwnedFd, Errno> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(GENERIC))?;
    // Port 0 is the kernel: nobody else can send to this socket from now on.
    connect(&socket, &SocketAddrNetlink::new(0, 0))?;
    sockopt::set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    // Without the privilege to exceed the limit, as much as the limit gives: a batch still fits.
    if sockopt::set_socket_recv_buffer_size_force(&socket, QUEUE).is_err() {
        sockopt::set_socket_recv_buffer_size(&socket, QUEUE)?;
    }
    Ok(socket)
}

fn read_refused(number: i32) -> IpvsError {
    if number == Errno::PERM.raw_os_error() {
        IpvsError::Denied
    } else if number == Errno::NOENT.raw_os_error() {
        IpvsError::NoModule
    } else {
        let error = std::io::Error::from_raw_os_error(number);
        IpvsError::Netlink(format!("the kernel refuses to be read: {error}"))
    }
}

fn failure(what: &str, errno: Errno) -> IpvsError {
    IpvsError::Netlink(format!("{what}: {}", std::io::Error::from(errno)))
}
