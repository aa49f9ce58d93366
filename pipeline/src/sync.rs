//! The locks and atomics of the engine: those of std, or a model checker's in its tests.

#[cfg(all(test, feature = "model"))]
pub(crate) use shuttle::sync::{Arc, Condvar, Mutex, MutexGuard, atomic};
#[cfg(not(all(test, feature = "model")))]
pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, atomic};

use std::sync::PoisonError;

/// Locks `mutex`. What the engine guards is whole at every unlock, so a panic of somebody else's is no reason
/// to stop here.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
