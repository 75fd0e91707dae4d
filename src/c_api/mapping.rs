//! The pixels of a buffer where they lie, as addresses.

use std::ffi::{CStr, c_char};
use std::sync::Arc;

use gst::glib::translate::from_glib_none;
use gst_video::VideoInfo;

use super::Complaint;
use crate::cuda::context::Context;
use crate::frame::buffer::{FrameShape, MappedFrame};
use crate::frame::cuda::CudaFrame;
use crate::frame::gstcuda::MEMORY_TYPE;
use crate::frame::memory::Memory;
use crate::frame::nvmm::NvmmBuffer;
use crate::frame::{DeviceFrame, DeviceStorage, PixelFormat};

/// `RsDetectNetPlane`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CPlane {
    pub address: u64,
    /// Bytes from one row to the next.
    pub stride: u64,
}

/// `RsDetectNetFrame`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CFrame {
    /// GStreamer's name of the format, never freed.
    pub format: *const c_char,
    pub width: u32,
    pub height: u32,
    /// The CUDA ordinal of the GPU that holds the frame; -1 for system memory.
    pub gpu_id: i32,
    pub plane_count: u32,
    pub planes: [CPlane; 3],
}

const _: () = assert!(size_of::<CFrame>() == 72 && std::mem::offset_of!(CFrame, planes) == 24);

/// `RsDetectNetMapping`: a frame, and what keeps its pixels where they are. C holds it as an [`Arc`], of which each
/// of DLPack's tensors has one more.
pub struct Mapping {
    pub(super) frame: MappedPlanes,
    /// Never looked at: what the planes lie in.
    _held: Box<dyn Send + Sync>,
}

/// A frame that is mapped, in the words of C.
#[derive(Clone, Copy, Debug)]
pub(super) struct MappedPlanes {
    pub format: PixelFormat,
    pub width: u32,
    pub height: u32,
    /// -1 for system memory.
    pub gpu_id: i32,
    pub planes: [CPlane; 3],
}

/// A mapped buffer together with the reference that the mapping borrows from.
struct SystemMapping {
    // Dropped first, as it borrows from the buffer.
    frame: MappedFrame<'static>,
    _buffer: gst::Buffer,
}

impl SystemMapping {
    fn new(buffer: gst::Buffer, shape: &FrameShape) -> Result<Self, String> {
        // SAFETY: the buffer is no part of this value but lies behind its pointer, and the reference that is
        // kept beside the mapping, and dropped after it, keeps it there.
        let borrowed: &'static gst::BufferRef =
            unsafe { gst::BufferRef::from_ptr(buffer.as_ptr()) };
        let frame = shape.read(borrowed).map_err(|error| error.to_string())?;
        Ok(Self {
            frame,
            _buffer: buffer,
        })
    }
}

/// Maps a buffer for reading and writes where its planes lie; null with a sentence where that cannot be.
///
/// # Safety
/// `buffer` is a GstBuffer; `caps` a GstCaps or null; `frame` has room for one; `error` for `error_size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsdetectnet_map(
    buffer: *mut gst::ffi::GstBuffer,
    caps: *mut gst::ffi::GstCaps,
    batch_id: u32,
    frame: *mut CFrame,
    error: *mut c_char,
    error_size: usize,
) -> *const Mapping {
    // SAFETY: the caller vouches for the text.
    let complaint = unsafe { Complaint::new(error, error_size) };
    let mapping = complaint.keep(|| {
        if buffer.is_null() || frame.is_null() {
            return Err("there is no buffer to map".into());
        }
        // SAFETY: the caller's buffer and caps live; these are references of their own.
        let (buffer, caps): (gst::Buffer, Option<gst::Caps>) =
            unsafe { (from_glib_none(buffer), from_glib_none(caps)) };
        let mapping = map(buffer, caps.as_deref(), batch_id as usize)?;
        // SAFETY: the caller has room for one.
        unsafe { frame.write(mapping.frame.described()) };
        Ok(mapping)
    });
    mapping.map_or(std::ptr::null(), |mapping| Arc::into_raw(Arc::new(mapping)))
}

/// Gives the pixels back; null is passed over.
///
/// # Safety
/// `mapping` came from [`rsdetectnet_map`] and was not given back yet, or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsdetectnet_unmap(mapping: *const Mapping) {
    if !mapping.is_null() {
        // SAFETY: the caller vouches for it.
        drop(unsafe { Arc::from_raw(mapping) });
    }
}

fn map(
    buffer: gst::Buffer,
    caps: Option<&gst::CapsRef>,
    batch_id: usize,
) -> Result<Mapping, String> {
    let info = info(&buffer, caps)?;
    let memory = match caps {
        Some(caps) => Memory::from_caps(caps),
        None if buffer.n_memory() == 1 && buffer.peek_memory(0).is_type(MEMORY_TYPE) => {
            Memory::Cuda
        }
        None => Memory::System,
    };
    if batch_id > 0 && memory != Memory::Nvmm {
        return Err(format!(
            "the buffer holds one frame, and not a frame {batch_id}"
        ));
    }
    match memory {
        Memory::System => map_system(buffer, info),
        Memory::Cuda => map_cuda(&buffer, &info),
        Memory::Nvmm => map_nvmm(&buffer, &shape(info)?, batch_id),
    }
}

