//! Frames in GStreamer's CUDA memory (`memory:CUDAMemory`), used where they lie.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};

use gst::glib::translate::*;
use gst_video::VideoInfo;

use super::device::{DeviceFrame, DeviceFrameError, DevicePlane, DeviceStorage, PendingStream};
use super::gstcuda::{CudaContext, GstCuda, GstCudaError, GstCudaMemory, MAP_CUDA, MEMORY_TYPE};
use super::video_info;

/// Why a buffer with `memory:CUDAMemory` caps cannot be used where it lies.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CudaFrameError {
    #[error(transparent)]
    GstCuda(#[from] GstCudaError),
    #[error(transparent)]
    Frame(#[from] DeviceFrameError),
    #[error("{0} frames in CUDA memory are not supported")]
    UnsupportedFormat(String),
    #[error("the buffer consists of {0} pieces of memory; a frame in CUDA memory is one piece")]
    Pieces(usize),
    #[error("caps promise CUDA memory, but the buffer is in {0} memory")]
    OtherMemory(String),
    #[error("the buffer in CUDA memory cannot be mapped")]
    NotMappable,
    #[error("caps promise a {promised} frame, but the buffer holds a {held} frame")]
    OtherFrame { promised: String, held: String },
}

/// `CU_STREAM_LEGACY` (cuda.h): the default stream of a context.
const DEFAULT_STREAM: *mut c_void = std::ptr::without_provenance_mut(1);

/// A buffer in CUDA memory, mapped for use on the GPU. Mapping for reading neither copies nor waits: see
/// [`CudaFrame::pending_stream`].
pub struct CudaFrame {
    // Only held: what it maps is described by `frame`.
    _mapped: Mapped,
    memory: *mut GstCudaMemory,
    library: &'static GstCuda,
    /// The memory's, without a reference of its own: all streams would count at the same place.
    context: ManuallyDrop<CudaContext>,
    frame: DeviceFrame,
    /// Mapping made a copy, which may still be under way on the default stream.
    copied: bool,
}

/// A buffer in CUDA memory that may be drawn into. Nobody else sees its memory, which is in system memory as it was
/// before until it is mapped there again.
pub struct DrawableCudaFrame<'a> {
    frame: CudaFrame,
    buffer: PhantomData<&'a mut gst::BufferRef>,
}

impl std::ops::Deref for DrawableCudaFrame<'_> {
    type Target = CudaFrame;

    fn deref(&self) -> &CudaFrame {
        &self.frame
    }
}

// SAFETY: the mapped frame owns a reference of its buffer; maps of CUDA memory, its context and its
// stream belong to no thread, and GStreamer itself unmaps on other threads than it maps.
unsafe impl Send for CudaFrame {}
// SAFETY: shared use only reads, apart from `synchronize`, which the library locks.
unsafe impl Sync for CudaFrame {}

impl CudaFrame {
    /// Maps a buffer that has caps of `info`. Strides and offsets are those of the buffer, not of the caps.
    pub fn map(buffer: &gst::Buffer, info: &VideoInfo) -> Result<Self, CudaFrameError> {
        Self::map_with(buffer, info, gst::ffi::GST_MAP_READ)
    }

    /// Maps a buffer for drawing: the next reader in system memory gets what was drawn. Memory that another buffer
    /// shares, as behind a `tee`, is copied on the GPU first and replaced in this buffer, as GStreamer does it for
    /// every memory, so that nobody else sees the drawing.
    pub fn map_for_drawing<'a>(
        buffer: &'a mut gst::BufferRef,
        info: &VideoInfo,
    ) -> Result<DrawableCudaFrame<'a>, CudaFrameError> {
        let flags = gst::ffi::GST_MAP_READ | gst::ffi::GST_MAP_WRITE;
        Ok(DrawableCudaFrame {
            frame: Self::map_with(buffer, info, flags)?,
            buffer: PhantomData,
        })
    }

    fn map_with(
        buffer: &gst::BufferRef,
        info: &VideoInfo,
        flags: gst::ffi::GstMapFlags,
    ) -> Result<Self, CudaFrameError> {
        let (format, order) = video_info::pixel_format(info.format())
            .ok_or_else(|| CudaFrameError::UnsupportedFormat(info.format().to_string()))?;
        let shared = cuda_memory(buffer)?;
        let library = GstCuda::get()?;
        let mapped = Mapped::new(buffer, shared, flags)?;
        mapped.check_promise(info)?;
        let memory = cuda_memory(buffer)?;
        // SAFETY: `memory` is a CUDA memory of the buffer, which is mapped, and lives as long as that.
        let context = unsafe { CudaContext::borrowed((*memory).context, library) };

        let mut planes = [DevicePlane::default(); 3];
        for (plane, held) in planes.iter_mut().zip(order).take(format.planes()) {
            *plane = DevicePlane {
                pointer: mapped.0.data[held] as u64,
                // A negative stride fails the check below, as any pitch under a row's bytes does.
                pitch: usize::try_from(mapped.0.info.stride[held]).unwrap_or(0),
            };
        }
        let frame = DeviceFrame {
            format,
            colorimetry: video_info::colorimetry(info),
            width: info.width() as usize,
            height: info.height() as usize,
            storage: DeviceStorage::Pitch,
            planes,
        }
        .checked()?;
        // SAFETY: as above.
        let size = unsafe { (*memory).memory.size };
        for (plane, held) in order.into_iter().enumerate().take(format.planes()) {
            frame.check_extent(plane, mapped.0.info.offset[held], size)?;
        }
        Ok(Self {
            _mapped: mapped,
            memory,
            library,
            context,
            frame,
            copied: memory != shared,
        })
    }

    /// The pointers, valid as long as `self` lives, in [`CudaFrame::context`].
    pub fn frame(&self) -> DeviceFrame {
        self.frame
    }

    /// The context that the frame lies in. Kernels that read it must be launched there.
    pub fn context(&self) -> &CudaContext {
        &self.context
    }

    /// The `CUstream` on which the frame is still being written, where there is one (GStreamer 1.24 and later, and
    /// for a copy).
    /// Work on that stream needs no waiting; work on another one must wait for an event recorded on it, or
    /// the host for [`CudaFrame::synchronize`]. `None` means that the frame is finished.
    pub fn pending_stream(&self) -> Option<PendingStream> {
        // SAFETY: the mapped frame keeps buffer and memory alive.
        let pending = unsafe { self.library.pending_stream(self.memory) };
        let pending = pending.or(self.copied.then_some(DEFAULT_STREAM));
        pending.map(PendingStream)
    }

    /// Waits on the host until the frame is finished.
    pub fn synchronize(&self) {
        // SAFETY: the mapped frame keeps buffer and memory alive.
        unsafe { self.library.synchronize(self.memory) }
    }
}

