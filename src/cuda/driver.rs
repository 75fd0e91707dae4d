//! The CUDA driver, found when the program runs instead of when it is linked.
//!
//! The crates `cust` and `cust_raw` call the driver's functions as if linked with libcuda. Here each of those
//! functions is a jump through a table. [`load`] fills the table from the libcuda of the machine; until then,
//! and for functions that an older driver lacks, the jump lands on a function that returns an error code.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicBool, Ordering};

use cust::sys;
use libloading::os::unix::Library;
use once_cell::sync::OnceCell;

use super::symbols::{NAMES, TABLE};

/// The names that libcuda has: the file of the driver, and the link that some containers have alone.
const LIBRARY_NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

/// Defines each named function as a jump through its entry of a table, and the table.
macro_rules! trampolines {
    ($($name:ident,)*) => {
        #[allow(non_camel_case_types)]
        enum Index { $($name),* }

        /// In the order of [`TABLE`].
        pub(super) static NAMES: &[&str] = &[$(stringify!($name)),*];

        const COUNT: usize = [$(stringify!($name)),*].len();

        /// Where each function lies.
        pub(super) static TABLE: [std::sync::atomic::AtomicPtr<std::ffi::c_void>; COUNT] =
            [const {
                std::sync::atomic::AtomicPtr::new(
                    $crate::cuda::driver::unavailable as *mut std::ffi::c_void,
                )
            }; COUNT];

        $($crate::cuda::driver::trampoline!($name, Index::$name as usize * size_of::<usize>());)*
    };
}
pub(super) use trampolines;

/// A hidden function that jumps to the address at `$offset` bytes in the table, all arguments as they are.
#[cfg(target_arch = "x86_64")]
macro_rules! trampoline {
    ($name:ident, $offset:expr) => {
        std::arch::global_asm!(
            concat!(".text\n.globl ", stringify!($name)),
            concat!(".hidden ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ":"),
            "jmp qword ptr [rip + {table} + {offset}]",
            table = sym TABLE,
            offset = const $offset,
        );
    };
}

/// A hidden function that jumps to the address at `$offset` bytes in the table, all arguments as they are.
/// x16 is the register that the procedure call standard of Arm leaves to such jumps.
#[cfg(target_arch = "aarch64")]
macro_rules! trampoline {
    ($name:ident, $offset:expr) => {
        std::arch::global_asm!(
            concat!(".text\n.p2align 2\n.globl ", stringify!($name)),
            concat!(".hidden ", stringify!($name)),
            concat!(".type ", stringify!($name), ",@function"),
            concat!(stringify!($name), ":"),
            "adrp x16, {table} + {offset}",
            "ldr x16, [x16, :lo12:{table} + {offset}]",
            "br x16",
            table = sym TABLE,
            offset = const $offset,
        );
    };
}
pub(super) use trampoline;

/// What a function does that the driver has not, or not yet.
pub(super) extern "C" fn unavailable() -> c_int {
    sys::CUresult::CUDA_ERROR_NOT_INITIALIZED as c_int
}

/// Why there is no CUDA on this machine.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DriverError {
    #[error("no NVIDIA driver was found: {0}")]
    NotFound(String),
    #[error("{0} is no CUDA driver: it lacks the function {1}")]
    NotADriver(&'static str, &'static str),
    #[error("the NVIDIA driver cannot be used: {0}")]
    Unusable(CudaError),
}

/// A call of the CUDA driver that failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{operation} failed with {name} ({code}): {description}{}", advice(*code))]
pub struct CudaError {
    /// What was tried, as the name of the driver's function.
    pub operation: &'static str,
    pub code: u32,
    /// As `cuGetErrorName` says.
    pub name: String,
    /// As `cuGetErrorString` says.
    pub description: String,
}

/// Set by the first error after which CUDA works no more in this process.
static LOST: AtomicBool = AtomicBool::new(false);

/// Whether CUDA works no more in this process. What it held is gone, and is not to be freed.
pub fn is_lost() -> bool {
    LOST.load(Ordering::Acquire)
}

/// Errors of the GPU after which all further work of the process fails alike: an uncorrectable error of its memory, and
/// kernels that went wrong. Of these cuda.h says that the process must be terminated and relaunched.
fn is_final(code: u32) -> bool {
    matches!(code, 214 | 700 | 702 | 710 | 714..=719 | 721)
}

