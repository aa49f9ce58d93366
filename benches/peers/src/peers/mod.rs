//! One module for each peer: the same three tasks, each as its documentation says they are written.

pub(crate) mod buffered;
pub(crate) mod by_hand;
pub(crate) mod nothing;
pub(crate) mod par_stream;
pub(crate) mod pariter;
pub(crate) mod pitwire;
pub(crate) mod pumps;
pub(crate) mod rayon;
pub(crate) mod roughage;

use std::sync::Arc;

use crate::task::{Payload, Probe, Tally};

/// A way to run stages. Each function builds its pipeline in the runtime that it is called in, feeds it from a source
/// that makes the items, and receives what comes out as the sink.
pub(crate) trait Peer {
    /// Three stages whose operation does nothing, in input order.
    fn no_ops<P: Payload>(items: u64) -> impl Future<Output = Tally> + Send + 'static;

    /// One stage of [`crate::task::work`] on `threads` threads, in input order.
    fn cpu(items: u64, threads: usize) -> impl Future<Output = Tally> + Send + 'static;

    /// One stage in input order with the probe as its operation.
    fn probed(probe: Arc<Probe>) -> impl Future<Output = Tally> + Send + 'static;
}
