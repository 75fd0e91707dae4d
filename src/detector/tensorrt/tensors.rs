//! Where the tensors of a network lie.

use cust::memory::{CopyDestination, DeviceBuffer};

use super::bay::{Bay, Need};
use super::load::spec_of;
use crate::cuda::CudaError;
use crate::cuda::arena::ALIGNMENT;
use crate::cuda::context::Context;
use crate::cuda::stream::{Event, Stream, finish_default_stream};
use crate::detector::LoadError;
use crate::engine;
use crate::engine::tensorrt::{self, DataType, TensorSpec};
use crate::preprocess::InputGeometry;

/// What a network needs at the batch that is set. The context must be current whenever this is used.
pub(super) struct Tensors {
    count: usize,
    /// The numbers of the outputs among the tensors.
    outputs: Vec<usize>,
    need: Need,
    has_own_activations: bool,
    /// The inputs that are the same for every frame, with their numbers.
    constants: Vec<(usize, DeviceBuffer<u8>)>,
}

impl Tensors {
    /// `image` is the number of the input for images.
    pub fn new(
        tensors: &[TensorSpec],
        image: usize,
        geometry: InputGeometry,
        network: &tensorrt::Context,
    ) -> Result<Self, LoadError> {
        let mut sizes = Vec::with_capacity(tensors.len());
        for (index, tensor) in tensors.iter().enumerate() {
            let size = size_of(&network.shape(index), tensor.data_type);
            sizes.push(size.ok_or_else(|| LoadError::OpenShape {
                tensor: spec_of(tensor).to_string(),
            })?);
        }
        let mut constants = Vec::new();
        for (index, tensor) in tensors.iter().enumerate() {
            if tensor.is_input && index != image {
                constants.push((index, constant(tensor, geometry, sizes[index])?));
            }
        }
        finish_default_stream()?;
        let outputs: Vec<_> = (0..tensors.len())
            .filter(|index| !tensors[*index].is_input)
            .collect();
        let activations = network.memory_size();
        Ok(Self {
            count: tensors.len(),
            need: Need {
                images: sizes[image],
                outputs: outputs.iter().map(|index| sizes[*index]).collect(),
                // Where there are none, they have an address all the same.
                activations: activations.map_or(0, |bytes| bytes.max(ALIGNMENT)),
            },
            outputs,
            has_own_activations: activations.is_none(),
            constants,
        })
    }

    /// Has the network work in a bay from now on. Returns the addresses of its tensors.
    pub fn settle(
        &self,
        network: &mut tensorrt::Context,
        bay: &Bay,
    ) -> Result<Vec<u64>, LoadError> {
        let place = bay.enter().place(&self.need)?;
        let mut addresses = vec![place.images; self.count];
        let outputs = self.outputs.iter().copied().zip(place.outputs);
        let constants = self.constants.iter();
        let constants = constants.map(|(index, memory)| (*index, memory.as_device_ptr().as_raw()));
        for (index, address) in outputs.chain(constants) {
            addresses[index] = address;
        }
        for (index, address) in addresses.iter().enumerate() {
            // SAFETY: the memory has the tensor's size, is aligned as bays and all allocations are, and whoever runs
            // the network keeps bay and constants beside it.
            unsafe { network.set_address(index, *address) }?;
        }
        if !self.has_own_activations {
            // SAFETY: as above; runs in a bay take turns.
            unsafe { network.set_memory(place.activations, self.need.activations) }?;
        }
        Ok(addresses)
    }

    /// Runs the network once in memory that goes again. What TensorRT compiles or loads for that is there afterwards.
    pub fn run_apart(
        &self,
        network: &mut tensorrt::Context,
        context: &Context,
    ) -> Result<(), LoadError> {
        let apart = Bay::new(context)?;
        self.settle(network, &apart)?;
        let (stream, finished) = (Stream::new()?, Event::new()?);
        // SAFETY: the memory lives until the stream has passed the work, which is waited for.
        let enqueued = unsafe { network.enqueue(stream.raw().cast()) };
        stream.finish(&finished)?;
        Ok(enqueued?)
    }

    /// What must live as long as the network runs.
    pub fn into_constants(self) -> Vec<DeviceBuffer<u8>> {
        self.constants
            .into_iter()
            .map(|(_, memory)| memory)
            .collect()
    }
}

/// Bytes of a tensor, where none of its axes is open.
fn size_of(shape: &[i64], data_type: DataType) -> Option<usize> {
    let bytes = shape.iter().try_fold(data_type.size(), |bytes, &axis| {
        bytes.checked_mul(usize::try_from(axis).ok()?)
    });
    bytes.map(|bytes| bytes.max(1))
}

/// Memory of an input that is no image, filled with what it is for every frame of a batch.
fn constant(
    tensor: &TensorSpec,
    geometry: InputGeometry,
    bytes: usize,
) -> Result<DeviceBuffer<u8>, LoadError> {
    let mut memory = DeviceBuffer::zeroed(bytes).map_err(CudaError::during("cuMemAlloc"))?;
    let Some(values) = engine::constant_input(&spec_of(tensor), geometry) else {
        return Ok(memory);
    };
    let one: Vec<u8> = match tensor.data_type {
        DataType::I64 => values
            .iter()
            .flat_map(|v| (*v as i64).to_ne_bytes())
            .collect(),
        _ => values.iter().flat_map(|v| v.to_ne_bytes()).collect(),
    };
    let all: Vec<u8> = one.iter().copied().cycle().take(bytes).collect();
    memory
        .copy_from(&all)
        .map_err(CudaError::during("cuMemcpyHtoD"))?;
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_has_a_size_where_no_axis_is_open_and_the_product_is_a_number() {
        let size = |shape: &[i64]| size_of(shape, DataType::F16);
        assert_eq!(size(&[32, 3, 640, 640]), Some(2 * 32 * 3 * 640 * 640));
        assert_eq!(size(&[8, 0]), Some(1), "so that it has an address");
        assert_eq!(size(&[8, -1]), None);
        assert_eq!(size(&[i64::MAX, 2]), None);
    }
}
