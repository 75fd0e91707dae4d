//! What breaks on a GPU, or is broken on purpose, and what the element does then: README's table of faults names these
//! tests. Each runs in a process of its own, which is ended when it takes too long. The binary carries all that it needs
//! but GStreamer's own elements, so that it runs alone on another machine.
//! `cargo test --test gpu_faults -- --ignored --test-threads 1 --nocapture`

#[path = "faults/cache.rs"]
mod cache;
#[path = "../common/chaos.rs"]
mod chaos;
#[path = "element/clip.rs"]
mod clip;
#[path = "../common/mod.rs"]
mod common;
#[path = "faults/hosts.rs"]
mod hosts;
#[path = "faults/libraries.rs"]
mod libraries;
#[path = "faults/lost.rs"]
mod lost;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "element/media.rs"]
mod media;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/moments.rs"]
mod moments;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "element/pixels.rs"]
mod pixels;
#[path = "faults/playing.rs"]
mod playing;
#[path = "faults/process.rs"]
mod process;
#[path = "../common/stand_in.rs"]
mod stand_in;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "element/stream.rs"]
mod stream;
#[path = "faults/streams.rs"]
mod streams;
