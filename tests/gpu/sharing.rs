//! Many streams share a model on a GPU: their frames run in common batches, and nothing of one reaches another. The
//! binary carries all that it needs but GStreamer's own elements, so that it runs alone on another machine.
//! `cargo test --test gpu_sharing -- --ignored --test-threads 1 --nocapture`

#[path = "sharing/batches.rs"]
mod batches;
#[path = "sharing/bays.rs"]
mod bays;
#[path = "sharing/cameras.rs"]
mod cameras;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/fed.rs"]
mod fed;
#[path = "sharing/gpus.rs"]
mod gpus;
#[path = "tensorrt/machine.rs"]
#[allow(dead_code, reason = "the tests of TensorRT alone use the rest")]
mod machine;
#[path = "element/media.rs"]
#[allow(dead_code, reason = "the tests of one element use the rest")]
mod media;
#[path = "sharing/memory.rs"]
mod memory;
#[path = "sharing/prepared.rs"]
mod prepared;
#[path = "sharing/starts.rs"]
mod starts;
