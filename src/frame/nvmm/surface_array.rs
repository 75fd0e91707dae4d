//! Jetson's surface arrays, made readable for CUDA.
//!
//! Registering a surface takes longer than reading it, and surfaces come from small pools, so a
//! registration is kept: on the `GstMemory` that holds the surface, with which it is released. It can
//! neither outlive the surface nor be mistaken for that of another one whose descriptor or address is
//! the same.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cust::sys;
use gst::glib;

use super::super::device::DeviceStorage;
use super::nvbufsurface::{
    CudaBuffer, LAYOUT_PITCH, Layout, Library, MapFunction, MapFunctions, SurfaceParams,
    SurfaceParamsNewTail,
};
use crate::cuda::driver::{
    self, CudaError, DriverError, EGL_FRAME_ARRAY, EGL_FRAME_PITCH, EglFrame, EglInterop, check,
};

/// Why a surface array cannot be read by CUDA.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SurfaceArrayError {
    #[error("libnvbufsurface.so has no EGL images")]
    NoEglImages,
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("the NVIDIA driver takes no EGL images")]
    NoEglInterop,
    #[error("no CUDA context is current on this thread")]
    NoContext,
    #[error("NvBufSurfaceMapEglImage makes no EGL image of the surface (it returned {0})")]
    NotMapped(c_int),
    #[error("CUDA does not take the surface's EGL image: {0}")]
    NotRegistered(CudaError),
    #[error("CUDA sees {planes} planes of frame type {frame_type} in the surface's EGL image")]
    UnknownFrame { planes: u32, frame_type: u32 },
}

/// What is called of the driver.
#[derive(Clone, Copy)]
pub struct DriverCalls {
    pub current: unsafe extern "C" fn(*mut sys::CUcontext) -> sys::CUresult,
    pub push: unsafe extern "C" fn(sys::CUcontext) -> sys::CUresult,
    pub pop: unsafe extern "C" fn(*mut sys::CUcontext) -> sys::CUresult,
    pub unregister: unsafe extern "C" fn(sys::CUgraphicsResource) -> sys::CUresult,
    pub egl: EglInterop,
}

impl DriverCalls {
    /// Those of the loaded driver.
    fn new(egl: EglInterop) -> Self {
        Self {
            current: sys::cuCtxGetCurrent,
            push: sys::cuCtxPushCurrent_v2,
            pop: sys::cuCtxPopCurrent_v2,
            unregister: sys::cuGraphicsUnregisterResource,
            egl,
        }
    }
}

/// The calls on both sides of the border.
pub struct Bridge {
    pub surface: MapFunctions,
    pub driver: DriverCalls,
    cuda_buffers_refused: AtomicBool,
}

impl Bridge {
    pub fn new(surface: MapFunctions, driver: DriverCalls) -> Self {
        Self {
            surface,
            driver,
            cuda_buffers_refused: AtomicBool::new(false),
        }
    }

    /// That of this machine.
    pub fn get() -> Result<&'static Self, SurfaceArrayError> {
        static BRIDGE: OnceLock<Result<Bridge, SurfaceArrayError>> = OnceLock::new();
        BRIDGE
            .get_or_init(|| {
                let surface = Library::get()
                    .and_then(|library| library.map)
                    .ok_or(SurfaceArrayError::NoEglImages)?;
                let egl = driver::load()?
                    .egl_interop()
                    .ok_or(SurfaceArrayError::NoEglInterop)?;
                Ok(Self::new(surface, DriverCalls::new(egl)))
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    fn current_context(&self) -> Result<sys::CUcontext, SurfaceArrayError> {
        let mut context = ptr::null_mut();
        // SAFETY: the call writes one pointer.
        match unsafe { (self.driver.current)(&mut context) } {
            sys::CUresult::CUDA_SUCCESS if !context.is_null() => Ok(context),
            _ => Err(SurfaceArrayError::NoContext),
        }
    }
}

/// One entry of a surface in a mapped buffer.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The `NvBufSurface`.
    pub surface: *mut c_void,
    pub index: u32,
    pub layout: Layout,
    /// The entry's `NvBufSurfaceParams`, whole as the layout has it.
    pub params: *mut SurfaceParams,
}

impl Entry {
    /// The EGL image that the entry is mapped to, null where it is not.
    ///
    /// # Safety
    /// The surface must be live.
    unsafe fn egl_image(&self) -> *mut c_void {
        // SAFETY: `params` is an entry of a live surface. It is not borrowed, as the library writes to it.
        unsafe { (&raw const (*self.params).egl_image).read_unaligned() }
    }

