//! SQLite's errors, by what the caller does about them.

use std::path::Path;

use rusqlite::ErrorCode;

use crate::store::StoreError;

/// What a code means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Unavailable,
    Hold(&'static str),
    Rejected,
}

const DAMAGED: &str = "move the file away and restart to begin a new one; `sqlite3 FILE .recover` saves what is left";
const SCHEMA: &str = "run `pitwire schema apply --store URL`, or move the file away and restart to begin a new one";

fn class(code: ErrorCode) -> Class {
    match code {
        // The disk may be freed, the lock released, the device come back.
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::DiskFull
        | ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory
        | ErrorCode::OperationInterrupted
        | ErrorCode::OperationAborted
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::SchemaChanged => Class::Unavailable,
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Class::Hold(DAMAGED),
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            Class::Hold("let the agent's user write the file and its directory")
        }
        ErrorCode::CannotOpen => Class::Hold("make the directory, and let the agent's user write it"),
        ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch => Class::Rejected,
        // `no such table`, `no such column` and everything that only a changed file brings about.
        _ => Class::Hold(SCHEMA),
    }
}

/// What `error`, met when doing `operation` with the file at `path`, means for the caller.
pub(super) fn classify(error: &rusqlite::Error, operation: &str, path: &Path) -> StoreError {
    let what = format!("{operation} {}", path.display());
    let class = match error {
        rusqlite::Error::SqliteFailure(failure, _) => class(failure.code),
        // A chunk that cannot be taken apart.
        rusqlite::Error::ToSqlConversionFailure(_) => Class::Rejected,
        // Values of a row that is not ours.
        _ => Class::Hold(SCHEMA),
    };
    match class {
        Class::Unavailable => StoreError::Unavailable { what, reason: error.to_string() },
        Class::Hold(remedy) => hold(format!("{what}: {error}"), remedy),
        Class::Rejected => StoreError::Rejected { reason: format!("{what}: {error}") },
    }
}

/// A [`StoreError::Hold`].
pub(super) fn hold(reason: String, remedy: &str) -> StoreError {
    StoreError::Hold { reason, remedy: remedy.into() }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn every_code_is_told_apart_by_what_the_caller_does() {
        let of = |code: i32| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            match classify(&error, "write to", Path::new("/x.db")) {
                StoreError::Unavailable { .. } => "unavailable",
                StoreError::Hold { .. } => "hold",
                StoreError::Rejected { .. } => "rejected",
            }
        };
        for (code, expected) in [
            (ffi::SQLITE_BUSY, "unavailable"),
            (ffi::SQLITE_LOCKED, "unavailable"),
            (ffi::SQLITE_FULL, "unavailable"),
            (ffi::SQLITE_IOERR, "unavailable"),
            (ffi::SQLITE_NOMEM, "unavailable"),
            (ffi::SQLITE_CORRUPT, "hold"),
            (ffi::SQLITE_NOTADB, "hold"),
            (ffi::SQLITE_READONLY, "hold"),
            (ffi::SQLITE_PERM, "hold"),
            (ffi::SQLITE_CANTOPEN, "hold"),
            (ffi::SQLITE_ERROR, "hold"),
            (ffi::SQLITE_CONSTRAINT, "rejected"),
            (ffi::SQLITE_TOOBIG, "rejected"),
            (ffi::SQLITE_MISMATCH, "rejected"),
        ] {
            assert_eq!(of(code), expected, "{code}");
        }
    }
}
