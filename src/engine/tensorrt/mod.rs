//! TensorRT and TensorRT-RTX: building an engine from an ONNX model, keeping it, running it.
//!
//! - [`library()`] opens the library at run time and picks the shim made for its version;
//! - [`build`] turns an ONNX model into an engine file;
//! - [`Engine`] is a loaded engine file, [`Context`] runs it on a CUDA stream;
//! - [`EngineCache`] keeps engine files, so that a model is built once for each GPU;
//! - `shim.cpp` is the only C++: TensorRT's interface, which is C++ alone, behind the C interface of `shim.h`.
//!
//! The shim is compiled once for each set of TensorRT headers that build.rs finds (`headers.rs` says where), so one
//! binary can serve several releases. It links to neither TensorRT nor CUDA.
//!
//! TensorRT works on the CUDA context that is current on the calling thread, and makes the primary context of the
//! first GPU current where there is none. Whoever calls [`build`], [`Engine`] or [`Context`] makes the
//! primary context of the wanted GPU current first.

mod builder;
mod cache;
mod engine;
mod error;
mod library;
mod log;
mod memory;
mod profile;
mod shim;
mod tensor;
mod version;

pub use builder::{
    Batches, BuildOptions, DeviceIdentity, OnnxModel, Precision, Progress, build, size_after,
};
pub use cache::{CacheError, EngineCache, EngineKey, Entry, KeptEngine};
pub use engine::{Context, Engine, LoadOptions, split_metadata};
pub use error::TensorRtError;
pub use library::{Library, built_for, library};
pub use tensor::{DataType, TensorSpec};
pub use version::Version;
