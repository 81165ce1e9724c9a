//! The tables, and how a database is opened so that many processes can share it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use crate::{Error, Result};

/// Raised when the tables change.
const VERSION: i64 = 1;
/// Transactions are short; whoever waits longer than this waits for something broken.
const PATIENCE: Duration = Duration::from_secs(30);

const TABLES: &str = "
    CREATE TABLE images (name TEXT PRIMARY KEY, manifest TEXT NOT NULL, created INTEGER NOT NULL,
                         updated INTEGER NOT NULL);
    CREATE TABLE pins (reference TEXT NOT NULL, platform TEXT NOT NULL, manifest TEXT NOT NULL,
                       updated INTEGER NOT NULL, PRIMARY KEY (reference, platform));
    CREATE TABLE sources (digest TEXT NOT NULL, host TEXT NOT NULL, repository TEXT NOT NULL,
                          UNIQUE (digest, host, repository));
    CREATE TABLE builds (id INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, started INTEGER NOT NULL,
                         milliseconds INTEGER NOT NULL, succeeded INTEGER NOT NULL, body TEXT NOT NULL);
    CREATE INDEX builds_by_subject ON builds (subject, id);
";

/// Opens the database, making the tables if it is new.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL a power cut can lose the last transaction but not damage the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    if version(&connection)? == 0 {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster while this one waited for the lock.
        if version(&transaction)? == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
    }
    match version(&connection)? {
        VERSION => Ok(connection),
        other => Err(Error::Corrupt {
            what: path.display().to_string(),
            why: format!("its format is {other} and this version of coop knows {VERSION}; use a matching coop"),
        }),
    }
}

fn version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}
