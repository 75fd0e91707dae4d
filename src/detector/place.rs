//! Where a model runs.

use super::{Backend, DetectorOptions};
use crate::cuda::{self, DriverError};
use crate::engine::tensorrt::{TensorRtError, library};
use crate::model::ModelSource;

/// Where a model runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    Gpu,
    /// The CPU was asked for.
    Cpu,
    /// The CPU was not asked for, but ONNX models cannot run on a GPU here.
    CpuBecause(Obstacle),
}

/// What keeps this machine from running ONNX models on a GPU.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Obstacle {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    TensorRt(#[from] TensorRtError),
}

impl Place {
    /// A GPU when asked to, when the model is an engine, or when there is all that it takes. That is looked for once in
    /// the life of the process.
    pub fn of(options: &DetectorOptions) -> Self {
        match options.backend {
            Backend::TensorRt => Self::Gpu,
            Backend::OnnxRuntime => Self::Cpu,
            Backend::Auto if ModelSource::is_engine(&options.model) => Self::Gpu,
            Backend::Auto => obstacle().map_or_else(Self::CpuBecause, |()| Self::Gpu),
        }
    }

    pub fn is_gpu(&self) -> bool {
        *self == Self::Gpu
    }
}

impl Obstacle {
    /// Whether it is worth telling: a machine without NVIDIA's driver is not expected to have a GPU.
    pub fn is_news(&self) -> bool {
        !matches!(self, Self::Driver(DriverError::NotFound(_)))
    }
}

fn obstacle() -> Result<(), Obstacle> {
    cuda::driver::load()?;
    Ok(library()?.can_build()?)
}
