//! The tables, and how a database is opened so that many processes can share it.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use crate::{Error, Result};

/// Transactions are short; whoever waits longer than this waits for something broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What makes each version of the tables of the one before. Released steps never change; new ones go to the end.
const STEPS: [&str; 2] = [TABLES, USED];

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

const USED: &str = "
    ALTER TABLE images ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
    UPDATE images SET used = updated;
";

/// Opens the database, making the tables if it is new.
pub(super) fn open(path: &Path) -> Result<Connection> {
    let started = Instant::now();
    loop {
        match try_open(path) {
            // SQLite does not wait by itself where the change to WAL meets another process that does the same.
            Err(Error::Database(error)) if is_busy(&error) && started.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn try_open(path: &Path) -> Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With WAL a power cut can lose the last transaction but not damage the file.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let newest = STEPS.len() as i64;
    if version(&connection)? < newest {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster while this one waited for the lock.
        let done = usize::try_from(version(&transaction)?).unwrap_or(0);
        for step in STEPS.iter().skip(done) {
            transaction.execute_batch(step)?;
        }
        if done < STEPS.len() {
            transaction.pragma_update(None, "user_version", newest)?;
        }
        transaction.commit()?;
    }
    match version(&connection)? {
        found if found == newest => Ok(connection),
        found => Err(Error::Corrupt {
            what: path.display().to_string(),
            why: format!("its format is {found} and this version of coop knows {newest}; use a newer coop"),
        }),
    }
}

fn version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_database_is_brought_up_to_date_and_a_newer_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(TABLES).unwrap();
        old.execute_batch("INSERT INTO images VALUES ('a', '{}', 1, 7); PRAGMA user_version = 1;").unwrap();
        drop(old);
        let connection = open(&path).unwrap();
        let used: i64 = connection.query_row("SELECT used FROM images", [], |row| row.get(0)).unwrap();
        assert_eq!((used, version(&connection).unwrap()), (7, STEPS.len() as i64));
        connection.pragma_update(None, "user_version", 99).unwrap();
        let refused = open(&path).unwrap_err().to_string();
        assert!(refused.contains("its format is 99"), "{refused}");
    }

    #[test]
    fn many_open_a_new_database_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("images.db");
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| assert_eq!(version(&open(&path).unwrap()).unwrap(), STEPS.len() as i64));
            }
        });
    }
}
