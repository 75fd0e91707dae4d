//! Batches of all sizes share the memory of two bays: two of them run at once, others come after them in the same
//! memory, and larger ones are prepared there meanwhile.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use gstrsdetectnet::Detection;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::detector::{Detector, Precision};
use gstrsdetectnet::frame::DeviceFrame;

use crate::batches::{MOST, Tolerance, Uploaded, assert_same, detect, load, submit, upload_all};
use crate::common::init;
use crate::prepared;

/// Batches that are submitted at once, the second no smaller than the first, so that it runs beside it.
const PAIRS: [(usize, usize); 10] = [
    (1, 1),
    (1, 32),
    (32, 32),
    (2, 5),
    (3, 3),
    (8, 31),
    (1, 16),
    (16, 16),
    (4, 7),
    (31, 32),
];
const ROUNDS: usize = 5;
const TOLERANCE: Tolerance = Tolerance {
    iou: 0.99,
    confidence: 0.01,
};

/// Has the streams end, also where the test fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Frames, and what each gives alone.
struct Expected {
    uploaded: Vec<Uploaded>,
    frames: Vec<DeviceFrame>,
    lone: Vec<Vec<Detection>>,
}

impl Expected {
    /// A context must be current.
    fn new() -> Self {
        let uploaded = upload_all();
        let frames: Vec<_> = uploaded.iter().map(|uploaded| uploaded.frame).collect();
        let alone = load(Precision::Fp32, 1, "alone");
        let lone: Vec<_> = frames
            .iter()
            .map(|frame| detect(&alone, std::slice::from_ref(frame)).remove(0))
            .collect();
        let found: usize = lone.iter().map(Vec::len).sum();
        assert!(found >= frames.len() / 2, "only {found} objects");
        Self {
            uploaded,
            frames,
            lone,
        }
    }

    /// So many frames, not always the same.
    fn some(&self, count: usize, seed: usize) -> (usize, &[DeviceFrame]) {
        let count = count.min(self.frames.len());
        let start = seed % (self.frames.len() - count + 1);
        (start, &self.frames[start..start + count])
    }

    fn assert_found(&self, what: &str, start: usize, found: &[Vec<Detection>]) {
        for (index, found) in found.iter().enumerate() {
            let index = start + index;
            let what = format!("{what}: {}", self.uploaded[index].name);
            assert_same(&what, found, &self.lone[index], &TOLERANCE);
        }
    }

    /// Submits two batches, and waits for them in one order or the other.
    fn assert_pair(&self, detector: &Detector, sizes: (usize, usize), seed: usize) {
        let what = format!("{sizes:?}, seed {seed}");
        let (first, frames) = self.some(sizes.0, seed);
        let one = submit(detector, frames);
        let (second, frames) = self.some(sizes.1, 7 * seed + 3);
        let other = submit(detector, frames);
        let mut both = [(first, one), (second, other)];
        if seed % 2 == 1 {
            both.reverse();
        }
        for (start, request) in both {
            self.assert_found(&what, start, &request.wait().unwrap().1);
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn batches_of_all_sizes_that_run_two_at_a_time_give_what_their_frames_give_alone() {
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let expected = Expected::new();
    let detector = load(Precision::Fp32, MOST as u32, "two bays");
    for round in 0..ROUNDS {
        for (number, sizes) in PAIRS.into_iter().enumerate() {
            expected.assert_pair(&detector, sizes, round * PAIRS.len() + number);
        }
    }
    println!("{} pairs of batches, all as alone", ROUNDS * PAIRS.len());
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn batches_that_come_while_larger_ones_are_prepared_give_what_their_frames_give_alone() {
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let expected = Expected::new();
    // The engines are built before, so that their lanes are made at once.
    drop(load(Precision::Fp32, MOST as u32, "engines"));
    let mut during = 0;
    for start in 0..3 {
        prepared::listen();
        let detector = load(Precision::Fp32, 0, &format!("growing {start}"));
        let (done, pairs) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let _done = Done(&done);
            for stream in 0..3 {
                let (expected, detector, context) = (&expected, &detector, &context);
                let (done, pairs) = (&done, &pairs);
                scope.spawn(move || {
                    let _current = context.enter().unwrap();
                    let mut seed = stream;
                    while !done.load(Ordering::SeqCst) {
                        expected.assert_pair(detector, PAIRS[seed % PAIRS.len()], seed);
                        pairs.fetch_add(1, Ordering::SeqCst);
                        seed += 3;
                    }
                });
            }
            thread::sleep(Duration::from_millis(20));
            detector.expect(2 * MOST);
            prepared::wait_for_batches_of(MOST as u32);
            during += pairs.load(Ordering::SeqCst);
            // In the new lanes, too.
            thread::sleep(Duration::from_millis(300));
        });
    }
    println!("{during} pairs of batches while others were prepared, all as alone");
    assert!(during > 0);
}