    /// The CUDA buffer that the entry is mapped to, null where it is not; only in the newer layout.
    ///
    /// # Safety
    /// The surface must be live.
    unsafe fn cuda_buffer(&self) -> *mut CudaBuffer {
        if self.layout == Layout::Old {
            return ptr::null_mut();
        }
        // SAFETY: in the newer layout the tail follows each entry of a live surface.
        unsafe {
            let tail = self.params.add(1).cast::<SurfaceParamsNewTail>();
            (&raw const (*tail).cuda_pointer).read_unaligned()
        }
    }
}

/// What CUDA reads of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// The entry's memory; its planes start at the offsets that the surface gives.
    Linear { pointer: u64 },
    /// The planes of an EGL image: device pointers, or `CUarray`s without pitch.
    Image {
        storage: DeviceStorage,
        planes: [u64; 3],
        pitch: usize,
    },
}

/// What CUDA reads of an entry, in the context that is current on this thread. The first call for an entry
/// registers it, the others do not. `memory` is that of the buffer which holds the surface.
///
/// # Safety
/// `memory` must be mapped, hold the surface of `entry`, and live as long as the surface does.
pub unsafe fn view(
    bridge: &'static Bridge,
    memory: &gst::MemoryRef,
    entry: Entry,
    buffer_desc: u64,
) -> Result<View, SurfaceArrayError> {
    let context = bridge.current_context()?;
    let registrations = registrations(memory);
    let mut registrations = registrations.lock().unwrap_or_else(PoisonError::into_inner);
    let known = registrations
        .iter()
        .position(|known| known.context == context as usize && known.entry.0.index == entry.index);
    if let Some(known) = known {
        let registration = &registrations[known];
        // SAFETY: the caller gives a live surface.
        if unsafe { registration.is_for(entry, buffer_desc) } {
            return Ok(registration.mapped.view);
        }
        registrations.swap_remove(known);
    }
    // SAFETY: as above.
    let registration = unsafe { Registration::new(bridge, context, entry, buffer_desc) }?;
    let view = registration.mapped.view;
    registrations.push(registration);
    Ok(view)
}

type Registrations = Arc<Mutex<Vec<Registration>>>;

/// The registrations that hang on a memory.
fn registrations(memory: &gst::MemoryRef) -> Registrations {
    static QUARK: OnceLock<glib::Quark> = OnceLock::new();
    static LOCK: Mutex<()> = Mutex::new(());

    unsafe extern "C" fn destroy(data: *mut c_void) {
        // SAFETY: the data is the box that was set below, and is destroyed once.
        drop(unsafe { Box::from_raw(data.cast::<Registrations>()) });
    }

    use glib::translate::IntoGlib;
    let quark = QUARK
        .get_or_init(|| glib::Quark::from_str("rsdetectnet-surface-array"))
        .into_glib();
    let object = memory.as_mut_ptr().cast::<gst::ffi::GstMiniObject>();
    let _lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the memory is live; the quark is this function's own, so the data is what it set, and the
    // lock keeps two threads from setting it both.
    unsafe {
        let data = gst::ffi::gst_mini_object_get_qdata(object, quark).cast::<Registrations>();
        if !data.is_null() {
            return (*data).clone();
        }
        let registrations = Registrations::default();
        let data = Box::into_raw(Box::new(registrations.clone()));
        gst::ffi::gst_mini_object_set_qdata(object, quark, data.cast(), Some(destroy));
        registrations
    }
}

