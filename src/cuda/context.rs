//! CUDA contexts and the GPUs that they are on.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use cust::sys;

use super::driver::{self, CudaError, DriverError, check};

/// Why there is no context to work in.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum ContextError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error("there is no GPU {gpu_id}: this machine has {gpus}, counted from 0")]
    NoSuchGpu { gpu_id: u32, gpus: i32 },
}

/// What keeps the context alive.
#[derive(Clone)]
enum Owner {
    /// The device's primary context, retained.
    Primary(#[expect(dead_code, reason = "held for its drop")] Arc<Primary>),
    /// A context of somebody else's, with what keeps it alive.
    Foreign(#[expect(dead_code, reason = "held for its drop")] Arc<dyn Send + Sync>),
}

struct Primary(sys::CUdevice);

impl Drop for Primary {
    fn drop(&mut self) {
        // SAFETY: this releases the one reference that `Context::primary` took.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.0) };
    }
}

/// A context that lives as long as this value and its clones.
#[derive(Clone)]
pub struct Context {
    handle: sys::CUcontext,
    device: sys::CUdevice,
    _owner: Owner,
}

// SAFETY: a context belongs to no thread; each thread that uses it makes it current first.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// The context that the CUDA runtime, TensorRT and DeepStream use on this GPU.
    pub fn primary(gpu_id: u32) -> Result<Self, ContextError> {
        let gpus = gpus()? as i32;
        let mut device = 0;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the driver is initialised, and every call writes to the variable it is given.
        unsafe {
            let index = i32::try_from(gpu_id).unwrap_or(i32::MAX);
            if index >= gpus {
                return Err(ContextError::NoSuchGpu { gpu_id, gpus });
            }
            check("cuDeviceGet", sys::cuDeviceGet(&mut device, index))?;
            check(
                "cuDevicePrimaryCtxRetain",
                sys::cuDevicePrimaryCtxRetain(&mut handle, device),
            )?;
        }
        let _owner = Owner::Primary(Arc::new(Primary(device)));
        Ok(Self {
            handle,
            device,
            _owner,
        })
    }

    /// A context that `owner` keeps alive.
    ///
    /// # Safety
    /// `handle` is a `CUcontext` that is valid as long as `owner` lives.
    pub unsafe fn foreign(
        handle: *mut c_void,
        owner: Arc<dyn Send + Sync>,
    ) -> Result<Self, ContextError> {
        driver::load()?;
        let mut context = Self {
            handle: handle.cast(),
            device: 0,
            _owner: Owner::Foreign(owner),
        };
        let mut device = 0;
        {
            let _current = context.enter()?;
            // SAFETY: the context is current, and the call writes to the variable.
            check("cuCtxGetDevice", unsafe {
                sys::cuCtxGetDevice(&mut device)
            })?;
        }
        context.device = device;
        Ok(context)
    }

    /// The `CUcontext`.
    pub fn handle(&self) -> *mut c_void {
        self.handle.cast()
    }

    /// The `CUdevice`.
    pub fn device(&self) -> i32 {
        self.device
    }

    /// Makes the context current on this thread until the returned value is dropped.
    pub fn enter(&self) -> Result<Current, CudaError> {
        // SAFETY: the context lives as long as `self`.
        check("cuCtxPushCurrent", unsafe {
            sys::cuCtxPushCurrent_v2(self.handle)
        })?;
        Ok(Current(PhantomData))
    }

    /// The GPU's name, such as `NVIDIA H100 80GB HBM3`.
    pub fn gpu_name(&self) -> Result<String, CudaError> {
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: the call writes at most so many bytes, the last of them zero.
        check("cuDeviceGetName", unsafe {
            sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, self.device)
        })?;
        // SAFETY: as above.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }
            .to_string_lossy()
            .into_owned())
    }

    /// Major and minor number of the GPU's compute capability.
    pub fn compute_capability(&self) -> Result<(u32, u32), CudaError> {
        use sys::CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
        };
        let number = |attribute| {
            let mut value = 0;
            // SAFETY: the call writes to the variable.
            check("cuDeviceGetAttribute", unsafe {
                sys::cuDeviceGetAttribute(&mut value, attribute, self.device)
            })?;
            Ok(value as u32)
        };
        Ok((number(MAJOR)?, number(MINOR)?))
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("handle", &self.handle)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

/// A context that is current on this thread as long as this value lives.
#[must_use = "the context is current only as long as this value lives"]
pub struct Current(PhantomData<*mut c_void>);

impl Current {
    /// Whether the context is good for work: after some errors of kernels all that is asked of it is refused.
    pub fn check(&self) -> Result<(), CudaError> {
        match memory() {
            Err(error) if error.is_final() => Err(error),
            _ => Ok(()),
        }
    }
}

/// Memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub free: usize,
    pub total: usize,
}

/// The memory of the current context's GPU.
pub fn memory() -> Result<Memory, CudaError> {
    let (mut free, mut total) = (0, 0);
    // SAFETY: the call writes to the variables.
    check("cuMemGetInfo", unsafe {
        sys::cuMemGetInfo_v2(&mut free, &mut total)
    })?;
    Ok(Memory { free, total })
}

impl Drop for Current {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pushed on this thread, which this value cannot leave.
        unsafe { sys::cuCtxPopCurrent_v2(&mut popped) };
    }
}

/// What lies on a GPU, freed while its context is current.
#[derive(Debug)]
pub struct InContext<T> {
    value: ManuallyDrop<T>,
    context: Context,
}

impl<T> InContext<T> {
    /// Has a value made while the context is current.
    pub fn make<E: From<CudaError>>(
        context: &Context,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Self, E> {
        let _current = context.enter()?;
        Ok(Self {
            value: ManuallyDrop::new(make()?),
            context: context.clone(),
        })
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Makes the context current for work with the value.
    pub fn enter(&mut self) -> Result<(Current, &mut T), CudaError> {
        Ok((self.context.enter()?, &mut self.value))
    }
}

/// For what needs no current context.
impl<T> Deref for InContext<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Drop for InContext<T> {
    fn drop(&mut self) {
        // Without its context, there is no memory left to free, and the driver only returns errors.
        let _current = self.context.enter();
        // SAFETY: the value is not used again.
        unsafe { ManuallyDrop::drop(&mut self.value) };
    }
}

/// How many GPUs this process sees.
pub fn gpus() -> Result<u32, ContextError> {
    driver::load()?;
    let mut gpus = 0;
    // SAFETY: the driver is initialised, and the call writes to the variable.
    check("cuDeviceGetCount", unsafe {
        sys::cuDeviceGetCount(&mut gpus)
    })?;
    Ok(gpus.unsigned_abs())
}

/// The version of the NVIDIA driver, as a text that changes with it.
pub fn driver_version() -> String {
    let exact = ["/sys/module/nvidia/version", "/proc/driver/nvidia/version"];
    exact
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .unwrap_or_else(|| match driver::load() {
            Ok(driver) => format!("CUDA {:?}", driver.cuda_version()),
            Err(error) => error.to_string(),
        })
}
