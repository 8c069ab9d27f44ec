//! What several commands open the same way: namespace, policies, table.

use std::path::{Path, PathBuf};

use super::args::{Common, Table};
use super::{Exit, Failure, colour, complain};
use crate::alerts;
use crate::alerts::config::Alerts;
use crate::ipvs::Ipvs;
use crate::ipvs::memory::Memory;
use crate::ipvs::netlink::Netlink;
use crate::ipvs::netns;
use crate::policy::load::{Loaded, load};
use crate::policy::problem::{Problem, render_all};
use crate::reconcile::ownership::{OWNED, Owned};
use crate::record::{Record, Scope};

/// Moves this thread into the namespace that was asked for. Before any other thread starts.
pub(super) fn enter(netns: Option<&str>) -> Result<(), Failure> {
    match netns {
        None => Ok(()),
        Some(name) => netns::enter_netns(name).map_err(|error| Failure::new(&error)),
    }
}

/// Loads policies; problems go to standard error, all of them.
pub(super) fn policies(path: &Path) -> Result<Loaded, Failure> {
    load(path).map_err(|problems| {
        complain_of(&problems);
        let message = format!("invalid policies in {}: nothing was touched", path.display());
        Failure { exit: Exit::Usage, message }
    })
}

/// All problems and their number, on standard error.
pub(super) fn complain_of(problems: &[Problem]) {
    if !problems.is_empty() {
        complain(render_all(problems, colour(&std::io::stderr())).trim_end());
    }
}

/// Opens the table that was asked for.
pub(super) fn table(which: Table) -> Result<Box<dyn Ipvs>, Failure> {
    Ok(match which {
        Table::Kernel => Box::new(Netlink::open().map_err(|error| Failure::new(&error))?),
        Table::Memory => Box::new(Memory::default()),
    })
}

/// The record of what is owned in the table that was asked for.
pub(super) fn store(common: &Common) -> Record<Owned> {
    Record::new(&common.state_dir, OWNED, &scope(common))
}

/// Which table what is recorded belongs to.
pub(super) fn scope(common: &Common) -> Scope {
    scope_of(common.ipvs, common.netns.as_deref())
}

pub(super) fn scope_of(table: Table, netns: Option<&str>) -> Scope {
    match (table, netns) {
        (Table::Memory, _) => Scope::Memory,
        (Table::Kernel, None) => Scope::Kernel,
        (Table::Kernel, Some(name)) => Scope::Namespace(name.to_owned()),
    }
}

/// Where alerts are configured by default.
const ALERTS_FILE: &str = "/etc/pointsman/alerts.yaml";

/// The file that says who is told of problems; the default one need not be there.
pub(super) fn alerts_file(named: Option<&Path>) -> Option<PathBuf> {
    let path = named.unwrap_or(Path::new(ALERTS_FILE));
    (named.is_some() || path.exists()).then(|| path.to_owned())
}

/// Who is told of problems; problems with the file go to standard error.
pub(super) fn alerts(path: &Path) -> Result<Alerts, Failure> {
    alerts::file::load(path).map_err(|problems| {
        complain_of(&problems);
        let message = format!("invalid alerts in {}: nobody is told of anything", path.display());
        Failure { exit: Exit::Usage, message }
    })
}

/// What this machine calls itself.
pub(super) fn director() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
