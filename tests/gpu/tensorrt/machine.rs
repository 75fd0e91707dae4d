//! A GPU to run engines on: context, memory, and what a model needs before TensorRT takes it.

use std::ops::ControlFlow;

use cust::memory::DeviceBuffer;
use cust::sys;
use gstrsdetectnet::cuda::CudaError;
use gstrsdetectnet::cuda::context::{Context as CudaContext, Current, driver_version, memory};
use gstrsdetectnet::cuda::driver::check;
use gstrsdetectnet::cuda::stream::{Event, Graph, Stream};
use gstrsdetectnet::engine::tensorrt::{
    Batches, BuildOptions, Context, DeviceIdentity, Engine, OnnxModel, Precision, Progress,
    TensorSpec, library,
};
use gstrsdetectnet::model::onnx::{Float16Options, Model};

pub const BUNDLED: &[u8] = include_bytes!("../../../pipelines/models/ssd-mobilenet-v2.onnx");

/// The primary context of the first GPU, current on the thread that opened it.
pub struct Gpu {
    _current: Current,
    context: CudaContext,
}

impl Gpu {
    pub fn open() -> Self {
        let context = CudaContext::primary(0).unwrap();
        Self {
            _current: context.enter().unwrap(),
            context,
        }
    }

    pub fn identity(&self) -> DeviceIdentity {
        DeviceIdentity {
            name: self.context.gpu_name().unwrap(),
            compute_capability: self.context.compute_capability().unwrap(),
            driver_version: driver_version(),
        }
    }

    /// Free memory of the GPU, in bytes.
    pub fn free_memory(&self) -> usize {
        memory().unwrap().free
    }

    pub fn options(&self, precision: Precision, batches: Batches) -> BuildOptions {
        BuildOptions {
            precision,
            batches,
            dla_core: None,
            workspace_bytes: None,
            input_shapes: Vec::new(),
            device: self.identity(),
        }
    }
}

/// A model as the element gives it to TensorRT.
pub fn prepared(onnx: &[u8], precision: Precision) -> Vec<u8> {
    let mut model = Model::parse(onnx.to_vec()).unwrap();
    model.make_batch_dynamic().unwrap();
    model.cast_byte_inputs().unwrap();
    if precision == Precision::Fp16 && library().unwrap().is_strongly_typed() {
        model.to_float16(&Float16Options::default()).unwrap();
    }
    model.to_bytes()
}

pub fn onnx_model(bytes: &[u8]) -> OnnxModel<'_> {
    OnnxModel {
        bytes,
        path: None,
        external_files: &[],
    }
}

pub fn go_on(_: Progress<'_>) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A context for batches of one size, with tensors and a stream of its own, as a lane of the element has it.
pub struct Runner {
    batch: usize,
    context: Context,
    stream: Stream,
    finished: Event,
    tensors: Vec<(TensorSpec, Memory)>,
}

/// The memory of a tensor, and the values of one image of it.
struct Memory {
    buffer: DeviceBuffer<u8>,
    image: usize,
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.stream.finish(&self.finished);
    }
}

impl Runner {
    pub fn new(engine: &Engine, batch: u32) -> Self {
        Self::of(engine, engine.new_context().unwrap(), batch)
    }

    /// With a context for batches of this size. Activations of one without memory of its own have no place yet.
    pub fn of(engine: &Engine, mut context: Context, batch: u32) -> Self {
        context.set_batch(batch).unwrap();
        let batch = batch as usize;
        let mut tensors = Vec::new();
        for (index, tensor) in engine.tensors().iter().cloned().enumerate() {
            let shape = context.shape(index);
            let values: i64 = shape.iter().product();
            let values = usize::try_from(values).unwrap();
            let bytes = values * tensor.data_type.size();
            let buffer = DeviceBuffer::zeroed(bytes).unwrap();
            // SAFETY: the buffer holds the tensor and lives as long as the runner.
            unsafe { context.set_address(index, buffer.as_device_ptr().as_raw()) }.unwrap();
            let image = values / batch;
            tensors.push((tensor, Memory { buffer, image }));
        }
        wait_for_copies();
        Self {
            batch,
            context,
            stream: Stream::new().unwrap(),
            finished: Event::new().unwrap(),
            tensors,
        }
    }

    /// Bytes for the activations of a context without memory of its own.
    pub fn need(&self) -> usize {
        self.context.memory_size().unwrap()
    }