/// The one memory of a buffer, if it is CUDA memory.
fn cuda_memory(buffer: &gst::BufferRef) -> Result<*mut GstCudaMemory, CudaFrameError> {
    match buffer.n_memory() {
        1 => (),
        pieces => return Err(CudaFrameError::Pieces(pieces)),
    }
    let memory = buffer.peek_memory(0);
    if !memory.is_type(MEMORY_TYPE) {
        let name = memory.allocator().map_or_else(
            || "unknown".into(),
            |allocator| allocator.memory_type().to_string(),
        );
        return Err(CudaFrameError::OtherMemory(name));
    }
    Ok(memory.as_mut_ptr().cast())
}

/// A mapped buffer, of which it holds a reference.
struct Mapped(gst_video::ffi::GstVideoFrame);

impl Mapped {
    /// `memory` is the CUDA memory of the buffer.
    fn new(
        buffer: &gst::BufferRef,
        memory: *mut GstCudaMemory,
        flags: gst::ffi::GstMapFlags,
    ) -> Result<Self, CudaFrameError> {
        let mut mapped = MaybeUninit::uninit();
        let meta = buffer.meta::<gst_video::VideoMeta>();
        // SAFETY: the frame is written where the call succeeds. Without a GstVideoMeta the memory's own
        // info says how its rows lie, with one the size is the meta's, which may be smaller; the map takes a
        // reference of the buffer. A map for writing replaces memory only in a buffer that nobody else has a
        // reference of.
        unsafe {
            let mut info = (*memory).info;
            if let Some(meta) = &meta {
                let smaller =
                    |held: i32, shown: u32| held.min(i32::try_from(shown).unwrap_or(held));
                info.width = smaller(info.width, meta.width());
                info.height = smaller(info.height, meta.height());
            }
            let done: bool = from_glib(gst_video::ffi::gst_video_frame_map(
                mapped.as_mut_ptr(),
                &info,
                buffer.as_mut_ptr(),
                flags | MAP_CUDA,
            ));
            done.then(|| Self(mapped.assume_init()))
                .ok_or(CudaFrameError::NotMappable)
        }
    }

    /// Refuses a buffer that holds another format or a smaller picture than its caps say.
    fn check_promise(&self, info: &VideoInfo) -> Result<(), CudaFrameError> {
        let held = &self.0.info;
        // SAFETY: a mapped frame names its format.
        let format: gst_video::VideoFormat = unsafe { from_glib((*held.finfo).format) };
        let fits =
            |held: i32, promised: u32| u32::try_from(held).is_ok_and(|held| held >= promised);
        if format == info.format()
            && fits(held.width, info.width())
            && fits(held.height, info.height())
        {
            return Ok(());
        }
        Err(CudaFrameError::OtherFrame {
            promised: format!("{}x{} {}", info.width(), info.height(), info.format()),
            held: format!("{}x{} {format}", held.width, held.height),
        })
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: a value exists only where mapping succeeded.
        unsafe { gst_video::ffi::gst_video_frame_unmap(&mut self.0) }
    }
}

#[cfg(test)]
mod tests {
    use gst_video::VideoFormat;

    use super::*;

    fn error_of(buffer: &gst::Buffer, format: VideoFormat) -> String {
        let info = VideoInfo::builder(format, 64, 32).build().unwrap();
        CudaFrame::map(buffer, &info).err().unwrap().to_string()
    }

    #[test]
    fn buffers_that_are_not_cuda_memory_are_refused_with_a_sentence() {
        gst::init().unwrap();
        let buffer = gst::Buffer::with_size(64 * 48).unwrap();
        assert_eq!(
            error_of(&buffer, VideoFormat::Nv12),
            "caps promise CUDA memory, but the buffer is in SystemMemory memory"
        );
        assert_eq!(
            error_of(&gst::Buffer::new(), VideoFormat::Nv12),
            "the buffer consists of 0 pieces of memory; a frame in CUDA memory is one piece"
        );
        assert_eq!(
            error_of(&buffer, VideoFormat::Y444),
            "Y444 frames in CUDA memory are not supported"
        );
    }
}
