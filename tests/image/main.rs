//! `rcon image`: archives that images come in, archives that mean harm, and the way back.
//!
//! Nothing here needs root; where root makes a difference both sides are asserted.

mod archives;
mod back;
mod hostile_contents;
mod hostile_paths;
mod images;
mod place;
mod tree;
