//! `pointsman policy new`: a policy to begin with.

use super::{Exit, Failure, answer};
use crate::policy::starter::starter;

pub(super) fn policy_new(name: Option<&str>) -> Result<Exit, Failure> {
    let policy = starter(name).map_err(|message| Failure { exit: Exit::Usage, message })?;
    answer(&policy)?;
    Ok(Exit::Done)
}
