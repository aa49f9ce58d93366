//! How a worker gives its results: in their turn, when there is room.

use std::future::Future;
use std::pin::Pin;

use crate::meter::Doing;
use crate::queue::{RoomWait, Sender, Shared};
use crate::sync::Arc;
use crate::turn::Turn;
use crate::worker::Seat;

/// Where results go.
pub(crate) struct Output<Out> {
    /// None for the last stage of a pipeline.
    pub(crate) sender: Option<Sender<Out>>,
    /// Only where the order of input is kept by more than one worker.
    pub(crate) turn: Option<Arc<Turn>>,
}

impl<Out> Output<Out> {
    /// Gives a result when its turn has come and there is room; false if nobody takes it any more.
    pub(crate) async fn give<In>(&self, value: Out, number: u64, seat: &mut Seat<In>) -> bool {
        let Some(sender) = &self.sender else {
            seat.meter().gave(1);
            return self.pass(number, seat).await;
        };
        let mut made = Made { value: Some(value), number, home: sender.shared.clone() };
        if !self.wait_for_turn(number, seat).await {
            return false;
        }
        let Some(value) = made.value.take() else { return false };
        if let Err(value) = sender.shared.try_put(value, Some(seat.now)) {
            let bytes = sender.weigh(&value);
            made.value = Some(value);
            let began = seat.now;
            let mut wait = RoomWait::new(&sender.shared, bytes);
            if !seat.wait(Doing::Blocked, |_, cx| Pin::new(&mut wait).poll(cx)).await {
                return false;
            }
            let Some(value) = made.value.take() else { return false };
            sender.shared.put_kept(value, bytes, Some(seat.now));
            sender.shared.blocked_for(seat.now.saturating_sub(began));
        }
        seat.meter().gave(1);
        if let Some(turn) = &self.turn {
            turn.end(number);
        }
        true
    }

    /// Nothing comes of the item: the next may go.
    pub(crate) async fn pass<In>(&self, number: u64, seat: &mut Seat<In>) -> bool {
        let comes = self.wait_for_turn(number, seat).await;
        if let Some(turn) = self.turn.as_ref().filter(|_| comes) {
            turn.end(number);
        }
        comes
    }

    async fn wait_for_turn<In>(&self, number: u64, seat: &mut Seat<In>) -> bool {
        let Some(turn) = self.turn.as_ref().filter(|turn| !turn.is_at(number)) else { return true };
        let mut registered = false;
        seat.wait(Doing::Turn, |_, cx| turn.poll(number, &mut registered, cx)).await
    }

    pub(crate) fn break_off(&self) {
        if let Some(turn) = &self.turn {
            turn.break_off();
        }
    }
}

/// A result on its way into the next queue; kept there as unsent if the worker is dropped.
struct Made<Out> {
    value: Option<Out>,
    number: u64,
    home: Arc<Shared<Out>>,
}

impl<Out> Drop for Made<Out> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.home.keep_unsent(self.number, value);
        }
    }
}
