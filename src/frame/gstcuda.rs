//! GStreamer's CUDA library, opened at run time: contexts, streams and memory as its elements share them.
//!
//! Everything here is in libgstcuda since GStreamer 1.22, except what streams need, which is new in 1.24.

use std::ffi::{c_int, c_uint, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use gst::glib::WeakRef;
use gst::glib::translate::*;
use gst::prelude::*;
use gst_video::VideoFormat;

use crate::cuda::context::{Context, ContextError};
use crate::dynamic_library::DynamicLibrary;

/// `GST_CUDA_CONTEXT_TYPE`: the name that contexts are asked for and answered by.
pub const CONTEXT_TYPE: &str = "gst.cuda.context";
/// `GST_CUDA_MEMORY_TYPE_NAME`.
pub const MEMORY_TYPE: &gst::glib::GStr = gst::glib::gstr!("gst.cuda.memory");
/// `GST_MAP_CUDA`: map the device memory, not a copy of it in system memory.
pub const MAP_CUDA: gst::ffi::GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;
/// `GST_CUDA_MEMORY_TRANSFER_NEED_SYNC` (1.24): work on the memory's stream may still be under way.
pub const MEMORY_NEEDS_SYNC: gst::ffi::GstMemoryFlags = gst::ffi::GST_MEMORY_FLAG_LAST << 2;

/// The formats that every version of the library makes buffers for; 1.22 ends the process where it is asked for others.
pub const CUDA_FORMATS: [VideoFormat; 14] = [
    VideoFormat::Nv12,
    VideoFormat::I420,
    VideoFormat::Yv12,
    VideoFormat::Nv21,
    VideoFormat::Yuy2,
    VideoFormat::Uyvy,
    VideoFormat::P01010le,
    VideoFormat::Rgba,
    VideoFormat::Bgra,
    VideoFormat::Rgbx,
    VideoFormat::Bgrx,
    VideoFormat::Argb,
    VideoFormat::Rgb,
    VideoFormat::Bgr,
];

/// The public head of `GstCudaMemory`, the same from 1.22 to 1.28 (gstcudamemory.h).
#[repr(C)]
pub struct GstCudaMemory {
    pub memory: gst::ffi::GstMemory,
    pub context: *mut GstCudaContext,
    pub info: gst_video::ffi::GstVideoInfo,
}

/// `GstCudaContext`, a `GstObject`.
pub type GstCudaContext = gst::ffi::GstObject;

/// `GstCudaStream`, a `GstMiniObject`.
type GstCudaStream = c_void;

/// Why GStreamer's CUDA memory cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum GstCudaError {
    #[error("GStreamer's CUDA library is missing; memory:CUDAMemory needs GStreamer 1.22 ({0})")]
    LibraryMissing(String),
    #[error("GStreamer's CUDA library has no {function}: it is older than 1.22")]
    LibraryTooOld { function: &'static str },
    #[error("GStreamer's CUDA library finds no NVIDIA driver")]
    NoDriver,
    #[error("GStreamer's CUDA library makes no context for the GPU with gpu-id {gpu_id}")]
    NoContext { gpu_id: u32 },
    #[error("a CUDA context of GPU {gpu_id} cannot be made current on this thread")]
    NotCurrent { gpu_id: u32 },
    #[error("GStreamer's CUDA library makes no buffers for {0}")]
    NoPool(String),
    #[error(transparent)]
    Context(#[from] ContextError),
}

/// What 1.24 added to order work by streams.
struct StreamFunctions {
    memory_stream: unsafe extern "C" fn(*mut GstCudaMemory) -> *mut GstCudaStream,
    memory_sync: unsafe extern "C" fn(*mut GstCudaMemory),
    stream_handle: unsafe extern "C" fn(*mut GstCudaStream) -> *mut c_void,
}

/// The loaded library, with a driver behind it.
pub struct GstCuda {
    context_new_wrapped: unsafe extern "C" fn(*mut c_void, c_int) -> *mut GstCudaContext,
    context_handle: unsafe extern "C" fn(*mut GstCudaContext) -> *mut c_void,
    context_push: unsafe extern "C" fn(*mut GstCudaContext) -> gst::glib::ffi::gboolean,
    context_pop: unsafe extern "C" fn(*mut *mut c_void) -> gst::glib::ffi::gboolean,
    new_gst_context: unsafe extern "C" fn(*mut GstCudaContext) -> *mut gst::ffi::GstContext,
    handle_set_context: unsafe extern "C" fn(
        *mut gst::ffi::GstElement,
        *mut gst::ffi::GstContext,
        c_int,
        *mut *mut GstCudaContext,
    ) -> gst::glib::ffi::gboolean,
    handle_context_query: unsafe extern "C" fn(
        *mut gst::ffi::GstElement,
        *mut gst::ffi::GstQuery,
        *mut GstCudaContext,
    ) -> gst::glib::ffi::gboolean,
    buffer_pool_new: unsafe extern "C" fn(*mut GstCudaContext) -> *mut gst::ffi::GstBufferPool,
    streams: Option<StreamFunctions>,
    _library: DynamicLibrary,
}

impl GstCuda {
    /// The library of this process, loaded on first use and never unloaded, as it registers types.
    pub fn get() -> Result<&'static Self, GstCudaError> {
        static LIBRARY: OnceLock<Result<GstCuda, GstCudaError>> = OnceLock::new();
        LIBRARY
            .get_or_init(|| Self::open("libgstcuda-1.0.so.0"))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn open(name: &str) -> Result<Self, GstCudaError> {
        let library = DynamicLibrary::open(name).map_err(GstCudaError::LibraryMissing)?;
        // SAFETY: names and signatures are those of gst/cuda/*.h, which agree from 1.22 to 1.28.
        // Nothing but the loader may be called before it has found a driver: the rest would abort.
        unsafe {
            let load: unsafe extern "C" fn() -> gst::glib::ffi::gboolean =
                function(&library, "gst_cuda_load_library")?;
            if load() == gst::glib::ffi::GFALSE {
                return Err(GstCudaError::NoDriver);
            }
            let register_memory: unsafe extern "C" fn() =
                function(&library, "gst_cuda_memory_init_once")?;
            register_memory();
            Ok(Self {
                context_new_wrapped: function(&library, "gst_cuda_context_new_wrapped")?,
                context_handle: function(&library, "gst_cuda_context_get_handle")?,
                context_push: function(&library, "gst_cuda_context_push")?,
                context_pop: function(&library, "gst_cuda_context_pop")?,
                new_gst_context: function(&library, "gst_context_new_cuda_context")?,
                handle_set_context: function(&library, "gst_cuda_handle_set_context")?,
                handle_context_query: function(&library, "gst_cuda_handle_context_query")?,
                buffer_pool_new: function(&library, "gst_cuda_buffer_pool_new")?,
                streams: stream_functions(&library),
                _library: library,
            })
        }
    }

    /// The stream that work on the memory is queued on and the memory still waits for; `None` where the
    /// frame is finished, as it always is before 1.24.
    ///
    /// # Safety
    /// `memory` must be a live GStreamer CUDA memory.
    pub(super) unsafe fn pending_stream(&self, memory: *mut GstCudaMemory) -> Option<*mut c_void> {
        let streams = self.streams.as_ref()?;
        // SAFETY: the caller gives a live CUDA memory; its stream lives as long as the memory.
        unsafe {
            if (*memory).memory.mini_object.flags & MEMORY_NEEDS_SYNC == 0 {
                return None;
            }
            let stream = (streams.memory_stream)(memory);
            (!stream.is_null()).then(|| (streams.stream_handle)(stream))
        }
    }

    /// Waits on the host until the work queued on the memory is done.
    ///
    /// # Safety
    /// `memory` must be a live GStreamer CUDA memory.
    pub(super) unsafe fn synchronize(&self, memory: *mut GstCudaMemory) {
        if let Some(streams) = &self.streams {
            // SAFETY: the caller gives a live CUDA memory.
            unsafe { (streams.memory_sync)(memory) }
        }
    }

    /// The CUDA context in a `GstContext`, if it is one of this GPU, where one is asked for.
    pub(super) fn context_of(
        &'static self,
        element: &gst::Element,
        context: &gst::Context,
        gpu_id: Option<u32>,
    ) -> Option<CudaContext> {
        let mut found = ptr::null_mut();
        // -1 is any.
        let gpu_id = gpu_id.map_or(Ok(-1), c_int::try_from).ok()?;
        // SAFETY: element and context are live; the slot is this function's own, empty, and takes a reference.
        unsafe {
            (self.handle_set_context)(
                element.to_glib_none().0,
                context.to_glib_none().0,
                gpu_id,
                &mut found,
            );
            (!found.is_null()).then(|| CudaContext {
                object: from_glib_full(found),
                library: self,
            })
        }
    }
}

/// # Safety
/// `T` must be the type of the function of that name.
unsafe fn function<T: Copy>(
    library: &DynamicLibrary,
    function: &'static str,
) -> Result<T, GstCudaError> {
    // SAFETY: the caller vouches for the type.
    unsafe { library.function(function) }.ok_or(GstCudaError::LibraryTooOld { function })
}

/// The functions of 1.24, all or none.
fn stream_functions(library: &DynamicLibrary) -> Option<StreamFunctions> {
    // SAFETY: names and signatures are those of gstcudamemory.h and gstcudastream.h since 1.24.
    unsafe {
        Some(StreamFunctions {
            memory_stream: library.function("gst_cuda_memory_get_stream")?,
            memory_sync: library.function("gst_cuda_memory_sync")?,
            stream_handle: library.function("gst_cuda_stream_get_handle")?,
        })
    }
}

/// A CUDA context as GStreamer elements share it, kept alive.
#[derive(Clone)]
pub struct CudaContext {
    object: gst::Object,
    library: &'static GstCuda,
}

impl CudaContext {
    /// The context that all elements of this process share on a GPU. It wraps the device's primary context,
    /// which TensorRT, the CUDA runtime and DeepStream use too, so that one set of engines serves them all.
    pub fn shared(gpu_id: u32) -> Result<Self, GstCudaError> {
        /// For each GPU its primary context, which is retained for the life of the process, and what wraps it.
        static SHARED: Mutex<Vec<(u32, Context, WeakRef<gst::Object>)>> = Mutex::new(Vec::new());

        let library = GstCuda::get()?;
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.iter().position(|(id, ..)| *id == gpu_id);
        let entry = match known {
            Some(known) => &mut shared[known],
            None => {
                shared.push((gpu_id, Context::primary(gpu_id)?, WeakRef::new()));
                let last = shared.len() - 1;
                &mut shared[last]
            }
        };
        let (_, primary, wrapped) = entry;
        if let Some(object) = wrapped.upgrade() {
            return Ok(Self { object, library });
        }
        // SAFETY: the handle is a context of that device and is retained for the life of the process.
        let context = unsafe { (library.context_new_wrapped)(primary.handle(), primary.device()) };
        if context.is_null() {
            return Err(GstCudaError::NoContext { gpu_id });
        }
        // SAFETY: the call above gave a GstObject and the reference to it.
        let object: gst::Object = unsafe { from_glib_full(context) };
        *wrapped = object.downgrade();
        Ok(Self { object, library })
    }

    /// A context that somebody else holds a reference of.
    ///
    /// # Safety
    /// `context` must be a live `GstCudaContext`, and stay so as long as what this returns.
    pub(super) unsafe fn borrowed(
        context: *mut GstCudaContext,
        library: &'static GstCuda,
    ) -> ManuallyDrop<Self> {
        // SAFETY: the caller gives a live object. What is never dropped gives back no reference.
        let object = unsafe { from_glib_full(context) };
        ManuallyDrop::new(Self { object, library })
    }

    /// The `CUcontext`. It lives as long as `self` does.
    pub fn handle(&self) -> *mut c_void {
        // SAFETY: `object` is a live GstCudaContext.
        unsafe { (self.library.context_handle)(self.as_raw()) }
    }

    /// The CUDA ordinal of its device.
    pub fn gpu_id(&self) -> u32 {
        self.object.property::<c_uint>("cuda-device-id")
    }

    /// Makes the context current on this thread until the returned value is dropped.
    pub fn push(&self) -> Result<CurrentContext<'_>, GstCudaError> {
        // SAFETY: `object` is a live GstCudaContext.
        let pushed = unsafe { (self.library.context_push)(self.as_raw()) };
        if pushed == gst::glib::ffi::GFALSE {
            return Err(GstCudaError::NotCurrent {
                gpu_id: self.gpu_id(),
            });
        }
        Ok(CurrentContext {
            context: self,
            not_send: PhantomData,
        })
    }

    /// The `GstContext` that shares this context with other elements.
    pub fn to_gst_context(&self) -> gst::Context {
        // SAFETY: `object` is a live GstCudaContext; the call returns a new GstContext.
        unsafe { from_glib_full((self.library.new_gst_context)(self.as_raw())) }
    }

    /// An active pool of buffers in memory of this context, for frames of these caps.
    pub fn buffer_pool(&self, caps: &gst::Caps) -> Result<gst::BufferPool, GstCudaError> {
        let refused = || GstCudaError::NoPool(caps.to_string());
        let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| refused())?;
        if !CUDA_FORMATS.contains(&info.format()) {
            return Err(refused());
        }
        let size = u32::try_from(info.size()).map_err(|_| refused())?;
        // SAFETY: `object` is a live GstCudaContext; the call returns a new pool, which takes its own reference.
        let pool: gst::BufferPool =
            unsafe { from_glib_full((self.library.buffer_pool_new)(self.as_raw())) };
        let mut config = pool.config();
        config.set_params(Some(caps), size, 0, 0);
        pool.set_config(config).map_err(|_| refused())?;
        pool.set_active(true).map_err(|_| refused())?;
        Ok(pool)
    }

    /// Answers a CONTEXT query of the type [`CONTEXT_TYPE`]; false for any other.
    pub(super) fn answer(&self, element: &gst::Element, query: &mut gst::QueryRef) -> bool {
        // SAFETY: element and context are live and the query is borrowed for writing.
        unsafe {
            from_glib((self.library.handle_context_query)(
                element.to_glib_none().0,
                query.as_mut_ptr(),
                self.as_raw(),
            ))
        }
    }

    fn as_raw(&self) -> *mut GstCudaContext {
        self.object.as_ptr()
    }
}

