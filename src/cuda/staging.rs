//! Bytes that a GPU and the host both hold, on their way from one to the other.

use std::ffi::c_void;

use cust::memory::{DeviceBuffer, LockedBuffer};
use cust::sys::{self, CUstream};

use super::driver::{CudaError, check};

/// Pinned memory, and as much on the GPU.
#[derive(Debug)]
pub struct Staging {
    pub host: LockedBuffer<u8>,
    device: DeviceBuffer<u8>,
}

impl Staging {
    /// In the current context; what the GPU's side holds is anything.
    pub fn new(bytes: usize) -> Result<Self, CudaError> {
        let host = LockedBuffer::new(&0, bytes).map_err(CudaError::during("cuMemAllocHost"))?;
        // SAFETY: whoever reads the GPU's side has copied or written there before.
        let device = unsafe { DeviceBuffer::uninitialized(bytes) };
        let device = device.map_err(CudaError::during("cuMemAlloc"))?;
        Ok(Self { host, device })
    }

    /// Bytes on each side.
    pub fn size(&self) -> usize {
        self.host.len()
    }

    /// Where the bytes lie on the GPU.
    pub fn address(&self) -> u64 {
        self.device.as_device_ptr().as_raw()
    }

    /// Enqueues the way of the first `bytes` bytes to the GPU.
    ///
    /// # Safety
    /// The current context is that of the memory and the stream. Until the stream has passed the copy, this lives and
    /// its host side does not change. There are as many bytes.
    pub unsafe fn upload(&self, bytes: usize, stream: CUstream) -> Result<(), CudaError> {
        // SAFETY: the caller vouches for stream, memory and size.
        check("cuMemcpyHtoDAsync", unsafe {
            sys::cuMemcpyHtoDAsync_v2(
                self.address(),
                self.host.as_ptr().cast::<c_void>(),
                bytes,
                stream,
            )
        })
    }

    /// Enqueues the way of the first `bytes` bytes to the host.
    ///
    /// # Safety
    /// As for [`Staging::upload`], and nobody reads the host side meanwhile.
    pub unsafe fn download(&mut self, bytes: usize, stream: CUstream) -> Result<(), CudaError> {
        // SAFETY: as above.
        check("cuMemcpyDtoHAsync", unsafe {
            sys::cuMemcpyDtoHAsync_v2(
                self.host.as_mut_ptr().cast::<c_void>(),
                self.address(),
                bytes,
                stream,
            )
        })
    }
}
