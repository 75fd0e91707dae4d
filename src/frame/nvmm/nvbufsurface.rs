//! The memory layout of NvBufSurface, as nvbufsurface.h defines it, and the library that fills it.
//!
//! There are two. The older is that of DeepStream 4.0 to 7.1 and JetPack 5 and 6, the newer that of
//! DeepStream 8.0 and later and JetPack 7. The head of [`NvBufSurface`] and the first 320 bytes of its
//! entries are the same in both; the distance from one entry to the next is not. Sizes and offsets below
//! were taken from the headers of 7.1, 8.0 and 9.1 on an LP64 machine, as x86-64 and aarch64 are.

use std::ffi::{c_int, c_void};
use std::mem::offset_of;
use std::sync::OnceLock;

use crate::dynamic_library::DynamicLibrary;

/// `NVBUF_MAX_PLANES`.
pub const MAX_PLANES: usize = 4;

/// `NvBufSurfaceMemType`.
pub mod memory_type {
    pub const DEFAULT: u32 = 0;
    pub const CUDA_PINNED: u32 = 1;
    pub const CUDA_DEVICE: u32 = 2;
    pub const CUDA_UNIFIED: u32 = 3;
    pub const SURFACE_ARRAY: u32 = 4;

    const NAMES: [&str; 8] = [
        "NVBUF_MEM_DEFAULT",
        "NVBUF_MEM_CUDA_PINNED",
        "NVBUF_MEM_CUDA_DEVICE",
        "NVBUF_MEM_CUDA_UNIFIED",
        "NVBUF_MEM_SURFACE_ARRAY",
        "NVBUF_MEM_HANDLE",
        "NVBUF_MEM_SYSTEM",
        "NVBUF_MEM_CUDA_ARRAY",
    ];

    pub fn name(memory_type: u32) -> String {
        match NAMES.get(memory_type as usize) {
            Some(name) => (*name).into(),
            None => format!("NvBufSurfaceMemType {memory_type}"),
        }
    }
}

/// `NVBUF_LAYOUT_PITCH`: rows one after the other. The other layout is block linear.
pub const LAYOUT_PITCH: u32 = 0;

/// `NvBufSurface` up to the pointer to its entries, the same in both layouts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NvBufSurface {
    pub gpu_id: u32,
    pub batch_size: u32,
    pub num_filled: u32,
    /// A C `bool`, not read.
    pub is_contiguous: u8,
    pub memory_type: u32,
    pub surface_list: *mut c_void,
}

/// `NvBufSurfacePlaneParams`; sizes, pitches and offsets in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PlaneParams {
    pub num_planes: u32,
    pub width: [u32; MAX_PLANES],
    pub height: [u32; MAX_PLANES],
    pub pitch: [u32; MAX_PLANES],
    pub offset: [u32; MAX_PLANES],
    pub size: [u32; MAX_PLANES],
    pub bytes_per_pixel: [u32; MAX_PLANES],
    pub reserved: [*mut c_void; 4 * MAX_PLANES],
}

/// `NvBufSurfaceParams` up to the EGL image, the same in both layouts.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SurfaceParams {
    pub width: u32,
    pub height: u32,
    pub pitch: u32,
    pub color_format: u32,
    pub layout: u32,
    /// A DMA-BUF file descriptor, for surface arrays.
    pub buffer_desc: u64,
    pub data_size: u32,
    pub data_pointer: *mut c_void,
    pub planes: PlaneParams,
    pub mapped_addresses: [*mut c_void; MAX_PLANES],
    pub egl_image: *mut c_void,
}

/// What follows [`SurfaceParams`] in the older layout.
#[repr(C)]
pub struct SurfaceParamsOldTail {
    pub mapped_reserved: [*mut c_void; 4],
    pub extended: *mut c_void,
    pub reserved: [*mut c_void; 3],
}

/// What follows [`SurfaceParams`] in the newer layout.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SurfaceParamsNewTail {
    pub nvmm_pointer: *mut c_void,
    /// The [`CudaBuffer`] that `NvBufSurfaceMapCudaBuffer` made.
    pub cuda_pointer: *mut CudaBuffer,
    pub mapped_reserved: [*mut c_void; 4],
    pub extended: *mut c_void,
    pub cuda_buffer: *mut CudaBuffer,
    pub reserved: [*mut c_void; 4],
}

/// `NvBufSurfaceCudaBuffer`, in the newer layout only.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct CudaBuffer {
    pub base_pointer: *mut c_void,
    pub data_pointer: *mut c_void,
    pub external_memory: *mut c_void,
    pub mipmap: *mut c_void,
    pub reserved: [u8; 64],
}

