//! Cameras that speak RTSP: a real server on this machine, and what comes out of it.

#[path = "../common/mod.rs"]
mod common;

mod camera;
mod delay;
mod encodings;
mod outputs;
mod reconnection;
mod server;
