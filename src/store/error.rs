//! What can go wrong with a store, by what the caller does about it.

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, too slow, or overloaded: try again later. Whether a write happened is unknown.
    #[error("{what}: {reason}")]
    Unavailable {
        /// The operation and its object, e.g. `write to 127.0.0.1:9042`.
        what: String,
        /// What the store or the driver said.
        reason: String,
    },
    /// Reachable, but a person has to act first (credentials, keyspace, schema). Nothing is dropped.
    #[error("{reason}; {remedy}")]
    Hold {
        /// What is wrong.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The store is as it should be and still refuses these rows: they can never be stored.
    #[error("refused by the store: {reason}")]
    Rejected {
        /// What the store said.
        reason: String,
    },
}
