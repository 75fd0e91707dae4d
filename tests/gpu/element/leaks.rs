//! What a whole start leaves on the GPU, by how it is made; `gpu_tensorrt what_a_start_leaves_behind` has its parts.

use std::ops::ControlFlow;

use gst::prelude::*;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::detector::{Backend, Detector, DetectorOptions, Precision};
use gstrsdetectnet::frame::gstcuda::CudaContext;

use crate::common::init;
use crate::leak::{print_head, print_row};
use crate::media::{COLORS_SSD, shared_cache};
use crate::starts::free_memory;

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn what_a_start_leaves_behind() {
    init();
    let context = Context::primary(0).unwrap();
    let description = COLORS_SSD.detector(&shared_cache());
    let element = gst::parse::launch(&description).unwrap();
    let path = |name: &str| element.property::<Option<String>>(name).unwrap();
    let options = DetectorOptions {
        model: path("model"),
        labels: Some(path("labels").into()),
        backend: Backend::TensorRt,
        precision: Precision::Fp32,
        engine_cache: Some(shared_cache()),
        ..DetectorOptions::default()
    };
    let load = || {
        let mut go_on = |_: &str, _: Option<u32>| ControlFlow::Continue(());
        drop(Detector::load(&options, Some(context.clone()), &mut go_on).unwrap());
    };

    print_head();
    let row = |name: &str, work: &mut dyn FnMut()| {
        print_row(name, || free_memory(&context), work);
    };
    row("GStreamer's context", &mut || {
        // Without GStreamer's library there is none.
        let _ = CudaContext::shared(0);
    });
    row("a thread that takes the context", &mut || {
        std::thread::scope(|scope| {
            scope.spawn(|| drop(context.enter().unwrap()));
        });
    });
    row("a detector", &mut || load());
    row("a detector, each on a new thread", &mut || {
        std::thread::scope(|scope| {
            scope.spawn(load);
        });
    });
    element.set_state(gst::State::Ready).unwrap();
    row("a start of the element", &mut || {
        element.set_state(gst::State::Paused).unwrap();
        element.set_state(gst::State::Ready).unwrap();
    });
    element.set_state(gst::State::Null).unwrap();
}
