//! CUDA: the driver found at run time, contexts, streams, the kernels.
//!
//! Every call needs a current context, the one that the frames' memory belongs to. Streams are the caller's;
//! nothing here waits for a GPU.

pub mod arena;
pub mod context;
pub mod driver;
pub mod seats;
pub mod staging;
pub mod stream;
mod symbols;

use std::ffi::{CStr, c_void};
use std::sync::{Arc, Mutex, Weak};

use cust::module::Module;
use cust::sys;

use self::context::{Context, InContext};
use crate::lock;

pub use driver::{CudaError, DriverError};

/// `kernels.cu`, compiled by `build-kernels`. Drivers translate it for the GPU at hand and remember the result.
const KERNELS: &str = concat!(include_str!("kernels.ptx"), "\0");

/// A kernel and the threads of its blocks.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    block: [u32; 3],
    function: sys::CUfunction,
}

// SAFETY: a CUfunction may be launched from any thread; it lives as long as its module.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

impl Kernel {
    /// Enqueues the kernel on a stream. `parameters` is its only parameter, and is copied before this returns.
    ///
    /// # Safety
    /// `Parameters` is the struct of the kernel; every address in it is memory of the current context that
    /// lives until the stream has passed the kernel; `stream` belongs to that context.
    pub(crate) unsafe fn launch<Parameters>(
        &self,
        grid: [u32; 3],
        stream: sys::CUstream,
        parameters: &Parameters,
    ) -> Result<(), CudaError> {
        let mut pointers = [std::ptr::from_ref(parameters).cast_mut().cast::<c_void>()];
        let ([x, y, z], [block_x, block_y, block_z]) = (grid, self.block);
        // SAFETY: the caller vouches for parameters and stream; the driver only reads the parameters.
        driver::check("cuLaunchKernel", unsafe {
            sys::cuLaunchKernel(
                self.function,
                x,
                y,
                z,
                block_x,
                block_y,
                block_z,
                0,
                stream,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        })
    }
}

/// The kernels, loaded into one context.
#[derive(Debug)]
pub struct Kernels {
    pub(crate) preprocess: Kernel,
    pub(crate) decode: Kernel,
    pub(crate) suppress: Kernel,
    pub(crate) overlay: Kernel,
    pub(crate) crop: Kernel,
    pub(crate) thumbnail: Kernel,
    _module: Module,
}

/// The kernels of a context, for all who work in it.
pub type SharedKernels = InContext<Kernels>;

impl Kernels {
    /// Those of a context, which are loaded where nobody has them yet.
    pub fn shared(context: &Context) -> Result<Arc<SharedKernels>, CudaError> {
        static LOADED: Mutex<Vec<Weak<SharedKernels>>> = Mutex::new(Vec::new());

        let mut loaded = lock(&LOADED);
        loaded.retain(|kernels| kernels.strong_count() > 0);
        let mut there = loaded.iter().filter_map(Weak::upgrade);
        if let Some(kernels) = there.find(|k| k.context().handle() == context.handle()) {
            return Ok(kernels);
        }
        let kernels = Arc::new(InContext::make(context, Self::load)?);
        loaded.push(Arc::downgrade(&kernels));
        Ok(kernels)
    }

    /// Loads the kernels into the current context. The first time on a machine takes the driver a moment,
    /// as it translates them for the GPU.
    pub fn load() -> Result<Self, CudaError> {
        // Of a text with a zero in it nothing would be left, which the driver refuses.
        let text = CStr::from_bytes_with_nul(KERNELS.as_bytes()).unwrap_or_default();
        let module =
            Module::from_ptx_cstr(text, &[]).map_err(CudaError::during("cuModuleLoadDataEx"))?;
        let kernel = |name: &str, block| {
            let function = module
                .get_function(name)
                .map_err(CudaError::during("cuModuleGetFunction"))?
                .to_raw();
            Ok(Kernel { block, function })
        };
        Ok(Self {
            preprocess: kernel("preprocess", [32, 8, 1])?,
            decode: kernel("decode", [256, 1, 1])?,
            suppress: kernel("suppress", [512, 1, 1])?,
            overlay: kernel("overlay", [256, 1, 1])?,
            crop: kernel("crop", [256, 1, 1])?,
            thumbnail: kernel("thumbnail", [256, 1, 1])?,
            _module: module,
        })
    }
}
