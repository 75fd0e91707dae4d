//! What can go wrong with TensorRT, one sentence each.

use std::path::PathBuf;

use thiserror::Error;

use super::version::Version;

#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TensorRtError {
    #[error(
        "this build of rsdetectnet has no TensorRT support, because no TensorRT headers were there when it was built; \
         rebuild it with TENSORRT_ROOT set, or use backend=onnxruntime"
    )]
    NotBuilt,

    /// `details` says why a library that is there could not be opened; else it is empty.
    #[error(
        "TensorRT was not found; looked for {}{details}; install it, add its folder to LD_LIBRARY_PATH, or use \
         backend=onnxruntime",
        .looked_for.join(", ")
    )]
    NotFound {
        looked_for: Vec<String>,
        details: String,
    },

    #[error(
        "{file} is {found}, but this build of rsdetectnet is for {}; rebuild it with the headers of {found}, or install \
         one of these",
        list(.built_for)
    )]
    VersionMismatch {
        file: String,
        found: Version,
        built_for: Vec<Version>,
    },

    #[error("{file} has no function {symbol}, so it is not a TensorRT library this can use")]
    NotTensorRt { file: String, symbol: String },

    #[error(
        "TensorRT's ONNX parser {0} was not found, without which no engine can be built; install it, or add its folder to \
         LD_LIBRARY_PATH"
    )]
    NoParser(&'static str),

    #[error("the engine cannot be built: {0}")]
    Build(String),

    #[error("the build of the engine was cancelled")]
    Cancelled,

    #[error("the engine cannot be loaded: {0}")]
    Load(String),

    #[error("TensorRT cannot run the engine: {0}")]
    Run(String),

    #[error("{path} cannot be read: {reason}")]
    Read { path: PathBuf, reason: String },
}

fn list(versions: &[Version]) -> String {
    let names: Vec<String> = versions.iter().map(Version::to_string).collect();
    names.join(", ")
}