/// An entry whose pointers may go to another thread.
struct SharedEntry(Entry);

// SAFETY: surfaces belong to no thread; a registration reads its entry only while the surface lives.
unsafe impl Send for SharedEntry {}

/// An entry that CUDA can read, until this is dropped.
struct Registration {
    bridge: &'static Bridge,
    context: usize,
    entry: SharedEntry,
    buffer_desc: u64,
    mapped: MappedEntry,
}

/// Where a registration's view comes from, as addresses.
enum Source {
    CudaBuffer { buffer: usize },
    EglImage { image: usize, resource: usize },
}

/// What mapping an entry gives.
struct MappedEntry {
    source: Source,
    view: View,
    /// Whether it was mapped here, and not by another element.
    owned: bool,
}

impl Registration {
    /// # Safety
    /// The surface must be live and `context` current.
    unsafe fn new(
        bridge: &'static Bridge,
        context: sys::CUcontext,
        entry: Entry,
        buffer_desc: u64,
    ) -> Result<Self, SurfaceArrayError> {
        // SAFETY: the caller's promise.
        let mapped = match unsafe { map_cuda_buffer(bridge, entry) } {
            Some(mapped) => mapped,
            None => unsafe { map_egl_image(bridge, entry) }?,
        };
        Ok(Self {
            bridge,
            context: context as usize,
            entry: SharedEntry(entry),
            buffer_desc,
            mapped,
        })
    }

    /// Whether the entry is still what was registered: another element may have unmapped it.
    ///
    /// # Safety
    /// The surface of `entry` must be live.
    unsafe fn is_for(&self, entry: Entry, buffer_desc: u64) -> bool {
        // SAFETY: the caller's promise.
        let mapped = unsafe {
            match self.mapped.source {
                Source::CudaBuffer { buffer } => entry.cuda_buffer() as usize == buffer,
                Source::EglImage { image, .. } => entry.egl_image() as usize == image,
            }
        };
        mapped && self.entry.0.surface == entry.surface && self.buffer_desc == buffer_desc
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let Entry { surface, index, .. } = self.entry.0;
        let index = index as c_int;
        // SAFETY: a registration is dropped while its memory lives, or as it is destroyed and the surface
        // with it not yet. Errors leave nothing to do.
        unsafe {
            match self.mapped.source {
                Source::EglImage { image, resource } => {
                    let driver = &self.bridge.driver;
                    let pushed = (driver.push)(self.context as sys::CUcontext);
                    if pushed == sys::CUresult::CUDA_SUCCESS {
                        (driver.unregister)(resource as sys::CUgraphicsResource);
                        (driver.pop)(&mut ptr::null_mut());
                    }
                    if self.mapped.owned && self.entry.0.egl_image() as usize == image {
                        (self.bridge.surface.unmap_egl_image)(surface, index);
                    }
                }
                Source::CudaBuffer { buffer } => {
                    if let Some((_, unmap)) = self.bridge.surface.cuda_buffer
                        && self.mapped.owned
                        && self.entry.0.cuda_buffer() as usize == buffer
                    {
                        unmap(surface, index);
                    }
                }
            }
        }
    }
}

/// Maps an entry by `NvBufSurfaceMapCudaBuffer`, where library and platform have it. A platform that
/// refuses once is not asked again.
///
/// # Safety
/// The surface must be live.
unsafe fn map_cuda_buffer(bridge: &Bridge, entry: Entry) -> Option<MappedEntry> {
    let (map, unmap): (MapFunction, MapFunction) = bridge.surface.cuda_buffer?;
    // SAFETY: the caller gives a live surface.
    unsafe {
        let layout = (&raw const (*entry.params).layout).read_unaligned();
        if layout != LAYOUT_PITCH || bridge.cuda_buffers_refused.load(Ordering::Relaxed) {
            return None;
        }
        let index = entry.index as c_int;
        let owned = entry.cuda_buffer().is_null();
        let mapped = !owned || map(entry.surface, index) == 0;
        let buffer = entry.cuda_buffer();
        if mapped && !buffer.is_null() && !(*buffer).data_pointer.is_null() {
            return Some(MappedEntry {
                source: Source::CudaBuffer {
                    buffer: buffer as usize,
                },
                view: View::Linear {
                    pointer: (*buffer).data_pointer as u64,
                },
                owned,
            });
        }
        if owned && mapped {
            unmap(entry.surface, index);
        }
        bridge.cuda_buffers_refused.store(true, Ordering::Relaxed);
        None
    }
}

