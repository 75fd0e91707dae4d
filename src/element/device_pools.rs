//! Where buffers in GPU memory for crops come from: GStreamer's pool of CUDA memory, DeepStream's of NVMM. There is one
//! for each format and size, so that crops of one size allocate nothing once their buffers come back.

use gst::prelude::*;
use gst_video::{VideoColorimetry, VideoFormat, VideoInfo};

use super::crop_caps::CropFormat;
use crate::frame::gstcuda::{self, CudaContext, GstCudaError};
use crate::frame::memory::Memory;
use crate::frame::nvmm::pool::{NvmmPoolError, NvmmPools};

/// Pools that are kept; the one that was used longest ago goes first.
const MOST_POOLS: usize = 32;

/// Why there is no buffer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum PoolError {
    #[error("crops in CUDA memory need GStreamer's CUDA context of the frames, and there is none")]
    NoContext,
    #[error(transparent)]
    Cuda(#[from] GstCudaError),
    #[error(transparent)]
    Nvmm(#[from] NvmmPoolError),
    #[error("there is no GPU memory left for a crop of {0}x{1} pixels")]
    NoMemory(u32, u32),
    #[error("crops cannot be {0}x{1} pixels large")]
    Size(u32, u32),
}

/// What the buffers of a pool have in common.
#[derive(Clone, Debug, PartialEq)]
struct Kind {
    memory: Memory,
    format: VideoFormat,
    width: u32,
    height: u32,
    /// Surfaces of NVMM name it.
    colorimetry: Option<VideoColorimetry>,
}

#[derive(Debug)]
struct Pool {
    kind: Kind,
    buffers: gst::BufferPool,
}

#[derive(Debug)]
pub(super) struct DevicePools {
    context: Option<CudaContext>,
    gpu_id: u32,
    /// Latest used first.
    pools: Vec<Pool>,
}

impl DevicePools {
    pub fn new(context: Option<CudaContext>, gpu_id: u32) -> Self {
        Self {
            context,
            gpu_id,
            pools: Vec::new(),
        }
    }

    /// A buffer for a crop that is to be in GPU memory. Does not wait for one that downstream keeps.
    pub fn acquire(&mut self, format: &CropFormat) -> Result<gst::Buffer, PoolError> {
        let kind = Kind::of(format);
        let known = self.pools.iter().position(|pool| pool.kind == kind);
        let pool = match known {
            Some(index) => self.pools.remove(index),
            None => Pool {
                buffers: self.new_pool(&kind, format)?,
                kind,
            },
        };
        let (width, height) = format.shape.size();
        let acquired = pool.buffers.acquire_buffer(None);
        self.pools.insert(0, pool);
        self.pools.truncate(MOST_POOLS);
        let mut buffer = acquired.map_err(|_| PoolError::NoMemory(width, height))?;
        if format.memory == Memory::Cuda {
            gstcuda::show(buffer.make_mut(), width, height);
        }
        Ok(buffer)
    }

    fn new_pool(&self, kind: &Kind, format: &CropFormat) -> Result<gst::BufferPool, PoolError> {
        if kind.memory == Memory::Nvmm {
            return Ok(NvmmPools::get()?.buffer_pool(&format.caps, self.gpu_id)?);
        }
        let context = self.context.as_ref().ok_or(PoolError::NoContext)?;
        let info = VideoInfo::builder(kind.format, kind.width, kind.height).build();
        let caps = info.and_then(|info| info.to_caps());
        let caps = caps.map_err(|_| PoolError::Size(kind.width, kind.height))?;
        Ok(context.buffer_pool(&caps)?)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A pool that stays active would keep itself alive.
        let _ = self.buffers.set_active(false);
    }
}

impl Kind {
    /// CUDA memory may be larger than the frame that it holds, so that crops of nearly the same size share a pool.
    /// 4:2:0 frames of an odd size get a whole chroma sample more, of which GStreamer's library forgets some.
    fn of(format: &CropFormat) -> Self {
        let info = &format.shape.info;
        let (columns, rows) = format.shape.format().subsampling();
        let (width, height) = match (format.memory, format.fixed_size) {
            (Memory::Nvmm | Memory::System, _) => (info.width(), info.height()),
            (Memory::Cuda, true) => (
                info.width().next_multiple_of(columns as u32),
                info.height().next_multiple_of(rows as u32),
            ),
            (Memory::Cuda, false) => (roomy(info.width()), roomy(info.height())),
        };
        Self {
            memory: format.memory,
            format: info.format(),
            width,
            height,
            colorimetry: (format.memory == Memory::Nvmm).then(|| info.colorimetry()),
        }
    }
}

/// The next of the sizes that are an eighth of a power of two apart; all are multiples of 16.
fn roomy(pixels: u32) -> u32 {
    let step = (pixels.next_power_of_two() / 16).max(16);
    pixels.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_room_without_much_waste_and_are_few() {
        let mut sizes = Vec::new();
        for pixels in 1..4000 {
            let room = roomy(pixels);
            assert!(room >= pixels && room.is_multiple_of(16));
            assert!(room <= pixels + (pixels / 8).max(15), "{pixels}: {room}");
            sizes.push(room);
        }
        sizes.dedup();
        assert!(sizes.len() < 60, "{}", sizes.len());
    }
}
