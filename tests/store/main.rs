//! One suite for every store, through the trait: what it is given comes back bit for bit, and what goes
//! wrong says what the caller is to do. `places` says where the tests run, `behaviour` holds what is
//! true of every store, `sqlite` and `cassandra` what only one of them can suffer.

#![allow(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

mod behaviour;
mod cassandra;
mod fixtures;
mod places;
mod samples;
mod sqlite;