/// Maps an entry to an EGL image, unless it is, and registers that with CUDA.
///
/// # Safety
/// The surface must be live and a CUDA context current.
unsafe fn map_egl_image(bridge: &Bridge, entry: Entry) -> Result<MappedEntry, SurfaceArrayError> {
    let index = entry.index as c_int;
    // SAFETY: the caller gives a live surface; the image is registered as long as it is mapped.
    unsafe {
        let owned = entry.egl_image().is_null();
        if owned {
            let result = (bridge.surface.map_egl_image)(entry.surface, index);
            if result != 0 || entry.egl_image().is_null() {
                return Err(SurfaceArrayError::NotMapped(result));
            }
        }
        let image = entry.egl_image();
        let registered = register(bridge, image);
        if registered.is_err() && owned {
            (bridge.surface.unmap_egl_image)(entry.surface, index);
        }
        let (resource, view) = registered?;
        Ok(MappedEntry {
            source: Source::EglImage {
                image: image as usize,
                resource: resource as usize,
            },
            view,
            owned,
        })
    }
}

/// Registers an EGL image with CUDA.
///
/// # Safety
/// The image must be live and a CUDA context current.
unsafe fn register(
    bridge: &Bridge,
    image: *mut c_void,
) -> Result<(sys::CUgraphicsResource, View), SurfaceArrayError> {
    let mut resource = ptr::null_mut();
    // SAFETY: the call writes the resource; flags 0 are CU_GRAPHICS_REGISTER_FLAGS_NONE.
    check("cuGraphicsEGLRegisterImage", unsafe {
        (bridge.driver.egl.register_image)(&mut resource, image, 0)
    })
    .map_err(SurfaceArrayError::NotRegistered)?;
    // SAFETY: registered above.
    unsafe {
        image_view(bridge, resource)
            .map(|view| (resource, view))
            .inspect_err(|_| {
                (bridge.driver.unregister)(resource);
            })
    }
}

/// The planes of a registered image.
///
/// # Safety
/// `resource` must be a registered EGL image.
unsafe fn image_view(
    bridge: &Bridge,
    resource: sys::CUgraphicsResource,
) -> Result<View, SurfaceArrayError> {
    let mut frame = EglFrame::EMPTY;
    // SAFETY: the call fills the frame of a registered image; it has one layer and one level.
    check("cuGraphicsResourceGetMappedEglFrame", unsafe {
        (bridge.driver.egl.mapped_frame)(&mut frame, resource, 0, 0)
    })
    .map_err(SurfaceArrayError::NotRegistered)?;
    let storage = match frame.frame_type {
        EGL_FRAME_PITCH if (1..=3).contains(&frame.plane_count) => DeviceStorage::Pitch,
        EGL_FRAME_ARRAY if (1..=3).contains(&frame.plane_count) => DeviceStorage::BlockLinear,
        frame_type => {
            return Err(SurfaceArrayError::UnknownFrame {
                planes: frame.plane_count,
                frame_type,
            });
        }
    };
    let mut planes = [0; 3];
    for (plane, pointer) in planes
        .iter_mut()
        .zip(frame.planes)
        .take(frame.plane_count as usize)
    {
        *plane = pointer as u64;
    }
    Ok(View::Image {
        storage,
        planes,
        pitch: match storage {
            DeviceStorage::Pitch => frame.pitch as usize,
            DeviceStorage::BlockLinear | DeviceStorage::Texture => 0,
        },
    })
}
