//! What a stage does with an item: operations, and stages with a state of their own.

use std::future::Future;
use std::time::Instant;

use crate::failure::Error;

/// An asynchronous operation on one item: I/O, mostly. What blocks a thread belongs on a pool
/// (`StageSpec::cpu`).
///
/// The worker keeps the item and lends it: so a retry has it again, a quarantine gets it, and whoever joins
/// with a deadline gets back what was in progress.
///
/// ```
/// use pitwire_pipeline::{Error, Operation};
///
/// struct Parse;
///
/// impl Operation<String> for Parse {
///     type Out = u32;
///
///     async fn run(&self, text: &mut String) -> Result<u32, Error> {
///         Ok(text.parse()?)
///     }
/// }
/// ```
pub trait Operation<In>: Send + Sync + 'static {
    /// What it makes.
    type Out: Send + 'static;

    /// Makes one result of one item.
    ///
    /// # Errors
    /// Whatever went wrong; the stage's policy says what follows.
    ///
    /// # Cancel safety
    /// It is dropped at an await if the pipeline is aborted; the item is then handed back as it is.
    fn run(&self, item: &mut In) -> impl Future<Output = Result<Self::Out, Error>> + Send;
}

/// An operation made of a closure that takes the item itself.
#[derive(Debug, Clone, Copy)]
pub struct ByClone<F>(F);

/// An operation made of a closure that takes the item itself: it is given a clone, which costs next to nothing
/// for an `Arc` or `Bytes`. For what is dear to clone, implement [`Operation`], which lends it.
pub const fn by_clone<F>(run: F) -> ByClone<F> {
    ByClone(run)
}

impl<In, Out, F, Fut> Operation<In> for ByClone<F>
where
    In: Clone + Send + 'static,
    Out: Send + 'static,
    F: Fn(In) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Out, Error>> + Send,
{
    type Out = Out;

    fn run(&self, item: &mut In) -> impl Future<Output = Result<Out, Error>> + Send {
        (self.0)(item.clone())
    }
}

/// A stage with a state of its own: synchronous, one item at a time, in the order of arrival.
///
/// `process` may put any number of items out. A stage that gathers says by [`Stage::deadline`] when it wants to
/// be woken without new input. A panic is a failure on that item: it is counted, and the stage goes on.
pub trait Stage: Send + 'static {
    /// What it takes.
    type In: Send + 'static;
    /// What it gives.
    type Out: Send + 'static;

    /// Its name in statistics and messages.
    fn name(&self) -> &str;

    /// Takes one item.
    fn process(&mut self, item: Self::In, out: &mut Vec<Self::Out>);

    /// When it wants [`Stage::on_deadline`] to be called, if at all.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has come.
    fn on_deadline(&mut self, _now: Instant, _out: &mut Vec<Self::Out>) {}

    /// No more input will come: gives out what it holds. When the pipeline is aborted this is called too, and
    /// what it gives is handed back.
    fn finish(&mut self, _out: &mut Vec<Self::Out>) {}
}
