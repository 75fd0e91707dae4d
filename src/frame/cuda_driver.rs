//! The few calls of the CUDA driver that borrowing a frame needs, looked up in libcuda at run time.

pub use crate::cuda::driver::EglFrame;
use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;

use super::dynamic_library::DynamicLibrary;

/// `CUresult`; 0 is success.
pub type CudaResult = c_int;

const _: () = assert!(size_of::<EglFrame>() == 64);
const _: () = assert!(std::mem::offset_of!(EglFrame, frame_type) == 48);

/// `CU_EGL_FRAME_TYPE_ARRAY` and `CU_EGL_FRAME_TYPE_PITCH`.
pub const EGL_FRAME_ARRAY: c_uint = 0;
pub const EGL_FRAME_PITCH: c_uint = 1;

impl Default for EglFrame {
    fn default() -> Self {
        Self {
            planes: [ptr::null_mut(); 3],
            width: 0,
            height: 0,
            depth: 0,
            pitch: 0,
            plane_count: 0,
            channels: 0,
            frame_type: 0,
            color_format: 0,
            array_format: 0,
        }
    }
}

/// Contexts of the driver.
#[derive(Clone, Copy)]
pub struct ContextFunctions {
    pub get_current: unsafe extern "C" fn(*mut *mut c_void) -> CudaResult,
    pub push: unsafe extern "C" fn(*mut c_void) -> CudaResult,
    pub pop: unsafe extern "C" fn(*mut *mut c_void) -> CudaResult,
}

/// EGL images in CUDA, as Jetson's surfaces reach it.
#[derive(Clone, Copy)]
pub struct EglFunctions {
    pub register: unsafe extern "C" fn(*mut *mut c_void, *mut c_void, c_uint) -> CudaResult,
    pub mapped_frame:
        unsafe extern "C" fn(*mut EglFrame, *mut c_void, c_uint, c_uint) -> CudaResult,
    pub unregister: unsafe extern "C" fn(*mut c_void) -> CudaResult,
}

/// The loaded and initialised driver.
pub struct CudaDriver {
    device_get: unsafe extern "C" fn(*mut c_int, c_int) -> CudaResult,
    primary_context_retain: unsafe extern "C" fn(*mut *mut c_void, c_int) -> CudaResult,
    pub context: ContextFunctions,
    pub egl: EglFunctions,
    _library: DynamicLibrary,
}

/// Why the driver cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CudaDriverError {
    #[error("no NVIDIA driver was found ({0})")]
    Missing(String),
    #[error("the NVIDIA driver has no {symbol}: it is too old")]
    Incomplete { symbol: &'static str },
    #[error("the NVIDIA driver finds no usable GPU (cuInit returned CUDA error {0})")]
    NoDevice(CudaResult),
    #[error("there is no GPU with gpu-id {gpu_id} (CUDA error {result})")]
    UnknownDevice { gpu_id: u32, result: CudaResult },
    #[error("the CUDA context of GPU {gpu_id} cannot be had (CUDA error {result})")]
    NoContext { gpu_id: u32, result: CudaResult },
}

impl CudaDriver {
    /// The driver of this machine, loaded on first use.
    pub fn get() -> Result<&'static Self, CudaDriverError> {
        static DRIVER: OnceLock<Result<CudaDriver, CudaDriverError>> = OnceLock::new();
        DRIVER
            .get_or_init(|| Self::open("libcuda.so.1"))
            .as_ref()
            .map_err(Clone::clone)
    }

    fn open(name: &str) -> Result<Self, CudaDriverError> {
        let library = DynamicLibrary::open(name).map_err(CudaDriverError::Missing)?;
        // SAFETY: names and signatures are those of cuda.h and cudaEGL.h; `cu…_v2` is what cuda.h
        // makes of the plain names since CUDA 4.
        let driver = unsafe {
            let init: unsafe extern "C" fn(c_uint) -> CudaResult = symbol(&library, "cuInit")?;
            let driver = Self {
                device_get: symbol(&library, "cuDeviceGet")?,
                primary_context_retain: symbol(&library, "cuDevicePrimaryCtxRetain")?,
                context: ContextFunctions {
                    get_current: symbol(&library, "cuCtxGetCurrent")?,
                    push: symbol(&library, "cuCtxPushCurrent_v2")?,
                    pop: symbol(&library, "cuCtxPopCurrent_v2")?,
                },
                egl: EglFunctions {
                    register: symbol(&library, "cuGraphicsEGLRegisterImage")?,
                    mapped_frame: symbol(&library, "cuGraphicsResourceGetMappedEglFrame")?,
                    unregister: symbol(&library, "cuGraphicsUnregisterResource")?,
                },
                _library: library,
            };
            match init(0) {
                0 => driver,
                result => return Err(CudaDriverError::NoDevice(result)),
            }
        };
        Ok(driver)
    }

    /// `CUdevice` and `CUcontext` of the device's primary context, the one that the CUDA runtime, TensorRT
    /// and DeepStream use. It is retained for the life of the process.
    pub fn primary_context(&self, gpu_id: u32) -> Result<(c_int, *mut c_void), CudaDriverError> {
        let (mut device, mut context) = (0, ptr::null_mut());
        let ordinal = c_int::try_from(gpu_id).unwrap_or(c_int::MAX);
        // SAFETY: both calls write one value to the place they are given.
        match unsafe { (self.device_get)(&mut device, ordinal) } {
            0 => (),
            result => return Err(CudaDriverError::UnknownDevice { gpu_id, result }),
        }
        // SAFETY: as above; the device is one that the driver just named.
        match unsafe { (self.primary_context_retain)(&mut context, device) } {
            0 => Ok((device, context)),
            result => Err(CudaDriverError::NoContext { gpu_id, result }),
        }
    }
}

/// # Safety
/// `T` must be the type of the function of that name.
unsafe fn symbol<T: Copy>(
    library: &DynamicLibrary,
    symbol: &'static str,
) -> Result<T, CudaDriverError> {
    // SAFETY: the caller vouches for the type.
    unsafe { library.function(symbol) }.ok_or(CudaDriverError::Incomplete { symbol })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_driver_is_one_clear_sentence() {
        let error = CudaDriver::open("libcuda-that-is-not-there.so.1")
            .err()
            .unwrap();
        assert!(
            error
                .to_string()
                .starts_with("no NVIDIA driver was found (libcuda-that-is-not-there.so.1"),
            "{error}"
        );
    }

    #[test]
    fn a_library_that_is_no_driver_is_told_by_what_it_lacks() {
        assert_eq!(
            CudaDriver::open("libc.so.6").err().unwrap().to_string(),
            "the NVIDIA driver has no cuInit: it is too old"
        );
    }
}
