//! In steady state, nothing that the element allocates for a frame outlives it.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, AtomicUsize, Ordering};

use common::*;

struct Counting;

static LIVE: AtomicIsize = AtomicIsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_thousand_frames_leave_no_allocation_behind() {
    let element = colors_element("colors-yolov5.onnx").build().unwrap();
    let picture = Picture::grey(640, 480).with_block(0, 80, 80, 80, RED);
    let sample = picture.converted(gst_video::VideoFormat::Nv12, None);
    let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
    let mut harness = harness(&element, &info);
    let mut run = |frames: usize| {
        let (live, calls) = (LIVE.load(Ordering::Relaxed), CALLS.load(Ordering::Relaxed));
        for _ in 0..frames {
            let passed = harness
                .push_and_pull(sample.buffer_owned().unwrap())
                .unwrap();
            assert_eq!(gstrsdetectnet::detections(&passed).len(), 1);
        }
        (
            LIVE.load(Ordering::Relaxed) - live,
            (CALLS.load(Ordering::Relaxed) - calls) / frames,
        )
    };
    run(100);
    let (grown, calls_per_frame) = run(1000);
    assert!(grown <= 0, "{grown} bytes grew over 1,000 frames");
    // ONNX Runtime's bindings make a few small lists for each run; nothing is made for each pixel or candidate.
    assert!(
        calls_per_frame <= 40,
        "{calls_per_frame} allocations for each frame"
    );
}
