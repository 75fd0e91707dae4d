//! The memories that frames may lie in, as caps features name them.

/// `memory:CUDAMemory` and `memory:NVMM`.
pub const CUDA: &str = "memory:CUDAMemory";
pub const NVMM: &str = "memory:NVMM";

/// Where the pixels of a frame lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    System,
    /// GStreamer's own CUDA memory.
    Cuda,
    /// NVIDIA's buffers of Jetson and DeepStream.
    Nvmm,
}

impl Memory {
    /// What caps promise; system memory where they name none.
    pub fn from_caps(caps: &gst::CapsRef) -> Self {
        match caps.features(0) {
            Some(features) if features.contains(CUDA) => Self::Cuda,
            Some(features) if features.contains(NVMM) => Self::Nvmm,
            _ => Self::System,
        }
    }
}
