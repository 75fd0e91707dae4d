//! The few calls of the CUDA driver that a test needs to give an engine memory and a stream.

use std::ffi::{CStr, c_char, c_void};

use libloading::{Library, Symbol};

/// The primary context of the first GPU, current on the thread that opened it, and one stream.
pub struct Gpu {
    driver: Library,
    device: i32,
    stream: *mut c_void,
}

/// Device memory; freed with the process.
pub struct Buffer {
    address: u64,
    size: usize,
}

impl Buffer {
    pub fn address(&self) -> u64 {
        self.address
    }
}

/// Calls a driver function of these parameter types and checks that it returns CUDA_SUCCESS.
macro_rules! call {
    ($driver:expr, $name:ident($($value:expr => $type:ty),* $(,)?)) => {{
        // SAFETY: the types are those of cuda.h, and every pointer is valid for the call.
        let status = unsafe {
            let function: Symbol<'_, unsafe extern "C" fn($($type),*) -> i32> =
                $driver.get(stringify!($name)).unwrap();
            function($($value),*)
        };
        assert_eq!(status, 0, stringify!($name));
    }};
}

impl Gpu {
    pub fn open() -> Self {
        // SAFETY: the driver may be opened on any thread.
        let driver = unsafe { Library::new("libcuda.so.1") }.unwrap();
        let (mut device, mut context, mut stream) = (0, std::ptr::null_mut(), std::ptr::null_mut());
        call!(driver, cuInit(0 => u32));
        call!(driver, cuDeviceGet(&mut device => *mut i32, 0 => i32));
        call!(driver, cuDevicePrimaryCtxRetain(&mut context => *mut *mut c_void, device => i32));
        call!(driver, cuCtxSetCurrent(context => *mut c_void));
        call!(driver, cuStreamCreate(&mut stream => *mut *mut c_void, 1 => u32));
        Self {
            driver,
            device,
            stream,
        }
    }

    pub fn name(&self) -> String {
        let mut name = [0 as c_char; 256];
        call!(
            self.driver,
            cuDeviceGetName(name.as_mut_ptr() => *mut c_char, 256 => i32, self.device => i32)
        );
        // SAFETY: the driver ends the name with a null byte.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        name.to_str().unwrap().to_owned()
    }

    /// Major and minor: attributes 75 and 76 of cuda.h.
    pub fn compute_capability(&self) -> (u32, u32) {
        let attribute = |number: i32| {
            let mut value = 0_i32;
            call!(
                self.driver,
                cuDeviceGetAttribute(&mut value => *mut i32, number => i32, self.device => i32)
            );
            value.unsigned_abs()
        };
        (attribute(75), attribute(76))
    }

    pub fn driver_version(&self) -> i32 {
        let mut version = 0;
        call!(self.driver, cuDriverGetVersion(&mut version => *mut i32));
        version
    }

    pub fn stream(&self) -> *mut c_void {
        self.stream
    }

    pub fn synchronize(&self) {
        call!(self.driver, cuStreamSynchronize(self.stream => *mut c_void));
    }

    pub fn allocate(&self, size: usize) -> Buffer {
        let mut address = 0_u64;
        call!(self.driver, cuMemAlloc_v2(&mut address => *mut u64, size => usize));
        Buffer { address, size }
    }

    pub fn upload(&self, buffer: &Buffer, values: &[f32]) {
        let size = size_of_val(values);
        assert!(size <= buffer.size);
        call!(
            self.driver,
            cuMemcpyHtoD_v2(buffer.address => u64, values.as_ptr() => *const f32, size => usize)
        );
    }

    pub fn download(&self, buffer: &Buffer, count: usize) -> Vec<f32> {
        let mut values = vec![0.0_f32; count];
        let size = size_of_val(&values[..]);
        assert!(size <= buffer.size);
        call!(
            self.driver,
            cuMemcpyDtoH_v2(values.as_mut_ptr() => *mut f32, buffer.address => u64, size => usize)
        );
        values
    }
}
