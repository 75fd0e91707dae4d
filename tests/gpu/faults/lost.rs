//! A kernel writes where it must not: CUDA loses the whole context, and with it what this process has on the GPU.

use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

use cust::sys;
use gst::prelude::*;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::cuda::driver::{check, is_lost};

use crate::common::{RED, assert_adds_up, init};
use crate::media::{COLORS_SSD, COLORS_YOLO, shared_cache};
use crate::playing::{
    assert_colorful, attempt, colorful_frames, push, push_until_it_fails, stream, uploaded,
    with_cell,
};
use crate::process::{alone, is_child, printed};

/// Writes to an address that is nobody's.
const BAD_KERNEL: &str = "
.version 6.3
.target sm_53
.address_size 64
.visible .entry bad()
{
    .reg .b32 %number;
    .reg .b64 %address;
    mov.u64 %address, 16;
    mov.u32 %number, 1;
    st.global.u32 [%address], %number;
    ret;
}
\0";

const NAME: &str = "CUDA_ERROR_ILLEGAL_ADDRESS (700)";
const ADVICE: &str = "works no more in this process, which has to be started again";

/// Runs the kernel in the context that elements share.
fn lose(context: &Context) {
    let _current = context.enter().unwrap();
    let (mut module, mut function) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: text and name end with a zero; the calls write to the variables.
    unsafe {
        let text = BAD_KERNEL.as_ptr().cast::<c_void>();
        check("cuModuleLoadData", sys::cuModuleLoadData(&mut module, text)).unwrap();
        let found = sys::cuModuleGetFunction(&mut function, module, c"bad".as_ptr());
        check("cuModuleGetFunction", found).unwrap();
        let (stream, none) = (ptr::null_mut(), ptr::null_mut());
        let launched = sys::cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, none, none);
        check("cuLaunchKernel", launched).unwrap();
    }
}

fn assert_says_what_to_do(error: &str) {
    println!("{error}");
    assert!(error.contains(NAME) && error.contains(ADVICE), "{error}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn after_an_illegal_address_elements_say_that_the_process_must_be_started_again_and_it_lives() {
    let test = "lost::\
        after_an_illegal_address_elements_say_that_the_process_must_be_started_again_and_it_lives";
    alone(test, 120, || {
        init();
        let detector = COLORS_SSD.detector(&shared_cache());
        let (sample, _) = with_cell((320, 240), (2, 5), RED);
        let context = Context::primary(0).unwrap();
        let mut streams = vec![
            (stream(&detector, &sample), sample.clone()),
            (
                stream(&format!("{detector} max-in-flight=4"), &sample),
                sample.clone(),
            ),
        ];
        if let Some(frames) = uploaded(std::slice::from_ref(&sample)) {
            let overlay = format!("{detector} overlay=box,label");
            streams.push((stream(&overlay, &frames[0]), frames[0].clone()));
        }
        for (stream, sample) in &streams {
            for _ in 0..20 {
                push(stream, sample).unwrap();
            }
            stream.sink.wait_for_frames(20);
        }
        assert!(!is_lost());

        lose(&context);
        for (stream, sample) in &streams {
            let begin = Instant::now();
            assert_says_what_to_do(&push_until_it_fails(stream, sample));
            assert!(begin.elapsed() < Duration::from_secs(10));
        }
        assert!(is_lost());
        println!("all elements failed");
        // While some still hold the model, and after all are gone.
        let again = attempt(&detector, &colorful_frames(2)).err();
        assert_says_what_to_do(&again.expect("it works on"));
        for (stream, _) in streams {
            let (element, begin) = (stream.element.clone(), Instant::now());
            drop(stream);
            assert!(begin.elapsed() < Duration::from_secs(10));
            assert_adds_up(&element);
        }
        println!("all elements stopped");
        for model in [COLORS_SSD, COLORS_YOLO] {
            let again = attempt(&model.detector(&shared_cache()), &colorful_frames(2)).err();
            assert_says_what_to_do(&again.expect("it works on"));
        }
        // What needs no GPU goes on.
        let on_the_cpu = detector.replace("backend=tensorrt", "backend=onnxruntime");
        match attempt(&on_the_cpu, &colorful_frames(2)) {
            Ok(played) => assert_colorful(&played),
            Err(error) => {
                println!("{error}");
                assert!(error.contains("ONNX Runtime"), "{error}");
            }
        }
        let again = printed("lost::child_detects", &[], 60).unwrap();
        assert!(again.contains("another process detects"), "{again}");
        println!("the process lives");
    });
}

#[test]
#[ignore = "a child process of the test above"]
fn child_detects() {
    if !is_child() {
        return;
    }
    let detector = COLORS_SSD.detector(&shared_cache());
    assert_colorful(&attempt(&detector, &colorful_frames(3)).unwrap());
    println!("\nanother process detects");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn an_illegal_address_under_a_pipeline_that_decodes_is_its_error_and_it_stops() {
    let test = "lost::an_illegal_address_under_a_pipeline_that_decodes_is_its_error_and_it_stops";
    alone(test, 90, || {
        init();
        if !crate::stream::has("nvh264dec") {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("clip.h264");
        crate::clip::encode("astronaut.png", &file);
        let detector = COLORS_SSD.detector(&shared_cache());
        let pipeline = crate::stream::launch(&format!(
            "multifilesrc location={} loop=true ! h264parse ! nvh264dec \
             ! video/x-raw(memory:CUDAMemory) ! {detector} ! fakesink name=sink sync=false",
            file.display()
        ));
        pipeline.set_state(gst::State::Playing).unwrap();
        let element = pipeline.by_name("detector").unwrap();
        let begin = Instant::now();
        while gstrsdetectnet::stats(&element).unwrap().inspected < 50 {
            assert!(
                begin.elapsed() < Duration::from_secs(40),
                "it does not play"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        lose(&Context::primary(0).unwrap());
        let bus = pipeline.bus().unwrap();
        let limit = gst::ClockTime::from_seconds(20);
        let message = bus.timed_pop_filtered(limit, &[gst::MessageType::Error]);
        let message = message.expect("nobody says anything");
        if let gst::MessageView::Error(error) = message.view() {
            // The decoder may be the first to meet it.
            let source = error.src().map(|source| source.name());
            println!("{source:?}: {}", error.error());
            if source.is_some_and(|name| name == "detector") {
                assert_says_what_to_do(&error.error().to_string());
            }
        }
        let begin = Instant::now();
        pipeline.set_state(gst::State::Null).unwrap();
        println!("stopped after {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(10));
        assert_adds_up(&element);
        let again = attempt(&detector, &colorful_frames(2)).err();
        assert_says_what_to_do(&again.expect("it works on"));
    });
}