const _: () = {
    assert!(size_of::<NvBufSurface>() == 32);
    assert!(offset_of!(NvBufSurface, num_filled) == 8);
    assert!(offset_of!(NvBufSurface, is_contiguous) == 12);
    assert!(offset_of!(NvBufSurface, memory_type) == 16);
    assert!(offset_of!(NvBufSurface, surface_list) == 24);

    assert!(size_of::<PlaneParams>() == 232);
    assert!(offset_of!(PlaneParams, width) == 4);
    assert!(offset_of!(PlaneParams, height) == 20);
    assert!(offset_of!(PlaneParams, pitch) == 36);
    assert!(offset_of!(PlaneParams, offset) == 52);
    assert!(offset_of!(PlaneParams, size) == 68);
    assert!(offset_of!(PlaneParams, bytes_per_pixel) == 84);
    assert!(offset_of!(PlaneParams, reserved) == 104);

    assert!(size_of::<SurfaceParams>() == 320);
    assert!(offset_of!(SurfaceParams, color_format) == 12);
    assert!(offset_of!(SurfaceParams, layout) == 16);
    assert!(offset_of!(SurfaceParams, buffer_desc) == 24);
    assert!(offset_of!(SurfaceParams, data_size) == 32);
    assert!(offset_of!(SurfaceParams, data_pointer) == 40);
    assert!(offset_of!(SurfaceParams, planes) == 48);
    assert!(offset_of!(SurfaceParams, mapped_addresses) == 280);
    assert!(offset_of!(SurfaceParams, egl_image) == 312);

    assert!(320 + offset_of!(SurfaceParamsOldTail, extended) == 352);
    assert!(320 + offset_of!(SurfaceParamsNewTail, cuda_pointer) == 328);
    assert!(320 + offset_of!(SurfaceParamsNewTail, extended) == 368);
    assert!(320 + offset_of!(SurfaceParamsNewTail, cuda_buffer) == 376);
    assert!(Layout::Old.entry_stride() == 384);
    assert!(Layout::New.entry_stride() == 416);

    assert!(size_of::<CudaBuffer>() == 96);
    assert!(offset_of!(CudaBuffer, data_pointer) == 8);
};

/// Which of the two layouts a surface has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// DeepStream 4.0 to 7.1, JetPack 5 and 6.
    Old,
    /// DeepStream 8.0 and later, JetPack 7.
    New,
}

impl Layout {
    /// `sizeof(NvBufSurface)`, which is the size of a mapped `memory:NVMM` buffer.
    pub const fn surface_size(self) -> usize {
        match self {
            Self::Old => 64,
            Self::New => 72,
        }
    }

    /// `sizeof(NvBufSurfaceParams)`: bytes from one entry of a batch to the next.
    pub const fn entry_stride(self) -> usize {
        size_of::<SurfaceParams>()
            + match self {
                Self::Old => size_of::<SurfaceParamsOldTail>(),
                Self::New => size_of::<SurfaceParamsNewTail>(),
            }
    }

    /// The layout of the surface behind a mapped buffer of that size; `None` if it is no NvBufSurface.
    ///
    /// Surfaces are made by the library, so where it is loaded its age decides: `NvBufSurfaceMapCudaBuffer`
    /// came with the newer layout. The size is that of the header some element was compiled with.
    pub fn of_buffer(size: usize) -> Option<Self> {
        let by_size = [Self::Old, Self::New]
            .into_iter()
            .find(|layout| layout.surface_size() == size)?;
        Some(Library::get().map_or(by_size, |library| library.layout))
    }
}

/// The calls that make Jetson's surfaces readable for CUDA. Each takes a surface and the index of an entry
/// and returns 0 on success.
#[derive(Clone, Copy)]
pub struct MapFunctions {
    pub map_egl_image: MapFunction,
    pub unmap_egl_image: MapFunction,
    /// `NvBufSurfaceMapCudaBuffer` and `NvBufSurfaceUnMapCudaBuffer`, with the newer layout only.
    pub cuda_buffer: Option<(MapFunction, MapFunction)>,
}

pub type MapFunction = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;

/// The loaded libnvbufsurface.
pub struct Library {
    pub layout: Layout,
    /// `None` on a library without EGL images.
    pub map: Option<MapFunctions>,
    _library: DynamicLibrary,
}

impl Library {
    /// The library that this process' surfaces come from; `None` where there is none.
    pub fn get() -> Option<&'static Self> {
        static LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        LIBRARY.get_or_init(Self::find).as_ref()
    }

    /// The library that is loaded already, as the elements that fill surfaces load it; else the system's.
    fn find() -> Option<Self> {
        DynamicLibrary::open_any(&["libnvbufsurface.so", "libnvbufsurface.so.1.0.0"])
            .ok()
            .map(Self::new)
    }

    fn new(library: DynamicLibrary) -> Self {
        // SAFETY: names and signatures are those of nvbufsurface.h.
        let function = |name: &str| -> Option<MapFunction> { unsafe { library.function(name) } };
        let cuda_buffer =
            function("NvBufSurfaceMapCudaBuffer").zip(function("NvBufSurfaceUnMapCudaBuffer"));
        let map = function("NvBufSurfaceMapEglImage")
            .zip(function("NvBufSurfaceUnMapEglImage"))
            .map(|(map_egl_image, unmap_egl_image)| MapFunctions {
                map_egl_image,
                unmap_egl_image,
                cuda_buffer,
            });
        Self {
            layout: match cuda_buffer {
                Some(_) => Layout::New,
                None => Layout::Old,
            },
            map,
            _library: library,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_are_no_surface_have_no_layout() {
        assert_eq!(Layout::of_buffer(1008), None);
        assert_eq!(Layout::of_buffer(0), None);
        if Library::get().is_none() {
            assert_eq!(Layout::of_buffer(64), Some(Layout::Old));
            assert_eq!(Layout::of_buffer(72), Some(Layout::New));
        }
    }
}