/// Says of a buffer of a [pool](CudaContext::buffer_pool) that it holds a frame of this size, which may be smaller than
/// the pool's; offsets and strides stay those of the pool's frames.
pub fn show(buffer: &mut gst::BufferRef, width: u32, height: u32) {
    if let Some(mut meta) = buffer.meta_mut::<gst_video::VideoMeta>() {
        // SAFETY: the meta is borrowed for writing.
        unsafe {
            let meta = meta.as_mut_ptr();
            (*meta).width = width;
            (*meta).height = height;
        }
    }
}

impl PartialEq for CudaContext {
    fn eq(&self, other: &Self) -> bool {
        self.handle() == other.handle()
    }
}

impl std::fmt::Debug for CudaContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CudaContext")
            .field("gpu_id", &self.gpu_id())
            .field("handle", &self.handle())
            .finish()
    }
}

/// A context that is current on this thread.
#[must_use = "the context is current only as long as this value lives"]
pub struct CurrentContext<'a> {
    context: &'a CudaContext,
    // What a thread pushed, the same thread must pop.
    not_send: PhantomData<*mut c_void>,
}

impl Drop for CurrentContext<'_> {
    fn drop(&mut self) {
        // SAFETY: pushed on this thread by the constructor; the value cannot leave the thread.
        unsafe { (self.context.library.context_pop)(ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_library_is_one_clear_sentence() {
        let error = GstCuda::open("libgstcuda-that-is-not-there.so")
            .err()
            .unwrap();
        assert!(
            error.to_string().starts_with(
                "GStreamer's CUDA library is missing; memory:CUDAMemory needs GStreamer 1.22 \
                 (libgstcuda-that-is-not-there.so"
            ),
            "{error}"
        );
    }

    #[test]
    fn a_library_without_the_functions_is_told_by_what_it_lacks() {
        assert_eq!(
            GstCuda::open("libc.so.6").err().unwrap().to_string(),
            "GStreamer's CUDA library has no gst_cuda_load_library: it is older than 1.22"
        );
    }

    #[test]
    fn without_driver_or_library_asking_for_a_context_is_an_error_and_no_abort() {
        gst::init().unwrap();
        match CudaContext::shared(0) {
            Ok(context) => assert_eq!(context.gpu_id(), 0),
            Err(error) => assert!(
                matches!(
                    error,
                    GstCudaError::NoDriver | GstCudaError::LibraryMissing(_)
                ),
                "{error}"
            ),
        }
    }

    #[test]
    fn flags_are_those_of_the_headers() {
        assert_eq!(MAP_CUDA, 1 << 17);
        assert_eq!(MEMORY_NEEDS_SYNC, 1 << 22);
    }
}
