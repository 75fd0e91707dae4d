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
        caps.features(0).map_or(Self::System, Self::from_features)
    }

    /// As [`Memory::from_caps`], for one structure of caps.
    pub fn from_features(features: &gst::CapsFeaturesRef) -> Self {
        match features {
            features if features.contains(CUDA) => Self::Cuda,
            features if features.contains(NVMM) => Self::Nvmm,
            _ => Self::System,
        }
    }

    /// How sentences call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system memory",
            Self::Cuda => "CUDA memory",
            Self::Nvmm => "NVMM",
        }
    }
}
