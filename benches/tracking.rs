//! What it takes to follow a hundred objects through a frame: spread over a full-HD picture, and crowded in a corner
//! of it.

use divan::{AllocProfiler, Bencher};
use gstrsdetectnet::detection::{BoundingBox, Detection};
use gstrsdetectnet::track::{Method, Rules, Sighting, Tracker, bytetrack, iou};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

const OBJECTS: u32 = 100;

fn main() {
    divan::main();
}

/// Objects that go their ways through an area, a fifth of them unsure; the same in each run.
fn objects(frame: u32, width: f32, height: f32, found: &mut Vec<Detection>) {
    found.clear();
    found.extend((0..OBJECTS).map(|index| {
        let random = index.wrapping_mul(2_654_435_761);
        let part = |value: u32| (value % 1000) as f32 / 1000.0;
        let speed = (index % 7) as f32 - 3.0;
        let x = (part(random) * width + speed * frame as f32).rem_euclid(width);
        let unsure = (random ^ frame.wrapping_mul(7919)).is_multiple_of(5);
        Detection {
            class_id: 0,
            confidence: if unsure { 0.3 } else { 0.9 },
            bounding_box: BoundingBox::from_center(x, part(random / 1000) * height, 60.0, 140.0),
            object_id: None,
            oriented: None,
        }
    }));
}

fn follow(bencher: Bencher<'_, '_>, method: Method, (width, height): (f32, f32)) {
    let rules = Rules {
        method,
        thresholds: vec![0.5],
    };
    let (mut tracker, mut sighting) = (Tracker::default(), Sighting::default());
    let (mut found, mut frame) = (Vec::new(), 0);
    let mut next = || {
        objects(frame, width, height, &mut found);
        frame += 1;
        tracker.advance(&rules, 0, 0);
        tracker.follow(&rules, 0, &mut sighting, &mut found);
        found.len()
    };
    for _ in 0..100 {
        next();
    }
    bencher.bench_local(next);
}

const AREAS: [(f32, f32); 2] = [(1920.0, 1080.0), (600.0, 340.0)];

#[divan::bench(args = AREAS)]
fn bytetrack(bencher: Bencher<'_, '_>, area: (f32, f32)) {
    let options = bytetrack::Options {
        low_threshold: 0.1,
        new_margin: 0.1,
        match_threshold: 0.8,
        drop_frames: 30,
    };
    follow(bencher, Method::ByteTrack(options), area);
}

#[divan::bench(args = AREAS)]
fn iou(bencher: Bencher<'_, '_>, area: (f32, f32)) {
    let options = iou::Options {
        min_frames: 3,
        drop_frames: 15,
        overlap: 0.5,
    };
    follow(bencher, Method::Iou(options), area);
}
