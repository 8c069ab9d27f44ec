//! The kernel's IPVS table: words, bytes, and the seam behind which the kernel stands.
//!
//! [`Ipvs`] is all the rest of the crate knows of a kernel: read the table, execute changes. The
//! implementations are the netlink socket, the memory table (same rules, same errors, no
//! privileges) and the rehearsal, which reads the real one and overlays writes in memory. One
//! contract suite (`tests/contract`) runs on all of them, the first on a real kernel.

pub mod codec;
pub mod memory;
pub mod model;
pub mod netlink;
pub mod netns;
pub mod private;
pub mod rehearsal;
pub mod rules;
pub mod table_lock;
pub mod text;

use thiserror::Error;

use model::{Change, Table};

/// A table of virtual services, the kernel's or one that behaves like it.
pub trait Ipvs: Send {
    /// Reads everything: all services, all destinations, normalised so that what was written
    /// compares equal to what is read.
    ///
    /// # Errors
    /// Any failure to read. A failed read is never an empty table.
    fn table(&mut self) -> Result<Table, IpvsError>;

    /// Executes the changes in order and answers each one, in the same order and number.
    ///
    /// A failure does not stop the ones after it. Not atomic: a crash leaves a prefix.
    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>>;
}

impl Ipvs for Box<dyn Ipvs> {
    fn table(&mut self) -> Result<Table, IpvsError> {
        self.as_mut().table()
    }

    fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), IpvsError>> {
        self.as_mut().execute(changes)
    }
}

/// Why the kernel refused, in the words of whoever has to mend it.
///
/// The kernel gives an error number only, and some numbers have two meanings; the implementations
/// of [`Ipvs`] know the command and so which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IpvsError {
    /// `EPERM`: reads need it too.
    #[error(
        "not permitted: IPVS needs CAP_NET_ADMIN in the initial user namespace; run as root or grant the capability (setcap cap_net_admin+ep, or AmbientCapabilities= in the unit)"
    )]
    Denied,
    /// The generic netlink family does not exist.
    #[error("the kernel has no IPVS: load it with `modprobe ip_vs`, or build it with CONFIG_IP_VS")]
    NoModule,
    /// `ESRCH`: the virtual service is not in the table.
    #[error("no such virtual service in the kernel")]
    NoSuchService,
    /// `ENOENT` on a destination.
    #[error("no such destination in the kernel")]
    NoSuchDestination,
    /// `EEXIST` on add.
    #[error("already in the kernel")]
    Exists,
    /// `ENOENT` on a service: its scheduler, or its persistence engine, is not available.
    #[error("the kernel has no {what} `{name}`: load it with `modprobe {module}`")]
    NoModuleFor {
        /// `scheduler` or `persistence engine`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The kernel module that brings it.
        module: String,
    },
    /// `ERANGE`: weight above 2^31-1, or lower threshold above the upper one.
    #[error(
        "weight or thresholds out of range: weight is 0 to 2147483647, lower threshold at most the upper one"
    )]
    OutOfRange,
    /// `EINVAL`, `EAFNOSUPPORT` and other refusals of the content of a command.
    #[error("the kernel refuses it: {0}")]
    Invalid(String),
    /// The socket failed, or the answer was not understood.
    #[error("netlink: {0}")]
    Netlink(String),
}

impl IpvsError {
    /// Whether the same change may succeed later without anybody mending anything.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::OutOfRange | Self::Invalid(_))
    }
}
