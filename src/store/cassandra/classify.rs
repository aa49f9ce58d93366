//! The driver's and the server's errors, by what the caller does about them. Pure; the table of the tests
//! is the specification.
//!
//! Waiting helps against most things. What a row itself is to blame for is only *suspected* here: the
//! server gives the same code for a table that is missing, so the caller looks at the schema first.

use scylla::errors::{
    BadQuery, ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, MetadataFetchErrorKind, NewSessionError, NextPageError, NextRowError, PrepareError,
    RequestAttemptError, RequestError, SchemaAgreementError, UseKeyspaceError,
};

/// What an error means for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Wait and try again.
    Unavailable,
    /// A person has to act: what to do.
    Hold(&'static str),
    /// The schema is blamed: hold if it is wrong, else wait (a node may not have heard of a change yet).
    Schema,
    /// The rows are blamed: reject them if the schema is right.
    Suspect,
}

const LOGIN: &str = "set store.user and store.password_file to what the server accepts";
const PERMISSION: &str = "grant the user SELECT and MODIFY on the keyspace (and CREATE for `pitwire schema apply`)";
const SERVER: &str = "correct [store] or the server's settings";
const VERSION: &str = "use Cassandra 4.0 or newer";

/// What Cassandra 4 and 5 say when a keyspace, table or column is not as a statement needs it.
const SCHEMA_WORDS: [&str; 8] = [
    "does not exist",
    "doesn't exist",
    "unconfigured table",
    "Undefined column",
    "Unknown identifier",
    "unknown keyspace",
    "Unknown keyspace",
    "Undefined name",
];
/// What they say when a write can never fit.
const TOO_LARGE_WORDS: [&str; 3] = ["oversized mutation", "is too big", "exceeds maximum allowed length"];

/// An error of the server.
pub(super) fn database(error: &DbError, message: &str) -> Class {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match error {
        DbError::Invalid | DbError::ServerError | DbError::ProtocolError if says(&TOO_LARGE_WORDS) => Class::Suspect,
        DbError::Invalid if says(&SCHEMA_WORDS) => Class::Schema,
        DbError::Invalid => Class::Suspect,
        DbError::AlreadyExists { .. } => Class::Schema,
        DbError::AuthenticationError => Class::Hold(LOGIN),
        DbError::Unauthorized => Class::Hold(PERMISSION),
        DbError::ConfigError | DbError::FunctionFailure { .. } => Class::Hold(SERVER),
        DbError::SyntaxError => Class::Hold(VERSION),
        // Unavailable, overloaded, bootstrapping, timeouts, failures, rate limits, bugs of the server, and
        // codes of servers to come: the write may be repeated until it succeeds.
        _ => Class::Unavailable,
    }
}

/// An error of one attempt of a request.
pub(super) fn attempt(error: &RequestAttemptError) -> Class {
    match error {
        RequestAttemptError::DbError(error, message) => database(error, message),
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => Class::Suspect,
        RequestAttemptError::RepreparedIdChanged { .. } | RequestAttemptError::RepreparedIdMissingInBatch => {
            Class::Schema
        }
        _ => Class::Unavailable,
    }
}

/// An error of a request.
pub(super) fn execution(error: &ExecutionError) -> Class {
    match error {
        ExecutionError::BadQuery(error) => bad_query(error),
        ExecutionError::PrepareError(error) => prepare(error),
        ExecutionError::ConnectionPoolError(error) => pool(error),
        ExecutionError::LastAttemptError(error) => attempt(error),
        ExecutionError::UseKeyspaceError(error) => use_keyspace(error),
        ExecutionError::SchemaAgreementError(SchemaAgreementError::RequestError(error)) => attempt(error),
        ExecutionError::MetadataError(error) => metadata(error),
        _ => Class::Unavailable,
    }
}

/// An error of making a session.
pub(super) fn new_session(error: &NewSessionError) -> Class {
    match error {
        NewSessionError::MetadataError(error) => metadata(error),
        NewSessionError::UseKeyspaceError(error) => use_keyspace(error),
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => Class::Hold(SERVER),
        // A name that cannot be resolved yet may be, once the network is up.
        _ => Class::Unavailable,
    }
}

/// An error of preparing a statement.
pub(super) fn prepare(error: &PrepareError) -> Class {
    match error {
        PrepareError::ConnectionPoolError(error) => pool(error),
        PrepareError::AllAttemptsFailed { first_attempt } => attempt(first_attempt),
        _ => Class::Unavailable,
    }
}

/// Values that do not fit a statement: either they are too large, or the columns are not the expected ones.
fn bad_query(error: &BadQuery) -> Class {
    match error {
        BadQuery::PartitionKeyExtraction => Class::Schema,
        _ => Class::Suspect,
    }
}

fn pool(error: &ConnectionPoolError) -> Class {
    match error {
        ConnectionPoolError::Broken { last_connection_error } => connection(last_connection_error),
        _ => Class::Unavailable,
    }
}

fn connection(error: &ConnectionError) -> Class {
    use ConnectionSetupRequestErrorKind as Setup;
    let ConnectionError::ConnectionSetupRequestError(error) = error else { return Class::Unavailable };
    match error.get_error() {
        Setup::DbError(error, message) => match database(error, message) {
            // No row was sent yet.
            Class::Suspect | Class::Schema => Class::Unavailable,
            class => class,
        },
        Setup::MissingAuthentication
        | Setup::StartAuthSessionError(_)
        | Setup::AuthChallengeEvaluationError(_)
        | Setup::AuthFinishError(_) => Class::Hold(LOGIN),
        _ => Class::Unavailable,
    }
}

