//! Gives up what the daemon does not need, for good, and lays down what it needs seldom.
//!
//! Capabilities belong to threads: all of this happens before the first other thread starts, which
//! then has no more than the one that started it. What parses data from outside runs with none
//! in effect that is worth having: only the reconciler's thread has the table's, and the others
//! take theirs up for single system calls.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities,
    capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs,
};

use crate::policy::model::PolicySet;
use crate::probe::target::CheckKind;

/// Overrule the permissions of files.
const ACCESS: CapabilitySet =
    CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::DAC_READ_SEARCH).union(CapabilitySet::FOWNER);

/// `RLIMIT_NICE` for a nice value of -10 (getrlimit(2)).
const NICE: u64 = 30;

/// To run programs as another user, and to end them as that.
pub const OF_PROGRAMS: CapabilitySet =
    CapabilitySet::SETUID.union(CapabilitySet::SETGID).union(CapabilitySet::KILL);

/// What threads hold but do not use, except within [`with`].
const LAID_DOWN: CapabilitySet = CapabilitySet::NET_ADMIN
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// What the daemon needs for these policies: the table, and what their checks take.
///
/// A later reload cannot bring more: a check that misses its privilege is inconclusive and says so.
pub fn needed(policies: &PolicySet) -> CapabilitySet {
    let of_check = |check: &CheckKind| match check {
        CheckKind::Icmp => CapabilitySet::NET_RAW,
        CheckKind::Exec(_) => OF_PROGRAMS,
        _ => CapabilitySet::empty(),
    };
    let checks = policies.targets.iter().map(|target| of_check(&target.check.kind));
    checks.fold(CapabilitySet::NET_ADMIN, CapabilitySet::union)
}

/// What a rehearsal needs besides: the records of a daemon that may be another user.
pub const OF_REHEARSAL: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// Stops overruling the permissions of files, so that the first load of the policies fails where a
/// later one would.
///
/// # Errors
/// What the kernel refuses; nothing should be.
pub fn respect_permissions() -> io::Result<()> {
    let mut sets = capabilities(None)?;
    sets.effective.remove(ACCESS);
    Ok(set_capabilities(None, sets)?)
}

/// Keeps these capabilities, as far as they are there, and gives up all others, for this process
/// and all that it starts. Most of those kept are laid down until [`with`] or [`only`] takes them
/// up. Gives up, too, what setuid programs would grant, and that other
/// processes of the same user look into this one's memory. What was kept.
///
/// # Errors
/// What the kernel refuses; nothing should be.
pub fn keep(needed: CapabilitySet) -> io::Result<CapabilitySet> {
    let before = capabilities(None)?;
    allow_nice();
    if before.effective.contains(CapabilitySet::SETPCAP) {
        empty_bounding_set(needed)?;
        // Being root is no privilege for programs it starts.
        use CapabilitiesSecureBits as Bits;
        set_capabilities_secure_bits(Bits::NO_ROOT | Bits::NO_ROOT_LOCKED)?;
    }
    clear_ambient_capability_set()?;
    let kept = before.permitted.intersection(needed);
    let (effective, inheritable) = (kept.difference(LAID_DOWN), CapabilitySet::empty());
    set_capabilities(None, CapabilitySets { effective, permitted: kept, inheritable })?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(kept)
}

/// Takes these up for as long as something takes, as far as this thread holds them.
pub fn with<T>(wanted: CapabilitySet, act: impl FnOnce() -> T) -> T {
    let _taken = capabilities(None).ok().and_then(|before| Taken::up(wanted, before));
    act()
}

/// Lays down again what was taken up.
struct Taken(CapabilitySets);

impl Taken {
    /// `None` where nothing has to be taken up, or can be.
    fn up(wanted: CapabilitySet, before: CapabilitySets) -> Option<Self> {
        let effective = before.effective.union(wanted.intersection(before.permitted));
        let is_more = effective != before.effective;
        let taken = CapabilitySets { effective, ..before };
        (is_more && set_capabilities(None, taken).is_ok()).then_some(Self(before))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Less than before is never refused.
        let _ = set_capabilities(None, self.0);
    }
}

/// Holds these and no others in this thread, as far as it had them. Without any the work fails
/// later, and says why.
pub fn only(wanted: CapabilitySet) {
    let Ok(before) = capabilities(None) else { return };
    let kept = wanted.intersection(before.permitted);
    let inheritable = CapabilitySet::empty();
    let _ =
        set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable });
}

/// Holds none in this thread from now on.
pub fn none() {
    only(CapabilitySet::empty());
}

/// Does something in a thread without any, which then has none to hand on to threads that it starts.
pub fn without<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    let bare = || {
        none();
        act()
    };
    std::thread::scope(|scope| match scope.spawn(bare).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The names as in capabilities(7), for the log.
pub fn names(capabilities: CapabilitySet) -> String {
    let names = capabilities.iter_names().map(|(name, _)| format!("CAP_{name}"));
    names.collect::<Vec<_>>().join(" ")
}

fn empty_bounding_set(but: CapabilitySet) -> io::Result<()> {
    for (_, capability) in CapabilitySet::all().difference(but).iter_names() {
        // A kernel that does not know one yet has it in no set.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// The reconciler goes first where processors are scarce, which a limit allows too. Without it the
/// nice value stays as it is.
fn allow_nice() {
    let limit = getrlimit(Resource::Nice);
    if limit.current.is_some_and(|current| current < NICE) {
        let limit =
            Rlimit { current: Some(NICE), maximum: limit.maximum.map(|most| most.max(NICE)) };
        let _ = setrlimit(Resource::Nice, limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::load::load;

    #[test]
    fn checks_say_what_they_need() {
        let needed_for = |check: &str| {
            let directory = tempfile::tempdir().unwrap();
            let text = format!(
                "virtual_services: [tcp://192.0.2.1:80]\nreal_servers: [192.0.2.10]\nchecks: [{check}]\n"
            );
            std::fs::write(directory.path().join("www.yaml"), text).unwrap();
            names(needed(&load(directory.path()).unwrap().set))
        };
        assert_eq!(needed_for("tcp: {}"), "CAP_NET_ADMIN");
        assert_eq!(needed_for("tcp: {}, icmp: {}"), "CAP_NET_ADMIN CAP_NET_RAW");
        assert_eq!(
            needed_for("exec: { command: [/bin/true] }"),
            "CAP_KILL CAP_SETGID CAP_SETUID CAP_NET_ADMIN"
        );
    }
}
