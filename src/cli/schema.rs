//! `pointsman schema`: what editors know of policies.

use super::{Exit, Failure, answer, json};
use crate::policy::schema::schema as make_schema;

pub(super) fn schema() -> Result<Exit, Failure> {
    answer(&json(&make_schema())?)?;
    Ok(Exit::Done)
}