fn use_keyspace(error: &UseKeyspaceError) -> Class {
    match error {
        UseKeyspaceError::RequestError(error) => attempt(error),
        _ => Class::Unavailable,
    }
}

fn metadata(error: &MetadataError) -> Class {
    let class = match error {
        MetadataError::ConnectionPoolError(error) => pool(error),
        MetadataError::FetchError(error) => match &error.error {
            MetadataFetchErrorKind::PrepareError(error) => attempt(error),
            MetadataFetchErrorKind::NextRowError(NextRowError::NextPageError(NextPageError::RequestFailure(
                RequestError::LastAttemptError(error),
            ))) => attempt(error),
            _ => Class::Unavailable,
        },
        _ => Class::Unavailable,
    };
    // The driver's own queries say nothing of our rows.
    if matches!(class, Class::Suspect | Class::Schema) { Class::Unavailable } else { class }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use scylla::errors::{OperationType, WriteType};
    use scylla::statement::Consistency;

    use super::*;

    fn db(error: DbError, message: &str) -> ExecutionError {
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, message.into()))
    }

    #[test]
    fn what_waiting_mends_is_unavailable() {
        let consistency = Consistency::LocalQuorum;
        let write_type = WriteType::UnloggedBatch;
        let errors = [
            db(DbError::Unavailable { consistency, required: 2, alive: 1 }, ""),
            db(DbError::Overloaded, "Request dropped because the node is overloaded"),
            db(DbError::IsBootstrapping, ""),
            db(DbError::TruncateError, ""),
            db(DbError::WriteTimeout { consistency, received: 1, required: 2, write_type: write_type.clone() }, ""),
            db(DbError::ReadTimeout { consistency, received: 1, required: 2, data_present: false }, ""),
            db(DbError::WriteFailure { consistency, received: 1, required: 2, numfailures: 1, write_type }, ""),
            db(DbError::ReadFailure { consistency, received: 1, required: 2, numfailures: 1, data_present: true }, ""),
            db(DbError::RateLimitReached { op_type: OperationType::Write, rejected_by_coordinator: true }, ""),
            db(DbError::ServerError, "java.lang.NullPointerException"),
            db(DbError::ProtocolError, "Invalid or unsupported protocol version"),
            db(DbError::Other(0x7777), ""),
            ExecutionError::RequestTimeout(Duration::from_secs(2)),
            ExecutionError::EmptyPlan,
            ExecutionError::ConnectionPoolError(ConnectionPoolError::Initializing),
            ExecutionError::ConnectionPoolError(ConnectionPoolError::Broken {
                last_connection_error: ConnectionError::ConnectTimeout,
            }),
            ExecutionError::ConnectionPoolError(ConnectionPoolError::Broken {
                last_connection_error: std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into(),
            }),
            ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId),
        ];
        for error in errors {
            assert_eq!(execution(&error), Class::Unavailable, "{error}");
        }
    }

    #[test]
    fn what_a_person_mends_is_held_with_what_to_do() {
        for (error, remedy) in [
            (DbError::AuthenticationError, LOGIN),
            (DbError::Unauthorized, PERMISSION),
            (DbError::ConfigError, SERVER),
            (DbError::SyntaxError, VERSION),
        ] {
            assert_eq!(execution(&db(error.clone(), "")), Class::Hold(remedy), "{error}");
            let prepared = PrepareError::AllAttemptsFailed {
                first_attempt: RequestAttemptError::DbError(error.clone(), String::new()),
            };
            assert_eq!(prepare(&prepared), Class::Hold(remedy), "{error}");
        }
    }

    #[test]
    fn a_missing_table_blames_the_schema_and_never_the_rows() {
        for message in [
            "table chunks does not exist",
            "unconfigured table chunks",
            "Keyspace race does not exist",
            "keyspace race does not exist",
            "Undefined column name v_min in table race.chunks",
        ] {
            assert_eq!(execution(&db(DbError::Invalid, message)), Class::Schema, "{message}");
        }
        assert_eq!(bad_query(&BadQuery::PartitionKeyExtraction), Class::Schema);
    }

    #[test]
    fn what_can_never_fit_blames_the_rows() {
        for (error, message) in [
            (DbError::Invalid, "Rejected an oversized mutation (17825972/16777216) for keyspace: race"),
            (DbError::Invalid, "Key may not be empty"),
            (DbError::Invalid, "Key length of 70000 is longer than maximum of 65535"),
            (DbError::ProtocolError, "Request is too big: length 17 exceeds maximum allowed length 16"),
            (DbError::ServerError, "Request is too big: length 17 exceeds maximum allowed length 16"),
        ] {
            assert_eq!(execution(&db(error, message)), Class::Suspect, "{message}");
        }
        let long = ExecutionError::BadQuery(BadQuery::ValuesTooLongForKey(70_000, 65_535));
        assert_eq!(execution(&long), Class::Suspect);
    }

    #[test]
    fn a_session_is_held_for_a_login_and_waited_for_otherwise() {
        let names = NewSessionError::FailedToResolveAnyHostname(vec!["db".into()]);
        assert_eq!(new_session(&names), Class::Unavailable);
        let refused = ConnectionError::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        let pool = ConnectionPoolError::Broken { last_connection_error: refused };
        assert_eq!(new_session(&NewSessionError::MetadataError(pool.into())), Class::Unavailable);
        assert_eq!(new_session(&NewSessionError::EmptyKnownNodesList), Class::Hold(SERVER));
    }
}