/// What to do about an error, as the end of its sentence.
fn advice(code: u32) -> &'static str {
    match code {
        OUT_OF_MEMORY => {
            "; free memory of the GPU, or use fewer models, a smaller one or a smaller batch-size"
        }
        code if is_final(code) => {
            "; after this error CUDA works no more in this process, which has to be started again"
        }
        _ => "",
    }
}

/// `CUDA_ERROR_OUT_OF_MEMORY`
const OUT_OF_MEMORY: u32 = 2;

impl CudaError {
    /// The error of a code other than `CUDA_SUCCESS`.
    pub fn new(operation: &'static str, result: sys::CUresult) -> Self {
        if is_final(result as u32) {
            LOST.store(true, Ordering::Release);
        }
        let text = |lookup: unsafe extern "C" fn(sys::CUresult, *mut *const c_char) -> _| {
            let mut text = std::ptr::null();
            // SAFETY: the functions write the address of a text that lives as long as the driver, or null.
            let known = unsafe { lookup(result, &mut text) } == sys::CUresult::CUDA_SUCCESS;
            // SAFETY: as above; the text ends with a zero.
            (known && !text.is_null()).then(|| {
                unsafe { CStr::from_ptr(text) }
                    .to_string_lossy()
                    .into_owned()
            })
        };
        Self {
            operation,
            code: result as u32,
            name: text(sys::cuGetErrorName).unwrap_or_else(|| format!("{result:?}")),
            description: text(sys::cuGetErrorString)
                .unwrap_or_else(|| "the driver has no description".into()),
        }
    }

    /// Whether CUDA works no more in this process.
    pub fn is_final(&self) -> bool {
        is_final(self.code)
    }

    /// Whether the GPU has no more memory.
    pub fn is_out_of_memory(&self) -> bool {
        self.code == OUT_OF_MEMORY
    }

    /// Names the driver's function in which `cust` met an error: `.map_err(CudaError::during("cuMemAlloc"))`.
    pub fn during(operation: &'static str) -> impl FnOnce(cust::error::CudaError) -> Self {
        move |error| match error as u32 {
            // SAFETY: up to here cust's errors are the driver's codes under other names.
            code @ 1..=999 => Self::new(operation, unsafe {
                std::mem::transmute::<u32, sys::CUresult>(code)
            }),
            code => Self {
                operation,
                code,
                name: format!("{error:?}"),
                description: "the request is not possible".into(),
            },
        }
    }
}

/// A result code of the driver as a `Result`.
pub fn check(operation: &'static str, result: sys::CUresult) -> Result<(), CudaError> {
    match result {
        sys::CUresult::CUDA_SUCCESS => Ok(()),
        failure => Err(CudaError::new(operation, failure)),
    }
}

/// `CU_EGL_FRAME_TYPE_ARRAY` and `CU_EGL_FRAME_TYPE_PITCH` of cudaEGL.h.
pub const EGL_FRAME_ARRAY: c_uint = 0;
pub const EGL_FRAME_PITCH: c_uint = 1;

/// An EGL image as CUDA sees it: `CUeglFrame` of cudaEGL.h.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EglFrame {
    /// `CUarray` or device address of each plane, by `frame_type`.
    pub planes: [*mut c_void; 3],
    pub width: c_uint,
    pub height: c_uint,
    pub depth: c_uint,
    /// Of the first plane, in bytes; only for pitch-linear frames.
    pub pitch: c_uint,
    pub plane_count: c_uint,
    pub channels: c_uint,
    /// [`EGL_FRAME_ARRAY`] or [`EGL_FRAME_PITCH`].
    pub frame_type: c_uint,
    /// `CUeglColorFormat`.
    pub color_format: c_uint,
    /// `CUarray_format`.
    pub array_format: c_uint,
}

const _: () = assert!(size_of::<EglFrame>() == 64);
const _: () = assert!(std::mem::offset_of!(EglFrame, frame_type) == 48);