/// What the caps say, or else the buffer's own GstVideoMeta.
fn info(buffer: &gst::BufferRef, caps: Option<&gst::CapsRef>) -> Result<VideoInfo, String> {
    if let Some(caps) = caps {
        let info = VideoInfo::from_caps(caps);
        return info.map_err(|_| format!("{caps} are no caps of raw video frames"));
    }
    let meta = buffer.meta::<gst_video::VideoMeta>();
    let meta = meta.ok_or("the buffer does not say what frame it holds; give its caps as well")?;
    VideoInfo::builder(meta.format(), meta.width(), meta.height())
        .build()
        .map_err(|_| {
            format!(
                "a frame of {}x{} {}",
                meta.width(),
                meta.height(),
                meta.format()
            )
        })
}

fn shape(info: VideoInfo) -> Result<FrameShape, String> {
    let format = info.format();
    FrameShape::new(info).ok_or_else(|| format!("{format} frames are not supported"))
}

fn map_system(buffer: gst::Buffer, info: VideoInfo) -> Result<Mapping, String> {
    let shape = shape(info)?;
    let info = &shape.info;
    let mapping = SystemMapping::new(buffer, &shape)?;
    let frame = {
        let view = mapping.frame.view().map_err(|error| error.to_string())?;
        let plane = |plane: &crate::frame::system::Plane| CPlane {
            address: plane.data.as_ptr() as u64,
            stride: plane.stride as u64,
        };
        let planes = [0, 1, 2].map(|index| match index < view.format.planes() {
            true => plane(&view.planes[index]),
            false => CPlane::default(),
        });
        MappedPlanes {
            format: view.format,
            width: info.width(),
            height: info.height(),
            gpu_id: -1,
            planes,
        }
    };
    Ok(Mapping {
        frame,
        _held: Box::new(mapping),
    })
}

fn map_cuda(buffer: &gst::Buffer, info: &VideoInfo) -> Result<Mapping, String> {
    let mapped = CudaFrame::map(buffer, info).map_err(|error| error.to_string())?;
    let gpu_id = mapped.context().gpu_id();
    let primary = Context::primary(gpu_id).map_err(|error| error.to_string())?;
    if primary.handle() != mapped.context().handle() {
        return Err(
            "the frame lies in a CUDA context that its element made for itself, where PyTorch, CuPy and Numba \
             cannot reach it; rsdetectnet in the same pipeline gives its elements theirs"
                .into(),
        );
    }
    mapped.synchronize();
    Ok(Mapping {
        frame: on_gpu(&mapped.frame(), gpu_id)?,
        _held: Box::new(mapped),
    })
}

fn map_nvmm(buffer: &gst::Buffer, caps: &FrameShape, batch_id: usize) -> Result<Mapping, String> {
    // Surface arrays of Jetson, which has one GPU, become visible in the context that is current.
    let context = Context::primary(0).map_err(|error| error.to_string())?;
    let mapped = NvmmBuffer::map(buffer, caps).map_err(|error| error.to_string())?;
    let frame = {
        let _current = context.enter().map_err(|error| error.to_string())?;
        mapped.frame(batch_id).map_err(|error| error.to_string())?
    };
    Ok(Mapping {
        frame: on_gpu(&frame, mapped.gpu_id())?,
        _held: Box::new((mapped, context)),
    })
}

fn on_gpu(frame: &DeviceFrame, gpu_id: u32) -> Result<MappedPlanes, String> {
    if frame.storage != DeviceStorage::Pitch {
        return Err(
            "the frame is stored in tiles, which have no rows to point at; on Jetson put \
             nvvidconv bl-output=false ! video/x-raw(memory:NVMM),format=RGBA before"
                .into(),
        );
    }
    Ok(MappedPlanes {
        format: frame.format,
        width: frame.width as u32,
        height: frame.height as u32,
        gpu_id: i32::try_from(gpu_id).unwrap_or(i32::MAX),
        planes: frame.planes.map(|plane| CPlane {
            address: plane.pointer,
            stride: plane.pitch as u64,
        }),
    })
}

impl MappedPlanes {
    fn described(&self) -> CFrame {
        CFrame {
            format: name(self.format).as_ptr(),
            width: self.width,
            height: self.height,
            gpu_id: self.gpu_id,
            plane_count: self.format.planes() as u32,
            planes: self.planes,
        }
    }
}

/// GStreamer's name of a format. YV12 is I420 here, as its planes come in that order.
fn name(format: PixelFormat) -> &'static CStr {
    match format {
        PixelFormat::Nv12 => c"NV12",
        PixelFormat::Nv21 => c"NV21",
        PixelFormat::I420 => c"I420",
        PixelFormat::P010 => c"P010_10LE",
        PixelFormat::Yuy2 => c"YUY2",
        PixelFormat::Uyvy => c"UYVY",
        PixelFormat::Rgb => c"RGB",
        PixelFormat::Bgr => c"BGR",
        PixelFormat::Rgba => c"RGBA",
        PixelFormat::Bgra => c"BGRA",
        PixelFormat::Rgbx => c"RGBx",
        PixelFormat::Bgrx => c"BGRx",
        PixelFormat::Argb => c"ARGB",
        PixelFormat::Xrgb => c"xRGB",
        PixelFormat::Gray8 => c"GRAY8",
    }
}
