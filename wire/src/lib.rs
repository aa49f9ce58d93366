//! The frame protocol.
#![no_std]
