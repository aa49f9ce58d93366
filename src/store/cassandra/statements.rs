//! Statements, prepared when first used and forgotten when the schema may have changed.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use scylla::statement::prepared::PreparedStatement;

use super::classify::Class;
use super::{Cassandra, Failure};
use crate::limits::{CASSANDRA_PAGE_ROWS, CASSANDRA_SAMPLES_PAGE_ROWS};
use crate::store::schema;

/// Every statement that the store runs on rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// One row into a table.
    Insert(&'static str),
    /// The rows of a table for which a condition holds.
    Select(&'static str, &'static str),
    /// The keys of the partitions of `extents`.
    Days,
}

/// The prepared ones.
#[derive(Default)]
pub(super) struct Statements(Mutex<HashMap<Kind, PreparedStatement>>);

impl Statements {
    fn get(&self, kind: Kind) -> Option<PreparedStatement> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).cloned()
    }

    fn put(&self, kind: Kind, statement: PreparedStatement) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, statement);
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Cassandra {
    /// The statement, prepared now if it was not yet.
    pub(super) async fn statement(&self, kind: Kind) -> Result<PreparedStatement, Failure> {
        if let Some(statement) = self.statements.get(kind) {
            return Ok(statement);
        }
        let keyspace = &self.keyspace;
        let text = match kind {
            Kind::Insert(table) => schema::table(table).insert_cql(keyspace),
            Kind::Select(table, condition) => {
                format!("SELECT {} FROM {keyspace}.{table} {condition}", schema::table(table).column_list())
            }
            Kind::Days => format!("SELECT DISTINCT car, day FROM {keyspace}.extents"),
        };
        // The driver prepares without a timeout of its own.
        let prepared = tokio::time::timeout(self.request_timeout, self.session.prepare(text)).await;
        let mut statement = prepared.map_err(|_| Failure {
            class: Class::Unavailable,
            reason: format!("a statement was not prepared within {} ms", self.request_timeout.as_millis()),
        })??;
        statement.set_is_idempotent(true);
        statement.set_page_size(match kind {
            Kind::Select("samples", _) => CASSANDRA_SAMPLES_PAGE_ROWS,
            _ => CASSANDRA_PAGE_ROWS,
        });
        self.statements.put(kind, statement.clone());
        Ok(statement)
    }
}
