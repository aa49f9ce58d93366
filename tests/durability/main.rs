//! The durability battery: the disk queue on real file systems that lose power, fill up, turn read-only and lie, and
//! on files that somebody damaged.
//!
//! The oracle is what `append` answered: [`books`] keeps, by writer and number, what was promised and what became of
//! it. Each test prints its figure as a line `battery | name | figure`; `tests/battery` gathers them into a table.
//! `PITWIRE_SOAK_SECONDS` lengthens the soak, `PITWIRE_SOAK_SEED` replays one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod books;
mod damage;
mod full;
mod lies;
mod life;
mod order;
mod powercut;
mod random;
mod rig;
mod size;
mod soak;
mod wear;
