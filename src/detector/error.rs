//! What goes wrong when a model is loaded, or when it is run.

use std::path::PathBuf;
use std::sync::Arc;

use crate::cuda::CudaError;
use crate::cuda::context::ContextError;
use crate::decode::{UnexpectedShape, UnknownLayout};
use crate::engine::onnxruntime;
use crate::engine::tensorrt::{CacheError, TensorRtError};
use crate::model::onnx::OnnxError;
use crate::model::{LabelsError, ModelError, ModelInfoError};
use crate::overlay::draw::DrawError;
use crate::preprocess::cuda::PreprocessError;
use crate::region::ViewError;

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Labels(#[from] LabelsError),
    #[error(transparent)]
    ModelInfo(#[from] ModelInfoError),
    #[error("decoder={name} is none of auto, {known}")]
    UnknownDecoder { name: String, known: String },
    #[error("activation={0} in the .modelinfo is none of none, sigmoid, softmax")]
    UnknownActivation(String),
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    #[error(transparent)]
    Layout(#[from] UnknownLayout),
    #[error(transparent)]
    OnnxRuntime(#[from] onnxruntime::Error),
    /// With backend=auto, on a machine that has a GPU.
    #[error("{cpu}. Nor can its GPU be used: {gpu}")]
    NoBackend {
        cpu: onnxruntime::Error,
        gpu: String,
    },
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("{}{}", need_of_a_gpu(.0), .0)]
    Context(#[from] ContextError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error(transparent)]
    FirstRun(Box<DetectError>),
    #[error("{0} is a TensorRT engine, which only backend=tensorrt runs")]
    EngineWithoutGpu(PathBuf),
    #[error(
        "the model's inputs are {seen}; one image input [N,3,H,W] or [N,H,W,3] of float32, float16, uint8 or int8 is needed, \
         besides which only orig_target_sizes, im_shape and scale_factor are known"
    )]
    Input { seen: String },
    #[error(
        "the model leaves the size of its input open: set input-width and input-height, or dims of the input in its \
         .modelinfo"
    )]
    OpenSize,
    #[error("input-width and input-height ask for {wanted}, but the model takes {size} alone")]
    FixedSize { wanted: String, size: String },
    #[error(
        "the size of {tensor} is known only when the network runs, which TensorRT cannot prepare for here"
    )]
    OpenShape { tensor: String },
    #[error(
        "{0} has no convolutions in int8; with precision=auto it computes quantised models in float16"
    )]
    NoInt8(String),
    #[error("there is no home folder to keep engines in: set engine-cache")]
    NoCacheFolder,
    #[error("the element was stopped while another one loaded its model")]
    Cancelled,
}

/// What comes before the reason why there is no context: a GPU that is there may still refuse one.
fn need_of_a_gpu(error: &ContextError) -> &'static str {
    match error {
        ContextError::Cuda(_) => "",
        ContextError::Driver(_) | ContextError::NoSuchGpu { .. } => {
            "backend=tensorrt needs an NVIDIA GPU: "
        }
    }
}

impl From<DetectError> for LoadError {
    fn from(error: DetectError) -> Self {
        Self::FirstRun(Box::new(error))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    #[error(transparent)]
    OnnxRuntime(#[from] onnxruntime::Error),
    #[error(transparent)]
    Shape(#[from] UnexpectedShape),
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    #[error(transparent)]
    Draw(#[from] DrawError),
    #[error(transparent)]
    View(#[from] ViewError),
    /// Of a batch, with frames of other streams perhaps.
    #[error(transparent)]
    Batch(Arc<DetectError>),
    #[error(
        "frames in GPU memory are inspected with backend=tensorrt alone; put a download, such as cudadownload or nvvideoconvert, before this element"
    )]
    GpuFrameOnCpu,
}
