//! Who asks a database, and for what.

use crate::policy::decode::Field;
use crate::policy::file::database::DatabaseEntry;
use crate::probe::target::{CheckKind, MysqlCheck, PostgresqlCheck};

/// A name that tells whoever reads the server's log where a login comes from.
const USER: &str = "pointsman";

/// The database that every PostgreSQL server is made with.
const DATABASE: &str = "postgres";

pub(super) fn resolve(entry: &DatabaseEntry) -> Option<CheckKind> {
    let or = |field: &Field<String>, default: &str| {
        (!field.is_bad()).then(|| field.unwrap_or(default.to_owned()))
    };
    Some(match entry {
        DatabaseEntry::Redis => CheckKind::Redis,
        DatabaseEntry::Mysql { user } => CheckKind::Mysql(MysqlCheck { user: or(user, USER)? }),
        DatabaseEntry::Postgresql { user, database } => CheckKind::Postgresql(PostgresqlCheck {
            user: or(user, USER)?,
            database: or(database, DATABASE)?,
        }),
    })
}
