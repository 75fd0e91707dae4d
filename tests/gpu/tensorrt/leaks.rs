//! What each part of a start leaves on the GPU, so that one can tell which of them does.

use cust::memory::{DeviceBuffer, LockedBuffer};
use gstrsdetectnet::cuda::Kernels;
use gstrsdetectnet::cuda::stream::{Event, Stream};
use gstrsdetectnet::engine::tensorrt::{Batches, Engine, LoadOptions, Precision, build, library};
use gstrsdetectnet::frame::{Colorimetry, DeviceFrame, DevicePlane, DeviceStorage, PixelFormat};
use gstrsdetectnet::preprocess::cuda::{Batch, Element, InputTensor, Preprocessor, Slot};
use gstrsdetectnet::preprocess::{
    ChannelOrder, InputGeometry, Preparation, ResizeMode, Shrinking, TensorLayout,
};

use crate::leak::{print_head, print_row};
use crate::machine::{Gpu, Runner, go_on, onnx_model};

const MODEL: &[u8] = include_bytes!("../../models/colors-ssd.onnx");
const SIDE: usize = 64;

/// One launch of a kernel of ours, and the memory that it reads and writes.
struct Launch {
    batch: Batch,
    _memory: [DeviceBuffer<u8>; 2],
}

impl Launch {
    fn new() -> Self {
        let memory = [SIDE * SIDE, 3 * 4 * SIDE * SIDE].map(|n| DeviceBuffer::zeroed(n).unwrap());
        let [frame, tensor] = memory.each_ref().map(|m| m.as_device_ptr().as_raw());
        let tensor = InputTensor {
            address: tensor,
            geometry: InputGeometry {
                width: SIDE,
                height: SIDE,
                layout: TensorLayout::Nchw,
            },
            element: Element::F32,
            slots: 1,
        };
        let preparation = Preparation {
            resize: ResizeMode::Stretch,
            order: ChannelOrder::Rgb,
            mean: [0.0; 3],
            scale: [1.0; 3],
        };
        let luma = DevicePlane {
            pointer: frame,
            pitch: SIDE,
        };
        let frame = DeviceFrame {
            format: PixelFormat::Gray8,
            colorimetry: Colorimetry::default(),
            width: SIDE,
            height: SIDE,
            storage: DeviceStorage::Pitch,
            planes: [luma, DevicePlane::default(), DevicePlane::default()],
        };
        let preprocessor = Preprocessor::new(tensor, preparation, Shrinking::Bilinear);
        let batch = preprocessor.batch(&[Slot::whole(frame, 0)]).unwrap();
        Self {
            batch,
            _memory: memory,
        }
    }

    fn enqueue(&self, kernels: &Kernels, stream: &Stream) {
        // SAFETY: the launch owns the memory; whoever calls this waits for the stream.
        unsafe { self.batch.launch(kernels, stream.raw()) }.unwrap();
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn what_a_start_leaves_behind() {
    let gpu = Gpu::open();
    let library = library().unwrap();
    let options = gpu.options(Precision::Fp32, Batches::UpTo(1));
    let plan = build(library, &onnx_model(MODEL), &options, &mut go_on).unwrap();
    let load = |runtime_cache: Option<&[u8]>| {
        let options = LoadOptions {
            runtime_cache,
            ..LoadOptions::default()
        };
        Engine::deserialize(library, &plan, options).unwrap()
    };
    let engine = load(None);
    let mut kept = Runner::new(&engine, 1);
    kept.enqueue();
    kept.finish();
    let compiled = engine.runtime_cache();
    let cache = compiled.as_deref();
    let (kernels, launch) = (Kernels::load().unwrap(), Launch::new());
    let (stream, event) = (Stream::new().unwrap(), Event::new().unwrap());

    print_head();
    let row = |name: &str, work: &mut dyn FnMut()| print_row(name, || gpu.free_memory(), work);
    row("nothing", &mut || {});
    row("a stream and two events", &mut || {
        let _made = (Stream::new(), Event::new(), Event::new());
    });
    row("memory on GPU and host", &mut || {
        let _device = DeviceBuffer::<u8>::zeroed(100_000).unwrap();
        let _host = LockedBuffer::new(&0_u8, 100_000).unwrap();
    });
    row("our kernels", &mut || drop(Kernels::load().unwrap()));
    row("our kernels, launched", &mut || {
        let kernels = Kernels::load().unwrap();
        launch.enqueue(&kernels, &stream);
        stream.finish(&event).unwrap();
    });
    row("a graph of our kernel", &mut || {
        let captured = stream.capture(|| {
            launch.enqueue(&kernels, &stream);
            Ok::<_, gstrsdetectnet::cuda::CudaError>(())
        });
        let mut graph = captured.unwrap();
        // SAFETY: the memory lives as long as the test.
        unsafe { graph.launch(&stream) }.unwrap();
        stream.finish(&event).unwrap();
    });
    row("an engine", &mut || drop(load(None)));
    row("an engine with its runtime cache", &mut || {
        drop(load(cache))
    });
    row("a context", &mut || drop(engine.new_context().unwrap()));
    row("an engine and its context", &mut || {
        drop(load(cache).new_context().unwrap());
    });
    row("a context, run", &mut || {
        let mut runner = Runner::new(&engine, 1);
        runner.enqueue();
        runner.finish();
    });
    row("a graph of a context", &mut || {
        let mut graph = kept.capture();
        kept.launch(&mut graph);
        kept.finish();
    });
    row("a context, run, with a graph", &mut || {
        let mut runner = Runner::new(&engine, 1);
        runner.enqueue();
        runner.finish();
        let mut graph = runner.capture();
        runner.launch(&mut graph);
        runner.finish();
    });
    row("an engine, run, no cache", &mut || {
        let mut runner = Runner::new(&load(None), 1);
        runner.enqueue();
        runner.finish();
    });
    row("an engine, run", &mut || {
        let mut runner = Runner::new(&load(cache), 1);
        runner.enqueue();
        runner.finish();
    });
    row("an engine, run, with a graph", &mut || {
        let mut runner = Runner::new(&load(cache), 1);
        runner.enqueue();
        runner.finish();
        let mut graph = runner.capture();
        runner.launch(&mut graph);
        runner.finish();
    });
}
