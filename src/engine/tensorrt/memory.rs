//! Memory of the GPU around TensorRT, which is told nothing of why there is none and does not always bear it.

use cust::memory::DeviceBuffer;

use crate::cuda::CudaError;
use crate::cuda::context::memory;

/// With less than this, it is the likely cause of what went wrong.
const LITTLE: usize = 256 << 20;

/// Whether the current GPU has so much memory: it is taken and given back. What some systems call free is less than
/// what they have.
pub(super) fn need(bytes: usize) -> Result<(), String> {
    // SAFETY: nobody reads it.
    let taken = unsafe { DeviceBuffer::<u8>::uninitialized(bytes) };
    let taken = taken.map_err(CudaError::during("cuMemAlloc"));
    taken.map(drop).map_err(|error| error.to_string())
}

/// What CUDA has to say when TensorRT fails, as the end of a sentence: nothing, an error of its own, or that memory is
/// short. The context is current.
pub(super) fn remark() -> String {
    match memory() {
        Ok(memory) if memory.free < LITTLE => {
            format!(
                "; only {} MiB of the GPU's memory are free",
                memory.free >> 20
            )
        }
        Err(error) if error.is_final() => format!("; {error}"),
        _ => String::new(),
    }
}
