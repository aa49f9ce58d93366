//! Where frames go: an outbox, and a bounded queue that is one.

use core::fmt;

use heapless::{Deque, Vec};
use pitwire_wire::{FRAME_BYTES_DEFAULT, Header, Payload};

/// A frame as it was made.
#[derive(Debug)]
pub struct Made<'a> {
    /// Its header.
    pub header: &'a Header,
    /// What it says, before encoding.
    pub payload: &'a Payload<'a>,
    /// How many samples it holds.
    pub samples: u32,
    /// The encoded frame.
    pub frame: &'a [u8],
}

/// The outbox has no room: the frame was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("queue is full")
    }
}

impl core::error::Error for Full {}

/// Takes frames whole, or not at all.
pub trait Outbox {
    /// Takes a frame.
    ///
    /// # Errors
    /// [`Full`]: there is no room; the device counts the frame as dropped.
    fn put(&mut self, made: &Made<'_>) -> Result<(), Full>;
}

/// Frames that wait for the line, at most `N`, first in, first out.
#[derive(Debug, Default)]
pub struct Queue<const N: usize> {
    frames: Deque<Vec<u8, FRAME_BYTES_DEFAULT>, N>,
}

impl<const N: usize> Queue<N> {
    /// An empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self { frames: Deque::new() }
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// [`Full`] if `N` frames wait, or the frame is longer than any that a device makes.
    pub fn push(&mut self, frame: &[u8]) -> Result<(), Full> {
        let frame = Vec::from_slice(frame).map_err(|_| Full)?;
        self.frames.push_back(frame).map_err(|_| Full)
    }

    /// The oldest frame.
    #[must_use]
    pub fn front(&self) -> Option<&[u8]> {
        self.frames.front().map(Vec::as_slice)
    }

    /// Takes the oldest frame out.
    pub fn pop(&mut self) -> Option<Vec<u8, FRAME_BYTES_DEFAULT>> {
        self.frames.pop_front()
    }

    /// How many frames wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether there is no room for another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.frames.is_full()
    }
}

impl<const N: usize> Outbox for Queue<N> {
    fn put(&mut self, made: &Made<'_>) -> Result<(), Full> {
        self.push(made.frame)
    }
}
