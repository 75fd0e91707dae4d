//! The element on a GPU with TensorRT. The binary carries all that it needs but GStreamer's own elements, so that
//! it runs alone on another machine.
//! `cargo test --test gpu_element -- --ignored --test-threads 1 --nocapture`

#[path = "element/batch.rs"]
mod batch;
#[path = "element/clip.rs"]
mod clip;
#[path = "../common/mod.rs"]
mod common;
#[path = "element/decoded.rs"]
mod decoded;
#[path = "element/drawing.rs"]
mod drawing;
#[path = "element/driver_calls.rs"]
mod driver_calls;
#[path = "element/hash.rs"]
mod hash;
#[path = "element/int8.rs"]
mod int8;
#[path = "leak.rs"]
mod leak;
#[path = "element/leaks.rs"]
mod leaks;
#[path = "element/media.rs"]
mod media;
#[path = "element/parity.rs"]
mod parity;
#[path = "element/pixels.rs"]
mod pixels;
#[path = "element/regions.rs"]
mod regions;
#[path = "element/starts.rs"]
mod starts;
#[path = "element/stream.rs"]
mod stream;
#[path = "element/surface.rs"]
mod surface;
