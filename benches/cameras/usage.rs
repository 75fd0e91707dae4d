//! What the GPU does meanwhile, by NVML where there is one.

use std::ffi::{c_int, c_uint, c_void};

use libloading::Library;

/// `nvmlUtilization_t` (nvml.h).
#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlMemory_t` (nvml.h), in bytes.
#[repr(C)]
#[derive(Default)]
struct Memory {
    total: u64,
    free: u64,
    used: u64,
}

type Device = *mut c_void;

/// The first GPU that this process sees, as NVML sees it.
pub struct Gpu {
    device: Device,
    utilization: unsafe extern "C" fn(Device, *mut Utilization) -> c_int,
    decoder_utilization: unsafe extern "C" fn(Device, *mut c_uint, *mut c_uint) -> c_int,
    memory_info: unsafe extern "C" fn(Device, *mut Memory) -> c_int,
    _library: Library,
}

/// One look at the GPU: percent of the time in which it computed, and in which it decoded.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub compute: f64,
    pub decoder: f64,
}

/// NVML has all GPUs, whatever `CUDA_VISIBLE_DEVICES` says.
fn first_gpu() -> c_uint {
    let visible = std::env::var("CUDA_VISIBLE_DEVICES").unwrap_or_default();
    let first = visible.split(',').next().unwrap_or_default();
    first.trim().parse().unwrap_or(0)
}

impl Gpu {
    /// None where there is no GPU, or no NVML.
    pub fn open() -> Option<Self> {
        // SAFETY: names and signatures are those of nvml.h; the library initialises nothing but itself.
        unsafe {
            let library = Library::new("libnvidia-ml.so.1").ok()?;
            let init = library
                .get::<unsafe extern "C" fn() -> c_int>(b"nvmlInit_v2")
                .ok()?;
            if init() != 0 {
                return None;
            }
            let by_index = library
                .get::<unsafe extern "C" fn(c_uint, *mut Device) -> c_int>(
                    b"nvmlDeviceGetHandleByIndex_v2",
                )
                .ok()?;
            let mut device = std::ptr::null_mut();
            if by_index(first_gpu(), &mut device) != 0 {
                return None;
            }
            Some(Self {
                device,
                utilization: *library.get(b"nvmlDeviceGetUtilizationRates").ok()?,
                decoder_utilization: *library.get(b"nvmlDeviceGetDecoderUtilization").ok()?,
                memory_info: *library.get(b"nvmlDeviceGetMemoryInfo").ok()?,
                _library: library,
            })
        }
    }

    pub fn load(&self) -> Option<Load> {
        let (mut rates, mut decoder, mut period) = (Utilization::default(), 0, 0);
        // SAFETY: the device is NVML's, and the calls fill what they are given.
        let done = unsafe {
            (self.utilization)(self.device, &mut rates) == 0
                && (self.decoder_utilization)(self.device, &mut decoder, &mut period) == 0
        };
        done.then(|| Load {
            compute: f64::from(rates.gpu),
            decoder: f64::from(decoder),
        })
    }

    /// Memory in use, of all processes, in MiB.
    pub fn memory(&self) -> Option<f64> {
        let mut memory = Memory::default();
        // SAFETY: the device is NVML's, and the call fills what it is given.
        let done = unsafe { (self.memory_info)(self.device, &mut memory) } == 0;
        done.then(|| memory.used as f64 / f64::from(1 << 20))
    }
}
