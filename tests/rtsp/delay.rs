//! The delay from the moment at which a camera takes a picture to the moment at which it is known what is in it, with a
//! model that is slower than the camera. Camera and detection are in one process, so that one clock measures both.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_rtsp_server::RTSPMediaFactory;
use gst_rtsp_server::prelude::*;
use gst_video::prelude::*;

use crate::common::{model, tests_file};
use crate::server::Server;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
const FRAME: Duration = Duration::from_millis(40);
const MAX_LATENCY: Duration = Duration::from_millis(300);
/// What encoding, the network, decoding and a busy machine may add before the element sees a frame as late.
const GRACE: Duration = Duration::from_millis(150);

/// A frame's number and its complement are blocks of the lowest rows, a dark or a bright one for each bit.
const BITS: usize = 32;
const BLOCK: usize = WIDTH / BITS;

fn bits(number: usize) -> usize {
    number | (!number & 0xffff) << 16
}

/// A picture in I420 with a red cell, in which the models of the tests find one, and a number.
fn picture(number: usize) -> Vec<u8> {
    let (half_width, half_height) = (WIDTH / 2, HEIGHT / 2);
    let mut luma = vec![114; WIDTH * HEIGHT];
    let mut chroma = [
        vec![128; half_width * half_height],
        vec![128; half_width * half_height],
    ];
    let (left, top, width, height) = (WIDTH / 4, HEIGHT / 4, WIDTH / 8, HEIGHT / 8);
    for row in top..top + height {
        luma[row * WIDTH + left..][..width].fill(82);
        for (plane, value) in chroma.iter_mut().zip([90, 240]) {
            plane[row / 2 * half_width + left / 2..][..width / 2].fill(value);
        }
    }
    for row in HEIGHT - BLOCK..HEIGHT {
        for bit in 0..BITS {
            let level = if bits(number) >> bit & 1 == 1 {
                190
            } else {
                60
            };
            luma[row * WIDTH + bit * BLOCK..][..BLOCK].fill(level);
        }
    }
    luma.into_iter().chain(chroma.concat()).collect()
}

/// The number in a picture that was encoded and decoded; none where parts of it were lost on the way.
fn number(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<usize> {
    let info = gst_video::VideoInfo::from_caps(&pad.current_caps().unwrap()).unwrap();
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &info).unwrap();
    let stride = frame.comp_stride(0) as usize;
    let row = &frame.plane_data(0).unwrap()[(HEIGHT - BLOCK / 2) * stride..];
    let is_set = |bit: usize| row[bit * BLOCK + BLOCK / 2] > 125;
    let set = (0..BITS).filter(|&bit| is_set(bit));
    let found: usize = set.map(|bit| 1 << bit).sum();
    let number = found & 0xffff;
    (bits(number) == found).then_some(number)
}

