//! What a store holds, read back: merged, in order, each sample once; written as files, or compared with
//! what was sent.
mod mapping;
mod merge;
mod plan;
mod reader;
#[cfg(test)]
mod testing;
mod time;

pub use merge::{Block, ReadCounts, ReadSample, Series};
pub use plan::{ChannelFilter, Query};
pub use reader::{Reader, Reading};
pub use time::{TimeError, parse_time};
