//! The file itself: opening it, making its tables, and whether it is what this version needs.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::error::{classify, hold};
use crate::store::StoreError;
use crate::store::schema::{self, Column, Key, SQLITE_APPLICATION_ID, VERSION};

/// The write-ahead log is cut back to this after a checkpoint: a few flushes of the largest tier.
const WAL_BYTES_KEPT: i64 = 16 << 20;
/// Memory of a connection's page cache.
const CACHE_KIB: i64 = 2_048;

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let meta = std::fs::metadata(path).map_err(|error| {
            hold(
                format!("open {}: {error}", path.display()),
                "name a store that is there; `pitwire run` and `pitwire schema apply` make one",
            )
        })?;
        Ok(Self { device: meta.dev(), inode: meta.ino() })
    }
}

/// Opens the file to write, and makes it and the last component of its directory if they are not there.
pub(super) fn open_to_write(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        std::fs::create_dir(parent).map_err(|error| {
            hold(
                format!("make the directory {}: {error}", parent.display()),
                "make it, and let the agent's user write it",
            )
        })?;
    }
    let failed = |error| classify(&error, "open", path);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    owner(&connection, path)?;
    to_wal(&connection, busy_timeout).map_err(failed)?;
    for (pragma, value) in [("synchronous", 2), ("journal_size_limit", WAL_BYTES_KEPT), ("cache_size", -CACHE_KIB)] {
        connection.pragma_update(None, pragma, value).map_err(failed)?;
    }
    if !schema_version(&connection).map_err(failed)?.made() {
        create_tables(&mut connection).map_err(failed)?;
    }
    Ok(connection)
}

/// Opens the file to read.
pub(super) fn open_to_read(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    FileId::of(path)?;
    let failed = |error| classify(&error, "open", path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(busy_timeout).map_err(failed)?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(failed)?;
    owner(&connection, path)?;
    Ok(connection)
}

/// What a file says of itself.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    application_id: i64,
    version: i64,
}

impl Stamp {
    /// Whether a Pitwire has made its tables.
    fn made(self) -> bool {
        self.application_id == SQLITE_APPLICATION_ID && self.version > 0
    }
}

fn schema_version(connection: &Connection) -> Result<Stamp, rusqlite::Error> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok(Stamp { application_id: pragma("application_id")?, version: pragma("user_version")? })
}

/// The stamp and the number of tables of one moment: between two reads another opener may make the file.
fn stamp_and_tables(connection: &Connection) -> Result<(Stamp, i64), rusqlite::Error> {
    let moment = connection.unchecked_transaction()?;
    let stamp = schema_version(&moment)?;
    let tables = moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    moment.finish()?;
    Ok((stamp, tables))
}

/// Refuses files that are another program's, or a newer version's.
fn owner(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let (stamp, tables) = stamp_and_tables(connection).map_err(|error| classify(&error, "open", path))?;
    let path = path.display();
    if stamp.version > VERSION && stamp.application_id == SQLITE_APPLICATION_ID {
        return Err(hold(
            format!("{path} has tables of version {}, this program knows {VERSION}", stamp.version),
            "use the version of Pitwire that made it, or a newer one",
        ));
    }
    if stamp.application_id == SQLITE_APPLICATION_ID || (stamp.application_id == 0 && tables == 0) {
        return Ok(());
    }
    Err(hold(format!("{path} is a database of another program"), "name a file of Pitwire's own"))
}

/// Switching needs the file for itself for a moment, and SQLite does not always wait for that.
fn to_wal(connection: &Connection, busy_timeout: Duration) -> Result<(), rusqlite::Error> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut left = busy_timeout;
    loop {
        let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get::<_, String>(0));
        match mode {
            Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) && !left.is_zero() => {
                std::thread::sleep(PAUSE);
                left = left.saturating_sub(PAUSE);
            }
            Err(error) => return Err(error),
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(mode) => {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
                let text = format!("the file system allows no write-ahead log (journal mode {mode})");
                return Err(rusqlite::Error::SqliteFailure(code, Some(text)));
            }
        }
    }
}

/// Makes the tables that are absent, in one transaction: of several openers at once one makes them.
pub(super) fn create_tables(connection: &mut Connection) -> Result<(), rusqlite::Error> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for table in schema::tables() {
        transaction.execute_batch(&table.create_sql())?;
    }
    transaction.pragma_update(None, "application_id", SQLITE_APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

/// How the file's tables differ from what this version needs.
pub(super) fn differences(connection: &Connection) -> Result<Vec<String>, rusqlite::Error> {
    let mut differences = Vec::new();
    for table in schema::tables() {
        let mut query = connection.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
        let found: Result<Vec<_>, _> = query
            .query_map([&table.name], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)))?
            .collect();
        let found: Vec<_> = found?.into_iter().map(|(name, kind, place)| column(table, name, kind, place)).collect();
        differences.extend(table.differences(&found));
    }
    Ok(differences)
}

/// SQLite knows fewer types and one kind of key: translated back, so that one comparison serves both.
fn column(table: &schema::Table, name: String, kind: String, place: u32) -> Column {
    let needed = table.columns.iter().find(|column| column.name == name);
    let kind = match needed {
        Some(needed) if schema::sqlite_type(&needed.kind) == kind => needed.kind.clone(),
        _ => kind.to_lowercase(),
    };
    let partition = table.columns.iter().filter(|column| matches!(column.key, Key::Partition(_))).count();
    let key = match place as usize {
        0 => Key::None,
        place if place <= partition => Key::Partition(place - 1),
        place => Key::Clustering(place - 1 - partition),
    };
    Column { name, kind, key }
}

/// Differences as an error.
pub(super) fn judge(path: &Path, differences: &[String]) -> Result<(), StoreError> {
    if differences.is_empty() {
        return Ok(());
    }
    let path = path.display();
    Err(hold(
        format!("{path} is not as this version needs it: {}", schema::describe(differences)),
        &format!(
            "run `pitwire schema apply --store sqlite://{path}`, or move the file away and restart to begin a new one"
        ),
    ))
}
