//! How the end of a frame's way is told back to where it came from.
//!
//! A [`Receipt`] belongs to one frame (one MQTT message). Each thing made from the frame holds a share of
//! it; it fires when every share is [settled](Receipt::settle): stored, synced to the spill or the
//! quarantine, or dropped by a named policy and counted. A share that is merely dropped (a bug, or a
//! shutdown) makes the receipt *void*: it never fires, so the broker keeps the message and sends it again.
//!
//! A repeated message joins the receipt of its original through a [`ReceiptWatch`] and is never
//! acknowledged by itself, else a crash between the two would lose both.
//!
//! Deliberately absent: the order of acknowledgements, which is the source's affair.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::ledger::Tally;

type OnEnd = Box<dyn FnOnce(Ending) + Send>;

/// How a receipt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every share was settled.
    Settled,
    /// A share was dropped unsettled: the message has to come again.
    Void,
}

const OPEN: u8 = 0;
const SETTLED: u8 = 1;
const VOID: u8 = 2;

struct Inner {
    /// Whether somebody outside waits for it, who would send the frame again.
    owed: AtomicBool,
    void: AtomicBool,
    outcome: Arc<AtomicU8>,
    on_end: Mutex<Option<OnEnd>>,
    joined: Mutex<Vec<Receipt>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let joined = std::mem::take(self.joined.get_mut().unwrap_or_else(PoisonError::into_inner));
        let (outcome, ending) = if *self.void.get_mut() { (VOID, Ending::Void) } else { (SETTLED, Ending::Settled) };
        self.outcome.store(outcome, Ordering::Release);
        if let Some(fire) = self.on_end.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            fire(ending);
        }
        // Those that joined a void receipt are dropped, and void with it.
        if ending == Ending::Settled {
            joined.into_iter().for_each(Receipt::settle);
        }
    }
}

/// One share in a frame's receipt. Clone it for each part made from the frame; settle each clone.
#[derive(Clone, Default)]
#[must_use = "a receipt that is dropped unsettled is void: the message will come again"]
pub struct Receipt {
    inner: Option<Arc<Inner>>,
    settled: bool,
}

impl Receipt {
    /// A receipt that calls `on_settled` once all shares are settled. The call comes from whichever task
    /// settles last: it must be short and must not block.
    pub fn new(on_settled: impl FnOnce() + Send + 'static) -> Self {
        Self::with_ending(move |ending| {
            if ending == Ending::Settled {
                on_settled();
            }
        })
    }

    /// A receipt that calls `on_end` once no share is left, and says how it ended; see [`Self::new`].
    pub fn with_ending(on_end: impl FnOnce(Ending) + Send + 'static) -> Self {
        Self::open(true, Some(Box::new(on_end)))
    }

    /// A receipt that nobody waits for, of a frame that cannot be sent again: repetitions that come another way may
    /// join it.
    pub fn unowed() -> Self {
        Self::open(false, None)
    }

    /// The same, and it says how it ended; see [`Self::with_ending`].
    pub fn unowed_with_ending(on_end: impl FnOnce(Ending) + Send + 'static) -> Self {
        Self::open(false, Some(Box::new(on_end)))
    }

    fn open(owed: bool, on_end: Option<OnEnd>) -> Self {
        let inner = Inner {
            owed: AtomicBool::new(owed),
            void: AtomicBool::new(false),
            outcome: Arc::new(AtomicU8::new(OPEN)),
            on_end: Mutex::new(on_end),
            joined: Mutex::default(),
        };
        Self { inner: Some(Arc::new(inner)), settled: false }
    }

    /// For sources that cannot acknowledge, such as a serial port.
    pub const fn none() -> Self {
        Self { inner: None, settled: false }
    }

    /// This share is settled.
    pub fn settle(mut self) {
        self.settled = true;
    }

    /// A way to join this receipt later, which does not keep it from firing.
    #[must_use]
    pub fn watch(&self) -> ReceiptWatch {
        match &self.inner {
            Some(inner) => ReceiptWatch { inner: Arc::downgrade(inner), outcome: Some(inner.outcome.clone()) },
            None => ReceiptWatch { inner: Weak::new(), outcome: None },
        }
    }

    /// Whether two shares belong to the same frame.
    #[must_use]
    pub fn same_frame(&self, other: &Self) -> bool {
        match (&self.inner, &other.inner) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Whether somebody would send the frame again if it became void: its source, or that of a repetition that joined.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        self.inner.as_ref().is_some_and(|inner| inner.owed.load(Ordering::Acquire))
    }

    /// Whether it is no receipt at all; see [`Self::none`].
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.inner.is_none()
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let (false, Some(inner)) = (self.settled, &self.inner) {
            inner.void.store(true, Ordering::Release);
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.inner.is_some() { "Receipt" } else { "Receipt(none)" })
    }
}

