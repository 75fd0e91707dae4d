//! In steady state, nothing that the element allocates for a frame outlives it.

mod common;
#[path = "common/counting.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod counting;

use common::*;
use counting::{calls, live};
use gst::prelude::*;

/// Bytes that a thousand frames left behind, and allocations for each of them.
fn growth(element: gst::Element) -> (isize, usize) {
    let picture = Picture::grey(640, 480).with_block(0, 80, 80, 80, RED);
    let sample = picture.converted(gst_video::VideoFormat::Nv12, None);
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let mut harness = harness(&element, &info);
    let mut run = |frames: usize| {
        let (live_before, calls_before) = (live(), calls());
        for _ in 0..frames {
            let passed = harness
                .push_and_pull(sample.buffer_owned().unwrap())
                .unwrap();
            assert_eq!(gstrsdetectnet::detections(&passed).len(), 1);
        }
        (live() - live_before, (calls() - calls_before) / frames)
    };
    run(100);
    run(1000)
}

#[test]
fn a_thousand_frames_leave_no_allocation_behind() {
    let element = || colors_element("colors-yolov5.onnx");
    let plain = element();
    let hashed = element().property("hash-size", 16u32);
    let compared = element().property("skip-unchanged", 1f32);
    let followed = element().property_from_str("tracker", "bytetrack");
    // ONNX Runtime's bindings make a few small lists for each run; nothing is made for each pixel or candidate. Hashes
    // are copied into each structure that carries them.
    for (builder, most) in [(plain, 40), (hashed, 45), (compared, 15), (followed, 41)] {
        let (grown, calls_per_frame) = growth(builder.build().unwrap());
        assert!(grown <= 0, "{grown} bytes grew over 1,000 frames");
        assert!(
            calls_per_frame <= most,
            "{calls_per_frame} allocations for each frame"
        );
        println!("{calls_per_frame} allocations for each frame");
    }
}

#[test]
fn a_thousand_flushes_leave_no_allocation_behind() {
    let picture = Picture::grey(64, 64).with_cell(1, 1, RED);
    for in_flight in [1u32, 3] {
        let element = colors_element("colors-ssd.onnx").property("max-in-flight", in_flight);
        let element = element.build().unwrap();
        element.request_pad_simple("detections").unwrap();
        let mut harness = harness(&element, &picture.info());
        let mut flush = |times: usize| {
            let before = live();
            for _ in 0..times {
                assert!(harness.push_event(gst::event::FlushStart::new()));
                assert!(harness.push_event(gst::event::FlushStop::new(true)));
                assert!(harness.push_event(pads::segment()));
                assert!(harness.push_and_pull(picture.buffer()).is_ok());
                while harness.try_pull_event().is_some() {}
            }
            live() - before
        };
        flush(50);
        let grown = flush(1000);
        // What waits for the thread of a branch comes and goes.
        assert!(grown < 2000, "{grown} bytes with {in_flight} in flight");
    }
}
