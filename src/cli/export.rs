//! `pointsman export`: the live table as policies.

use super::args::{Export as Args, Table};
use super::{Exit, Failure, answer, complain, open, runtime};
use crate::control::PlanInput;
use crate::control::client;
use crate::ipvs::Ipvs;
use crate::ipvs::memory::Memory;
use crate::policy::export::export as make_export;

pub(super) fn export(args: &Args) -> Result<Exit, Failure> {
    open::enter(args.netns.as_deref())?;
    let mut table = table(args)?
        .table()
        .map_err(|error| Failure::text(format!("cannot read the IPVS table: {error}")))?;
    // What leads probes is the daemon's own, and made by it anew.
    table.retain(|key, _| !key.is_private());
    if table.is_empty() {
        let hint = "`pointsman policy new` prints a policy to begin with";
        return Err(Failure::text(format!("the IPVS table is empty: {hint}")));
    }
    let export = make_export(&table);
    for (key, reason) in &export.left_out {
        complain(&format!("pointsman: {key} is left out: {reason}"));
    }
    answer(&export.yaml)?;
    Ok(if export.left_out.is_empty() { Exit::Done } else { Exit::Pending })
}

/// The kernel's, or the one in the memory of a running daemon.
fn table(args: &Args) -> Result<Box<dyn Ipvs>, Failure> {
    if args.ipvs == Table::Kernel {
        return open::table(args.ipvs);
    }
    let daemon: PlanInput = runtime()?
        .block_on(client::get(&args.socket.socket, "/v1/plan-input"))
        .map_err(|error| Failure::new(&error))?;
    let none = || Failure::text("the running daemon has no table in memory: use --ipvs kernel");
    Ok(Box::new(Memory::new(daemon.table.ok_or_else(none)?)))
}
