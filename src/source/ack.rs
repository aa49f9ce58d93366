//! Acknowledgements in order of arrival.
//!
//! Receipts fire in any order; a broker is told in the order in which it sent. Each message is tagged with
//! the generation of its connection, so that a receipt of an old one never acknowledges a newer session's
//! message.

use std::collections::VecDeque;

/// A message's place: which connection, and which of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    generation: u64,
    number: u64,
}

/// What has been received on this connection and not yet acknowledged.
#[derive(Debug, Default)]
pub(super) struct AckOrder {
    generation: u64,
    first: u64,
    waiting: VecDeque<(u16, bool)>,
}

impl AckOrder {
    /// A connection ended: nothing of it is to be acknowledged any more.
    pub(super) fn disconnected(&mut self) {
        self.generation += 1;
        self.first = 0;
        self.waiting.clear();
    }

    /// A message with this packet id was received.
    pub(super) fn received(&mut self, packet_id: u16) -> Ticket {
        self.waiting.push_back((packet_id, false));
        Ticket { generation: self.generation, number: self.first + self.waiting.len() as u64 - 1 }
    }

    /// Whether a message came on the connection of now.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        ticket.generation == self.generation
    }

    /// How many messages of this connection are unacknowledged.
    pub(super) fn outstanding(&self) -> usize {
        self.waiting.len()
    }

    /// A message is settled; gives the packet ids that may be acknowledged now, in order.
    pub(super) fn settled(&mut self, ticket: Ticket) -> Vec<u16> {
        if ticket.generation == self.generation
            && let Some(index) = ticket.number.checked_sub(self.first)
            && let Some(entry) = self.waiting.get_mut(index as usize)
        {
            entry.1 = true;
        }
        let mut ready = Vec::new();
        while let Some((packet_id, _)) = self.waiting.pop_front_if(|(_, settled)| *settled) {
            self.first += 1;
            ready.push(packet_id);
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_leave_in_order_of_arrival() {
        let mut order = AckOrder::default();
        let tickets: Vec<Ticket> = (10..14).map(|id| order.received(id)).collect();
        assert!(order.settled(tickets[1]).is_empty());
        assert!(order.settled(tickets[2]).is_empty());
        assert_eq!(order.settled(tickets[0]), [10, 11, 12]);
        let late = order.received(10);
        assert_eq!(order.settled(tickets[3]), [13]);
        assert_eq!(order.settled(late), [10]);
    }

    #[test]
    fn a_receipt_of_an_old_connection_acknowledges_nothing() {
        let mut order = AckOrder::default();
        let old = order.received(1);
        order.disconnected();
        let new = order.received(1);
        assert!(order.settled(old).is_empty());
        assert_eq!(order.settled(new), [1]);
        assert!(order.settled(new).is_empty(), "a second time");
    }
}