/// Remembers a frame's receipt so that a repetition of the frame can join it.
#[derive(Clone)]
pub struct ReceiptWatch {
    inner: Weak<Inner>,
    outcome: Option<Arc<AtomicU8>>,
}

impl ReceiptWatch {
    /// Lets `repeat` settle when the original does, at once if it has.
    ///
    /// # Errors
    /// Gives `repeat` back if the original became void: the repetition then counts as the original.
    pub fn join(&self, repeat: Receipt) -> Result<(), Receipt> {
        if let Some(inner) = self.inner.upgrade() {
            if inner.void.load(Ordering::Acquire) {
                return Err(repeat);
            }
            inner.owed.fetch_or(repeat.is_owed(), Ordering::AcqRel);
            inner.joined.lock().unwrap_or_else(PoisonError::into_inner).push(repeat);
            return Ok(());
        }
        match &self.outcome {
            Some(outcome) if outcome.load(Ordering::Acquire) == VOID => Err(repeat),
            _ => {
                repeat.settle();
                Ok(())
            }
        }
    }

    /// Whether it watches the receipt that `share` belongs to.
    #[must_use]
    pub fn is_of(&self, share: &Receipt) -> bool {
        share.inner.as_ref().is_some_and(|inner| std::ptr::eq(self.inner.as_ptr(), Arc::as_ptr(inner)))
    }

    /// Whether the receipt became void, or will as soon as its last share ends.
    #[must_use]
    pub fn is_void(&self) -> bool {
        let ended = self.outcome.as_ref().is_some_and(|outcome| outcome.load(Ordering::Acquire) == VOID);
        ended || self.inner.upgrade().is_some_and(|inner| inner.void.load(Ordering::Acquire))
    }

    /// Whether a repetition still has to ask: the original is on its way, or became void.
    #[must_use]
    pub fn unsettled(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.load(Ordering::Acquire) != SETTLED)
    }
}

/// What travels with samples: the frame's receipt, and their place in the ledger.
#[derive(Debug)]
pub struct Custody {
    /// The frame's receipt.
    pub receipt: Receipt,
    /// The samples, in flight.
    pub tally: Tally,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn counted() -> (Receipt, Arc<AtomicUsize>) {
        let fired = Arc::new(AtomicUsize::new(0));
        let count = fired.clone();
        (
            Receipt::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }),
            fired,
        )
    }

    #[test]
    fn fires_once_when_the_last_share_is_settled() {
        let (receipt, fired) = counted();
        let share = receipt.clone();
        receipt.settle();
        assert_eq!(fired.load(Ordering::SeqCst), 0);
        share.settle();
        assert_eq!(fired.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_share_dropped_unsettled_voids_the_receipt() {
        let (receipt, fired) = counted();
        drop(receipt.clone());
        receipt.settle();
        assert_eq!(fired.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_void_receipt_says_so_and_voids_what_joined_it() {
        let (endings, seen) = std::sync::mpsc::channel();
        let receipt = |name: &'static str| {
            let endings = endings.clone();
            Receipt::with_ending(move |ending| endings.send((name, ending)).unwrap())
        };
        let (original, repeat) = (receipt("original"), receipt("repeat"));
        assert!(original.watch().join(repeat).is_ok());
        drop(original.clone());
        assert!(seen.try_recv().is_err(), "a share is left");
        original.settle();
        let all: Vec<_> = seen.try_iter().collect();
        assert_eq!(all, [("original", Ending::Void), ("repeat", Ending::Void)]);
    }

    #[test]
    fn what_cannot_be_sent_again_is_owed_to_nobody_until_a_repetition_joins_that_can() {
        let (repeat, fired) = counted();
        assert!(repeat.is_owed() && !Receipt::none().is_owed());
        let original = Receipt::unowed();
        assert!(!original.is_owed() && !original.is_none());
        assert!(original.watch().join(Receipt::unowed()).is_ok());
        assert!(!original.is_owed());
        let watch = original.watch();
        assert!(watch.join(repeat).is_ok());
        assert!(original.is_owed());
        original.settle();
        assert_eq!(fired.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_repetition_settles_with_its_original_and_never_before() {
        let (original, first) = counted();
        let (repeat, second) = counted();
        let watch = original.watch();
        assert!(watch.join(repeat).is_ok());
        assert_eq!(second.load(Ordering::SeqCst), 0);
        original.settle();
        assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (1, 1));
        let (late, third) = counted();
        assert!(watch.join(late).is_ok());
        assert_eq!(third.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_repetition_of_a_void_original_counts_as_the_original() {
        let (original, _) = counted();
        let watch = original.watch();
        drop(original);
        let (repeat, fired) = counted();
        let Err(repeat) = watch.join(repeat) else { panic!("joined a void receipt") };
        repeat.settle();
        assert_eq!(fired.load(Ordering::SeqCst), 1);
    }
}
