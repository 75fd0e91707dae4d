//! The memories that frames may lie in, and what caps say of them.

use gst_video::{VideoCapsBuilder, VideoFormat};

use crate::frame::buffer::{FrameShape, SYSTEM_FORMATS};
use crate::frame::gstcuda::{CUDA_FORMATS, GstCuda};
use crate::frame::memory::{CUDA, Memory, NVMM};
use crate::frame::nvmm::pool::{NVMM_FORMATS, NvmmPools};

/// What caps promise of every frame.
#[derive(Clone, Debug)]
pub(super) struct Format {
    pub shape: FrameShape,
    pub memory: Memory,
}

impl Format {
    /// None where the caps are not those of frames that can be inspected.
    pub fn from_caps(caps: &gst::CapsRef) -> Option<Self> {
        let memory = Memory::from_caps(caps);
        let shape = FrameShape::from_caps(caps)?;
        Some(Self { shape, memory })
    }
}

/// Caps of frames in system memory.
pub(super) fn system_caps() -> gst::Caps {
    VideoCapsBuilder::new().format_list(SYSTEM_FORMATS).build()
}

/// Caps of all frames that can be inspected with a GPU.
pub(super) fn all_caps() -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    let on_gpu = SYSTEM_FORMATS
        .into_iter()
        .filter(|f| *f != VideoFormat::Xrgb);
    for memory in [CUDA, NVMM] {
        let builder = VideoCapsBuilder::new().features([memory]);
        caps.merge(builder.format_list(on_gpu.clone()).build());
    }
    caps.merge(system_caps());
    caps
}

/// The memories that crops of frames in a memory can lie in on this machine, most wanted first.
pub(super) fn memories_of_crops(frames: Memory) -> Vec<Memory> {
    let mut memories = match frames {
        Memory::System => Vec::new(),
        Memory::Cuda => vec![Memory::Cuda],
        Memory::Nvmm => {
            let nvmm = NvmmPools::get().is_ok().then_some(Memory::Nvmm);
            let cuda = GstCuda::get().is_ok().then_some(Memory::Cuda);
            nvmm.into_iter().chain(cuda).collect()
        }
    };
    memories.push(Memory::System);
    memories
}

/// The formats that crops can have in a memory, most wanted first.
pub(super) fn formats_of_crops(memory: Memory) -> &'static [VideoFormat] {
    match memory {
        Memory::System => &SYSTEM_FORMATS,
        Memory::Cuda => &CUDA_FORMATS,
        Memory::Nvmm => &NVMM_FORMATS,
    }
}

/// Caps of crops in these memories.
pub(super) fn caps_of_crops(memories: &[Memory]) -> gst::Caps {
    let mut caps = gst::Caps::new_empty();
    for memory in memories {
        let formats = formats_of_crops(*memory).iter().copied();
        let builder = VideoCapsBuilder::new().format_list(formats);
        caps.merge(match memory {
            Memory::System => builder.build(),
            Memory::Cuda => builder.features([CUDA]).build(),
            Memory::Nvmm => builder.features([NVMM]).build(),
        });
    }
    caps
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    #[test]
    fn the_memory_is_what_the_caps_features_say() {
        gst::init().unwrap();
        for (features, memory) in [
            ("", Memory::System),
            ("(memory:SystemMemory)", Memory::System),
            ("(memory:CUDAMemory)", Memory::Cuda),
            ("(memory:NVMM)", Memory::Nvmm),
        ] {
            let caps =
                format!("video/x-raw{features},format=NV12,width=64,height=48,framerate=0/1");
            let caps = gst::Caps::from_str(&caps).unwrap();
            assert!(caps.is_subset(&all_caps()), "{caps}");
            assert_eq!(caps.is_subset(&system_caps()), memory == Memory::System);
            let format = Format::from_caps(&caps).unwrap();
            assert_eq!((format.memory, format.shape.size()), (memory, (64, 48)));
        }
    }
}
