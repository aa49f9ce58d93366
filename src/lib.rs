//! Pitwire.
