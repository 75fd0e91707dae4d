//! What gst-validate's scenarios do to a player: scrubbing, other rates, loops, pauses and pads in a real pipeline.
//! Each frame of the clip shows its own object, so that a result of another frame is told from its own.

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::pads::LONG;
use common::*;
use gst::prelude::*;

const FRAMES: u64 = 32;
const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);
const END: gst::ClockTime = gst::ClockTime::from_mseconds(40 * FRAMES);

/// The picture whose object is in the cell of that number.
fn numbered(number: u64) -> Picture {
    let (column, row) = (number as u32 % 8, number as u32 / 8);
    Picture::grey(128, 128).with_cell(column, row, RED)
}

/// The number of the frame whose object is found in this buffer.
fn number_of(buffer: &gst::BufferRef) -> Option<u64> {
    let found = gstrsdetectnet::detections(buffer);
    let [object] = found.as_slice() else {
        return None;
    };
    let found = object.detection.bounding_box;
    let (x, y) = (found.x + found.width / 2.0, found.y + found.height / 2.0);
    Some((y / 16.0) as u64 * 8 + (x / 16.0) as u64)
}

/// Writes the clip, in which every frame is a key frame.
fn write_clip(path: &std::path::Path) {
    let pipeline = gst::parse::launch(&format!(
        "appsrc name=source format=time ! jpegenc quality=95 ! matroskamux ! filesink location={}",
        path.display()
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline.by_name("source");
    let source = source.and_downcast::<gst_app::AppSrc>().unwrap();
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 128, 128);
    let info = info.fps(gst::Fraction::new(25, 1)).build().unwrap();
    source.set_caps(Some(&info.to_caps().unwrap()));
    pipeline.set_state(gst::State::Playing).unwrap();
    for number in 0..FRAMES {
        let mut buffer = numbered(number).buffer();
        let edit = buffer.get_mut().unwrap();
        edit.set_pts(FRAME * number);
        edit.set_duration(FRAME);
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let bus = pipeline.bus().unwrap();
    wait_for(&bus, gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
}

/// Waits for a message; an error or a warning in between is a failure.
fn wait_for(bus: &gst::Bus, wanted: gst::MessageType) -> gst::Message {
    let bad = [gst::MessageType::Error, gst::MessageType::Warning];
    let timeout = gst::ClockTime::from_seconds(LONG.as_secs());
    let message = bus.timed_pop_filtered(timeout, &[bad[0], bad[1], wanted]);
    let message = message.unwrap_or_else(|| panic!("no {wanted:?}"));
    assert_eq!(message.type_(), wanted, "{message:?}");
    message
}

/// A frame that reached the sink: which one it is by its time, and which one its object says that it is.
type Seen = (u64, Option<u64>);

struct Player {
    pipeline: gst::Pipeline,
    element: gst::Element,
    bus: gst::Bus,
    seen: Arc<Mutex<Vec<Seen>>>,
    _folder: tempfile::TempDir,
}

impl Player {
    /// A pipeline in PAUSED that plays the clip as fast as it can.
    fn paused(options: &str) -> Self {
        init();
        let folder = tempfile::tempdir().unwrap();
        let clip = folder.path().join("clip.mkv");
        write_clip(&clip);
        let pipeline = gst::parse::launch(&format!(
            "filesrc location={} ! matroskademux name=demuxer jpegdec name=decoder ! rsdetectnet name=d model={} labels={} {options} \
             ! fakesink name=sink sync=false",
            clip.display(),
            model("colors-ssd.onnx"),
            tests_file("models/colors.labels.txt").display(),
        ));
        let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
        // Each start makes the demuxer's pad anew.
        let decoder = pipeline.by_name("decoder").unwrap().static_pad("sink");
        let demuxer = pipeline.by_name("demuxer").unwrap();
        demuxer.connect_pad_added(move |_, pad| {
            pad.link(decoder.as_ref().unwrap()).unwrap();
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let sink = pipeline.by_name("sink").unwrap().static_pad("sink");
        sink.unwrap()
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let buffer = info.buffer().unwrap();
                let number = (buffer.pts().unwrap() + FRAME / 2).nseconds() / FRAME.nseconds();
                noted.lock().unwrap().push((number, number_of(buffer)));
                gst::PadProbeReturn::Ok
            });
        let player = Self {
            element: pipeline.by_name("d").unwrap(),
            bus: pipeline.bus().unwrap(),
            pipeline,
            seen,
            _folder: folder,
        };
        player.set(gst::State::Paused);
        player
    }

    /// Changes the state, and returns when it is reached.
    fn set(&self, state: gst::State) {
        self.pipeline.set_state(state).unwrap();
        let timeout = gst::ClockTime::from_seconds(LONG.as_secs());
        let reached = self.pipeline.state(timeout);
        let error = self.bus.pop_filtered(&[gst::MessageType::Error]);
        assert_eq!(reached.1, state, "{error:?}");
    }

    /// The frames that came since the last call; each has the object of its own.
    fn take(&self) -> Vec<u64> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap());
        for (number, object) in &seen {
            assert_eq!(Some(*number), *object, "{seen:?}");
        }
        seen.into_iter().map(|(number, _)| number).collect()
    }

    fn seek(&self, rate: f64, flags: gst::SeekFlags, from: gst::ClockTime, to: gst::ClockTime) {
        let (from_type, to_type) = (gst::SeekType::Set, gst::SeekType::Set);
        // What is on the bus is about what was before.
        let is_async = [gst::MessageType::AsyncDone, gst::MessageType::Eos];
        while self.bus.pop_filtered(&is_async).is_some() {}
        self.pipeline
            .seek(rate, flags, from_type, from, to_type, to)
            .unwrap();
    }

    fn seek_all(&self, rate: f64) {
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        self.seek(rate, flags, gst::ClockTime::ZERO, END);
    }

    /// Plays to the end, and returns the frames that came from here on.
    fn play_to_the_end(&self) -> Vec<u64> {
        self.take();
        self.set(gst::State::Playing);
        wait_for(&self.bus, gst::MessageType::Eos);
        self.take()
    }

    fn count(&self, name: &str) -> u64 {
        let stats: gst::Structure = self.element.property("stats");
        stats.get(name).unwrap()
    }

    /// A branch of this name that ends in a fakesink.
    fn request(&self, name: &str) -> (gst::Pad, gst::Element) {
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .property("sync", false);
        let sink = sink.build().unwrap();
        self.pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        let pad = self.element.request_pad_simple(name).unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        (pad, sink)
    }

    fn release(&self, (pad, sink): (gst::Pad, gst::Element)) {
        self.element.release_request_pad(&pad);
        take_out(&self.pipeline, &sink);
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn all() -> Vec<u64> {
    (0..FRAMES).collect()
}

#[test]
fn scrubbing_in_pause_shows_each_frame_that_was_asked_for_with_its_own_object() {
    for options in ["", "max-in-flight=3"] {
        let player = Player::paused(options);
        player.take();
        for number in [20, 3, 31, 0, 17, 18, 16, 30, 1] {
            let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
            player.seek(1.0, flags, FRAME * number, END);
            wait_for(&player.bus, gst::MessageType::AsyncDone);
            assert_eq!(player.take(), [number], "{options}");
        }
    }
}

#[test]
fn clips_play_fast_and_backwards_and_again_after_their_end_without_losing_a_frame() {
    for options in ["max-in-flight=3", "tracker=bytetrack"] {
        let player = Player::paused(options);
        let mut first = player.take();
        first.extend(player.play_to_the_end());
        assert_eq!(first, all(), "{options}");
        for rate in [2.0, 0.5] {
            player.set(gst::State::Paused);
            player.take();
            player.seek_all(rate);
            player.set(gst::State::Playing);
            wait_for(&player.bus, gst::MessageType::Eos);
            assert_eq!(player.take(), all(), "{options} at {rate}");
        }
        player.set(gst::State::Paused);
        player.take();
        player.seek_all(-1.0);
        player.set(gst::State::Playing);
        wait_for(&player.bus, gst::MessageType::Eos);
        let mut backwards = all();
        backwards.reverse();
        assert_eq!(player.take(), backwards, "{options}");
        assert_eq!(player.count("frames"), player.count("inspected"));
    }
}

#[test]
fn loops_of_segments_run_over_without_a_gap() {
    let player = Player::paused("max-in-flight=2");
    let segment = gst::SeekFlags::SEGMENT | gst::SeekFlags::ACCURATE;
    let (from, to) = (FRAME * 8, FRAME * 24);
    player.seek(1.0, segment | gst::SeekFlags::FLUSH, from, to);
    wait_for(&player.bus, gst::MessageType::AsyncDone);
    player.set(gst::State::Playing);
    for _ in 0..3 {
        wait_for(&player.bus, gst::MessageType::SegmentDone);
        player.seek(1.0, segment, from, to);
    }
    wait_for(&player.bus, gst::MessageType::SegmentDone);
    let loops: Vec<u64> = (0..4).flat_map(|_| 8..24).collect();
    // The demuxer says so before its last frames are there, and a frame of before may have been in preroll.
    let start = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < loops.len() {
        assert!(start.elapsed() < LONG, "{seen:?}");
        std::thread::sleep(Duration::from_millis(5));
        let begin = |seen: &[u64]| seen.iter().position(|number| *number == 8);
        seen.extend(player.take());
        seen.drain(..begin(&seen).unwrap_or(0));
    }
    assert_eq!(seen, loops);
}

#[test]
fn pauses_at_any_moment_lose_no_frame() {
    let player = Player::paused("max-in-flight=2");
    let mut seen = player.take();
    for round in 0..20 {
        player.pipeline.set_state(gst::State::Playing).unwrap();
        std::thread::sleep(Duration::from_millis(round % 5));
        player.pipeline.set_state(gst::State::Paused).unwrap();
    }
    player.set(gst::State::Playing);
    wait_for(&player.bus, gst::MessageType::Eos);
    seen.extend(player.take());
    assert_eq!(seen, all());
}

#[test]
fn every_state_may_be_changed_to_from_every_other() {
    let player = Player::paused("");
    let states = [
        gst::State::Null,
        gst::State::Ready,
        gst::State::Paused,
        gst::State::Playing,
    ];
    for from in states {
        for to in states {
            player.set(from);
            player.set(to);
        }
    }
    player.set(gst::State::Ready);
    player.take();
    player.set(gst::State::Paused);
    let mut seen = player.take();
    seen.extend(player.play_to_the_end());
    assert_eq!(seen, all());
}

#[test]
fn pads_that_come_and_go_in_pause_and_while_playing_and_seeking_get_a_line_for_each_frame() {
    let player = Player::paused("json-overflow=block crop-overflow=block");
    for round in 0..6 {
        let lines = player.request("detections");
        let crops = player.request("crops");
        let before = player.count("json-lines");
        let crops_before = player.count("crops");
        player.seek_all(1.0);
        player.set(gst::State::Playing);
        if round % 2 == 0 {
            // In mid-stream once more.
            player.seek_all(1.0);
        }
        wait_for(&player.bus, gst::MessageType::Eos);
        let counted = || {
            (
                player.count("json-lines") - before,
                player.count("crops") - crops_before,
            )
        };
        let start = Instant::now();
        while counted() < (FRAMES, FRAMES) {
            assert!(start.elapsed() < LONG, "{:?}", counted());
            std::thread::sleep(Duration::from_millis(5));
        }
        if round % 2 == 1 {
            assert_eq!(counted(), (FRAMES, FRAMES));
        }
        if round % 3 == 0 {
            player.set(gst::State::Paused);
        }
        player.release(lines);
        player.release(crops);
        player.take();
    }
}
