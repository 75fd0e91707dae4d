//! The pad `crops` with frames in GPU memory: what it gives in every memory is what the CPU cuts out of the same frame.
//! `cargo test --test gpu_crops -- --ignored --test-threads 1 --nocapture`

#[path = "crops/batch.rs"]
mod batch;
#[path = "element/clip.rs"]
mod clip;
#[path = "../common/mod.rs"]
mod common;
#[path = "crops/cutting.rs"]
mod cutting;
#[path = "crops/decoded.rs"]
mod decoded;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "element/media.rs"]
mod media;
#[path = "crops/negotiation.rs"]
mod negotiation;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "element/pixels.rs"]
mod pixels;
#[path = "crops/speed.rs"]
mod speed;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "element/stream.rs"]
mod stream;
#[allow(dead_code, reason = "some of it is for other tests")]
#[path = "element/surface.rs"]
mod surface;
#[path = "crops/uploaded.rs"]
mod uploaded;
