//! What breaks around the element, or is broken on purpose, and what it does then: README's table of faults names
//! these tests.

#[path = "../common/chaos.rs"]
mod chaos;
#[path = "../common/mod.rs"]
mod common;

mod buffers;
mod hosts;
mod models;
mod moments;