/// A camera of 25 frames a second, and the time at which each was taken.
fn camera() -> (Server, Arc<Mutex<Vec<Instant>>>) {
    crate::common::init();
    let factory = RTSPMediaFactory::new();
    factory.set_launch(&format!(
        "( appsrc name=lens is-live=true do-timestamp=true format=time max-bytes=0 \
         caps=video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate=25/1 \
         ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 )"
    ));
    let taken = Arc::new(Mutex::new(Vec::new()));
    let noted = taken.clone();
    factory.connect_media_configure(move |_, media| {
        let bin = media.element().downcast::<gst::Bin>().unwrap();
        let lens = bin.by_name("lens").unwrap();
        let lens = lens.downcast::<gst_app::AppSrc>().unwrap();
        let noted = noted.clone();
        std::thread::spawn(move || {
            let mut next = Instant::now();
            for number in 0.. {
                let buffer = gst::Buffer::from_mut_slice(picture(number));
                noted.lock().unwrap().push(Instant::now());
                if lens.push_buffer(buffer).is_err() {
                    break;
                }
                next += FRAME;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
    });
    (Server::with(&factory, None), taken)
}

/// A frame that left the element.
struct Passed {
    number: usize,
    at: Instant,
    objects: usize,
}

struct Watched {
    frames: Vec<(Passed, Duration)>,
    stats: gst::Structure,
}

fn watch(policy: &str, duration: Duration) -> Watched {
    let (server, taken) = camera();
    let pipeline = gst::parse::launch(&format!(
        "rtspsrc location={} protocols=tcp latency=100 drop-on-latency=true ! application/x-rtp,media=video \
         ! decodebin ! videoconvert ! video/x-raw,format=I420 \
         ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=5000000000 \
         ! rsdetectnet name=detector model={} labels={} max-latency={} late-policy={policy} \
         ! fakesink name=sink sync=false",
        server.url(),
        model("slow-ssd.onnx"),
        tests_file("models/colors.labels.txt").display(),
        MAX_LATENCY.as_millis(),
    ));
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let passed = passed_frames(&pipeline);
    pipeline.set_state(gst::State::Playing).unwrap();
    let first = passed
        .recv_timeout(Duration::from_secs(30))
        .expect("no frame");
    std::thread::sleep(duration);
    let stats = pipeline.by_name("detector").unwrap().property("stats");
    pipeline.set_state(gst::State::Null).unwrap();
    drop(server);
    let taken = taken.lock().unwrap();
    let frames = std::iter::once(first).chain(passed.try_iter());
    let delay = |frame: &Passed| frame.at - taken[frame.number];
    let frames = frames.map(|frame| {
        let delay = delay(&frame);
        (frame, delay)
    });
    Watched {
        frames: frames.collect(),
        stats,
    }
}

fn passed_frames(pipeline: &gst::Pipeline) -> Receiver<Passed> {
    let (sender, receiver) = channel();
    let pad = pipeline.by_name("sink").unwrap();
    let pad = pad.static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let buffer = info.buffer().unwrap();
        if let Some(number) = number(pad, buffer) {
            let _ = sender.send(Passed {
                at: Instant::now(),
                number,
                objects: gstrsdetectnet::detections(buffer).len(),
            });
        }
        gst::PadProbeReturn::Ok
    });
    receiver
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// `RSDETECTNET_DELAY_SECONDS` makes of it a test of minutes.
fn is_bounded_with(policy: &str) {
    let seconds = std::env::var("RSDETECTNET_DELAY_SECONDS");
    let seconds = seconds.map_or(6, |seconds| seconds.parse().unwrap());
    let Watched { frames, stats } = watch(policy, Duration::from_secs(seconds));
    let inspected: Vec<_> = frames.iter().filter(|(f, _)| f.objects > 0).collect();
    let mut delays: Vec<_> = inspected.iter().map(|(_, delay)| *delay).collect();
    let (early, late) = delays.split_at(delays.len() / 2);
    let median = |delays: &[Duration]| {
        let mut delays = delays.to_vec();
        delays.sort();
        percentile(&delays, 0.5)
    };
    let (early, late) = (median(early), median(late));
    delays.sort();
    let count = |name| stats.get::<u64>(name).unwrap();
    let inference = u64::from(stats.get::<u32>("total-p50-us").unwrap());
    println!(
        "{policy}, {seconds} s: {} frames of the camera passed, {} inspected, {} late, {} dropped; \
         an inspection takes {} ms; from capture to detection {} ms (median), {} ms (99 %), {} ms (most); first half {} ms, second half {} ms",
        frames.len(),
        count("inspected"),
        count("late"),
        count("dropped"),
        inference / 1000,
        percentile(&delays, 0.5).as_millis(),
        percentile(&delays, 0.99).as_millis(),
        delays.last().unwrap().as_millis(),
        early.as_millis(),
        late.as_millis(),
    );
    assert!(inference > 40_000, "the model is faster than the camera");
    assert!(inspected.len() as u64 > seconds, "{}", inspected.len());
    assert!(count("late") + count("dropped") > 0);
    // A model that takes longer than that finds out what it can of the freshest frames.
    let most = GRACE + MAX_LATENCY.max(FRAME + slowest(&frames));
    assert!(delays.last().unwrap() < &most, "{delays:?}");
    assert!(late < early + MAX_LATENCY, "{early:?} {late:?}");
    match policy {
        "drop" => assert!(count("dropped") > 0 && frames.iter().all(|(f, _)| f.objects > 0)),
        // What the camera took is there to be seen.
        _ => {
            let taken = frames.last().unwrap().0.number - frames[0].0.number + 1;
            assert!(frames.len() * 10 > taken * 9, "{} of {taken}", frames.len());
        }
    }
}

/// The longest time between two frames: one inspection is within it.
fn slowest(frames: &[(Passed, Duration)]) -> Duration {
    let gaps = frames.windows(2).map(|two| two[1].0.at - two[0].0.at);
    gaps.max().unwrap_or_default()
}

#[test]
fn delay_is_bounded_where_late_frames_pass_uninspected() {
    is_bounded_with("skip-inference");
}

#[test]
fn delay_is_bounded_where_late_frames_are_dropped() {
    is_bounded_with("drop");
}