    /// Has activations lie there from now on.
    ///
    /// # Safety
    /// So many bytes are there as long as the runner is used, and nobody uses them while it runs.
    pub unsafe fn settle(&mut self, address: u64, bytes: usize) {
        self.finish();
        // SAFETY: the caller's promise.
        unsafe { self.context.set_memory(address, bytes) }.unwrap();
    }

    /// Values of one image of the input.
    pub fn image_size(&self) -> usize {
        self.tensors
            .iter()
            .find(|(t, _)| t.is_input)
            .unwrap()
            .1
            .image
    }

    /// Fills the input with images that lie one after the other.
    pub fn upload(&self, input: &[f32]) {
        let (_, memory) = self.tensors.iter().find(|(t, _)| t.is_input).unwrap();
        assert!(size_of_val(input) <= memory.buffer.len());
        // SAFETY: the buffer has room for the values.
        let result = unsafe {
            sys::cuMemcpyHtoD_v2(
                memory.buffer.as_device_ptr().as_raw(),
                input.as_ptr().cast(),
                size_of_val(input),
            )
        };
        check("cuMemcpyHtoD", result).unwrap();
        wait_for_copies();
    }

    /// Puts a batch on the stream.
    pub fn enqueue(&mut self) {
        // SAFETY: the runner owns the memory, and waits for its stream before it goes.
        unsafe { self.context.enqueue(self.stream.raw().cast()) }.unwrap();
    }

    pub fn finish(&self) {
        self.stream.finish(&self.finished).unwrap();
    }

    /// A CUDA graph of a batch, once one has run.
    pub fn capture(&mut self) -> Graph {
        let (context, stream) = (&mut self.context, &self.stream);
        let captured = stream.capture(|| {
            // SAFETY: as in `enqueue`.
            unsafe { context.enqueue(stream.raw().cast()) }.unwrap();
            Ok::<_, CudaError>(())
        });
        captured.unwrap()
    }

    pub fn launch(&self, graph: &mut Graph) {
        // SAFETY: as in `enqueue`.
        unsafe { graph.launch(&self.stream) }.unwrap();
    }

    /// Fills the outputs with what is no number, so that none passes for the result of a run that writes nothing.
    pub fn forget_outputs(&mut self) {
        self.finish();
        let outputs = self.tensors.iter_mut();
        for (_, memory) in outputs.filter(|(tensor, _)| !tensor.is_input) {
            memory.buffer.set_8(0xff).unwrap();
        }
        wait_for_copies();
    }

    /// Values of the outputs of the batch, image by image.
    pub fn outputs(&self) -> Vec<Vec<f32>> {
        self.finish();
        let outputs = self.tensors.iter().filter(|(tensor, _)| !tensor.is_input);
        outputs
            .map(|(_, memory)| {
                let mut values = vec![0.0_f32; self.batch * memory.image];
                // SAFETY: the buffer holds as many values; a copy to the host has ended when the call returns.
                let result = unsafe {
                    sys::cuMemcpyDtoH_v2(
                        values.as_mut_ptr().cast(),
                        memory.buffer.as_device_ptr().as_raw(),
                        size_of_val(&values[..]),
                    )
                };
                check("cuMemcpyDtoH", result).unwrap();
                values
            })
            .collect()
    }

    /// The outputs for a batch of images.
    pub fn run(&mut self, input: &[f32]) -> Vec<Vec<f32>> {
        self.upload(input);
        self.enqueue();
        self.outputs()
    }
}

/// What the default stream copies or fills may still be under way when its call returns, and the streams here do not
/// wait for it.
fn wait_for_copies() {
    // SAFETY: a context is current.
    check("cuCtxSynchronize", unsafe { sys::cuCtxSynchronize() }).unwrap();
}

/// A picture with structure, so that the network's outputs differ from place to place.
pub fn picture(size: usize, seed: usize) -> Vec<f32> {
    let value = |index: usize| ((index * 7 + seed * 131) % 511) as f32 / 255.0 - 1.0;
    (0..size).map(value).collect()
}

/// Of the values of all outputs.
pub fn largest_difference(left: &[Vec<f32>], right: &[Vec<f32>]) -> f32 {
    assert_eq!(left.len(), right.len());
    let pairs = left.iter().zip(right).flat_map(|(left, right)| {
        assert_eq!(left.len(), right.len());
        left.iter().zip(right)
    });
    pairs
        .map(|(left, right)| (left - right).abs())
        .fold(0.0, |largest: f32, difference| {
            // A value that is no number must not pass for a small difference.
            if difference.is_nan() {
                f32::INFINITY
            } else {
                largest.max(difference)
            }
        })
}