impl EglFrame {
    /// One for the driver to fill.
    pub const EMPTY: Self = Self {
        planes: [std::ptr::null_mut(); 3],
        width: 0,
        height: 0,
        depth: 0,
        pitch: 0,
        plane_count: 0,
        channels: 0,
        frame_type: 0,
        color_format: 0,
        array_format: 0,
    };
}

/// The functions of cudaEGL.h, which only drivers with EGL have. A registered image is let go with
/// `cuGraphicsUnregisterResource`.
#[derive(Clone, Copy)]
pub struct EglInterop {
    /// `cuGraphicsEGLRegisterImage(resource, EGLImageKHR, flags)`
    pub register_image:
        unsafe extern "C" fn(*mut sys::CUgraphicsResource, *mut c_void, c_uint) -> sys::CUresult,
    /// `cuGraphicsResourceGetMappedEglFrame(frame, resource, index, mip_level)`
    pub mapped_frame: unsafe extern "C" fn(
        *mut EglFrame,
        sys::CUgraphicsResource,
        c_uint,
        c_uint,
    ) -> sys::CUresult,
}

/// The driver of this machine, loaded and initialised for the life of the process.
pub struct Driver {
    library: Library,
    version: i32,
}

impl Driver {
    /// The newest CUDA that the driver supports, as major and minor number.
    pub fn cuda_version(&self) -> (i32, i32) {
        (self.version / 1000, self.version % 1000 / 10)
    }

    /// A function that not every driver has, and that `cust_raw` does not declare.
    ///
    /// # Safety
    /// `Function` is a function pointer with the signature that the driver's function has.
    pub unsafe fn function<Function: Copy>(&self, name: &str) -> Option<Function> {
        // SAFETY: the caller vouches for the type; the library is never closed.
        unsafe { self.library.get::<Function>(name.as_bytes()) }
            .ok()
            .map(|symbol| *symbol)
    }

    /// How frames that lie in EGL images (`NvBufSurface` on Jetson) become CUDA's, if this driver knows.
    pub fn egl_interop(&self) -> Option<EglInterop> {
        // SAFETY: the signatures are those of cudaEGL.h.
        unsafe {
            Some(EglInterop {
                register_image: self.function("cuGraphicsEGLRegisterImage")?,
                mapped_frame: self.function("cuGraphicsResourceGetMappedEglFrame")?,
            })
        }
    }
}

/// The driver of this machine. The first call loads and initialises it; its outcome holds for the process.
pub fn load() -> Result<&'static Driver, DriverError> {
    static DRIVER: OnceCell<Result<Driver, DriverError>> = OnceCell::new();
    DRIVER.get_or_init(open).as_ref().map_err(Clone::clone)
}

fn open() -> Result<Driver, DriverError> {
    let (name, library) = open_library()?;
    fill(&library);
    for required in ["cuInit", "cuDriverGetVersion"] {
        // SAFETY: the symbol is only looked up.
        if unsafe { library.get::<*const c_void>(required.as_bytes()) }.is_err() {
            return Err(DriverError::NotADriver(name, required));
        }
    }
    let mut version = 0;
    // SAFETY: the functions have the signatures of cuda.h, and `version` outlives the call.
    unsafe {
        check("cuInit", sys::cuInit(0))
            .and_then(|()| check("cuDriverGetVersion", sys::cuDriverGetVersion(&mut version)))
            .map_err(DriverError::Unusable)?;
    }
    Ok(Driver { library, version })
}

fn open_library() -> Result<(&'static str, Library), DriverError> {
    let mut reason = String::new();
    for name in LIBRARY_NAMES {
        // SAFETY: the driver's initialisers are made to run in any process.
        match unsafe { Library::new(name) } {
            Ok(library) => return Ok((name, library)),
            Err(error) if reason.is_empty() => {
                reason = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
            }
            Err(_) => {}
        }
    }
    Err(DriverError::NotFound(reason))
}

/// Points the jumps at the functions that the library has.
fn fill(library: &Library) {
    for (name, entry) in NAMES.iter().zip(&TABLE) {
        // SAFETY: the symbol is only looked up, and its address kept; the library is never closed.
        if let Ok(symbol) = unsafe { library.get::<*mut c_void>(name.as_bytes()) } {
            entry.store(symbol.into_raw().cast(), Ordering::Release);
        }
    }
}
