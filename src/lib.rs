//! Pitwire.
pub mod spill;
