//! Memory of a GPU that grows and never moves, for work that takes turns in it.

use cust::memory::DeviceBuffer;
use cust::sys;

use super::CudaError;
use super::context::{Context, memory};
use super::driver::check;
use super::stream::finish_default_stream;

/// What every part of an arena is aligned to: more than any GPU asks for.
pub const ALIGNMENT: usize = 512;

/// What was handed out stays where it is: CUDA graphs have addresses in them. A context must be current whenever an
/// arena is used, and when it goes.
#[derive(Debug)]
pub struct Arena {
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    Range(Range),
    /// Of drivers that cannot put memory behind addresses: each is larger than those before it, which are still used.
    Blocks(Vec<DeviceBuffer<u8>>),
}

impl Arena {
    /// An empty one on the GPU of `context`.
    pub fn new(context: &Context) -> Self {
        let memory = match Range::reserve(context.device()) {
            Ok(range) => Memory::Range(range),
            Err(_) => Memory::Blocks(Vec::new()),
        };
        Self { memory }
    }

    /// The address of at least so many bytes, aligned to [`ALIGNMENT`], which are zero where nobody has written yet.
    /// All who ask get the same bytes; where the driver cannot do that, all but those who asked for fewer before.
    pub fn at_least(&mut self, bytes: usize) -> Result<u64, CudaError> {
        match &mut self.memory {
            Memory::Range(range) => match range.at_least(bytes) {
                Err(error) if range.pieces.is_empty() && !error.is_out_of_memory() => {
                    self.memory = Memory::Blocks(Vec::new());
                    self.at_least(bytes)
                }
                outcome => outcome,
            },
            Memory::Blocks(blocks) => {
                if let Some(last) = blocks.last().filter(|block| block.len() >= bytes) {
                    return Ok(last.as_device_ptr().as_raw());
                }
                let block = DeviceBuffer::zeroed(bytes.max(1));
                let block = block.map_err(CudaError::during("cuMemAlloc"))?;
                finish_default_stream()?;
                let address = block.as_device_ptr().as_raw();
                blocks.push(block);
                Ok(address)
            }
        }
    }

    /// Bytes of the GPU that it has.
    pub fn size(&self) -> usize {
        match &self.memory {
            Memory::Range(range) => range.size(),
            Memory::Blocks(blocks) => blocks.iter().map(|block| block.len()).sum(),
        }
    }
}

/// Addresses for as much memory as the GPU has, with some behind the first of them.
#[derive(Debug)]
struct Range {
    address: u64,
    reserved: usize,
    granularity: usize,
    device: i32,
    /// Sizes of what was put there, one behind the other.
    pieces: Vec<usize>,
}

impl Range {
    fn reserve(device: i32) -> Result<Self, CudaError> {
        let (mut granularity, mut address) = (0, 0);
        // SAFETY: the call writes to the variable.
        check("cuMemGetAllocationGranularity", unsafe {
            sys::cuMemGetAllocationGranularity(
                &mut granularity,
                &properties(device),
                sys::CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM,
            )
        })?;
        let granularity = granularity.max(ALIGNMENT);
        let reserved = memory()?.total.next_multiple_of(granularity);
        // SAFETY: as above.
        check("cuMemAddressReserve", unsafe {
            sys::cuMemAddressReserve(&mut address, reserved, 0, 0, 0)
        })?;
        Ok(Self {
            address,
            reserved,
            granularity,
            device,
            pieces: Vec::new(),
        })
    }

    fn size(&self) -> usize {
        self.pieces.iter().sum()
    }

    fn at_least(&mut self, bytes: usize) -> Result<u64, CudaError> {
        let missing = missing(self.size(), bytes, self.granularity);
        if missing > 0 {
            if self.size().saturating_add(missing) > self.reserved {
                let result = sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
                return Err(CudaError::new("cuMemCreate", result));
            }
            self.append(missing)?;
        }
        Ok(self.address)
    }

    fn append(&mut self, bytes: usize) -> Result<(), CudaError> {
        let end = self.address + self.size() as u64;
        let access = sys::CUmemAccessDesc {
            location: location(self.device),
            flags: sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE,
        };
        let mut memory = 0;
        // SAFETY: the addresses are reserved and nothing is behind them. Memory whose handle is released lives until it
        // is unmapped. What of it is filled is not used yet.
        unsafe {
            check(
                "cuMemCreate",
                sys::cuMemCreate(&mut memory, bytes, &properties(self.device), 0),
            )?;
            let mapped = check("cuMemMap", sys::cuMemMap(end, bytes, 0, memory, 0));
            check("cuMemRelease", sys::cuMemRelease(memory)).and(mapped)?;
            let filled = check(
                "cuMemSetAccess",
                sys::cuMemSetAccess(end, bytes, &access, 1),
            )
            .and_then(|()| check("cuMemsetD8", sys::cuMemsetD8_v2(end, 0, bytes)))
            .and_then(|()| finish_default_stream());
            if filled.is_err() {
                sys::cuMemUnmap(end, bytes);
            }
            filled?;
        }
        self.pieces.push(bytes);
        Ok(())
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        let mut address = self.address;
        // SAFETY: these are the pieces that were put there; whoever had addresses of the arena is done with them.
        unsafe {
            for bytes in &self.pieces {
                sys::cuMemUnmap(address, *bytes);
                address += *bytes as u64;
            }
            sys::cuMemAddressFree(self.address, self.reserved);
        }
    }
}

/// Memory of a GPU, for this process alone.
fn properties(device: i32) -> sys::CUmemAllocationProp {
    sys::CUmemAllocationProp {
        type_: sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED,
        requestedHandleTypes: sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE,
        location: location(device),
        win32HandleMetaData: std::ptr::null_mut(),
        allocFlags: Default::default(),
    }
}

fn location(device: i32) -> sys::CUmemLocation {
    sys::CUmemLocation {
        type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE,
        id: device,
    }
}

/// What has to come behind `there` bytes to have `wanted`, in whole units.
fn missing(there: usize, wanted: usize, unit: usize) -> usize {
    let missing = wanted.saturating_sub(there);
    missing.checked_next_multiple_of(unit).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_grows_in_whole_units_by_what_is_missing() {
        let missing = |there, wanted| missing(there, wanted, 100);
        assert_eq!(
            [(0, 0), (0, 1), (0, 100), (200, 201), (200, 7)].map(|(a, b)| missing(a, b)),
            [0, 100, 100, 100, 0]
        );
        assert_eq!(missing(0, usize::MAX), usize::MAX);
    }
}
