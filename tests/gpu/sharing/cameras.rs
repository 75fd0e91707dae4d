//! Streams of decoded video, each of which shows objects that no other shows at that time and place.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_video::VideoFormat;
use gstrsdetectnet::{BoundingBox, LabeledDetection};

use crate::common::{BLUE, GREEN, Picture, RED, init};
use crate::media::{COLORS_SSD, shared_cache};
use crate::prepared;

const COLORS: [(&str, [u8; 3]); 3] = [("red", RED), ("green", GREEN), ("blue", BLUE)];
const SIZES: [(u32, u32); 4] = [(256, 256), (320, 240), (640, 480), (1280, 720)];
const FRAME: gst::ClockTime = gst::ClockTime::from_mseconds(40);
const DIFFERENT_FRAMES: usize = 4;
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// Ways from H.264 to the element: into CUDA memory, into NVMM memory, and into system memory.
const DECODERS: [(&str, &str); 3] = [
    ("nvh264dec", "nvh264dec ! video/x-raw(memory:CUDAMemory)"),
    ("nvv4l2decoder", "nvv4l2decoder ! video/x-raw(memory:NVMM)"),
    ("openh264dec", "openh264dec ! video/x-raw"),
];

/// The element. Its files are written once, as files that were written anew are another model.
static DETECTOR: LazyLock<String> = LazyLock::new(|| COLORS_SSD.detector(&shared_cache()));

fn present_decoders() -> Vec<&'static str> {
    init();
    let present = DECODERS.iter().filter(|(name, _)| {
        let found = gst::ElementFactory::find(name).is_some();
        if !found {
            println!("NOT TESTED: there is no {name} here");
        }
        found
    });
    present.map(|(_, description)| *description).collect()
}

/// What a camera shows in one of its frames, and what has to be found there.
fn scene(camera: usize, frame: usize) -> (Picture, &'static str, BoundingBox) {
    let (width, height) = SIZES[camera % SIZES.len()];
    let (label, color) = COLORS[camera % COLORS.len()];
    let cell = ((camera + 17 * frame) % 64) as u32;
    let (column, row) = (cell % 8, cell / 8);
    let picture = Picture::grey(width, height).with_cell(column, row, color);
    let bounding_box = picture.cell_box(column, row);
    (picture, label, bounding_box)
}

/// A camera's frames, each an access unit that needs no other one.
fn encode(camera: usize) -> (gst::Caps, Vec<gst::Buffer>) {
    let pipeline = gst::parse::launch(
        "appsrc name=source format=time ! x264enc tune=zerolatency key-int-max=1 bitrate=20000 \
         ! video/x-h264,profile=constrained-baseline ! h264parse config-interval=-1 \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=sink sync=false",
    );
    let pipeline = pipeline.unwrap().downcast::<gst::Pipeline>().unwrap();
    let source = pipeline
        .by_name("source")
        .and_downcast::<gst_app::AppSrc>()
        .unwrap();
    let sink = pipeline
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    for frame in 0..DIFFERENT_FRAMES {
        let (picture, ..) = scene(camera, frame);
        let sample = picture.converted(VideoFormat::I420, None);
        let mut buffer = sample.buffer_owned().unwrap();
        let edit = buffer.make_mut();
        edit.set_pts(FRAME * frame as u64);
        edit.set_duration(FRAME);
        source.set_caps(sample.caps_owned().as_ref());
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let samples: Vec<_> = std::iter::from_fn(|| sink.try_pull_sample(PATIENCE)).collect();
    pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(samples.len(), DIFFERENT_FRAMES);
    let units = samples.iter().map(|sample| sample.buffer_owned().unwrap());
    (samples[0].caps_owned().unwrap(), units.collect())
}

/// What came out of a camera's element.
#[derive(Default)]
struct Seen {
    frames: AtomicU64,
    /// The first frame that is not what it must be.
    wrong: Mutex<Option<String>>,
}

impl Seen {
    fn check(&self, camera: usize, pts: Option<gst::ClockTime>, found: &[LabeledDetection]) {
        let number = self.frames.fetch_add(1, Ordering::SeqCst);
        let (_, label, bounding_box) = scene(camera, number as usize % DIFFERENT_FRAMES);
        let right = match found {
            [found] => {
                let detection = found.detection;
                found.label == label
                    && detection.bounding_box.iou(&bounding_box) >= 0.95
                    && detection.confidence >= 0.8
            }
            _ => false,
        };
        if !right || pts != Some(FRAME * number) {
            let text = format!(
                "frame {number} of camera {camera}, {pts:?}: {found:?} instead of {label} at {bounding_box:?}"
            );
            self.wrong.lock().unwrap().get_or_insert(text);
        }
    }
}

/// A camera in a pipeline of its own, as people write it.
struct Camera {
    pipeline: gst::Pipeline,
    detector: gst::Element,
    seen: Arc<Seen>,
    ends: Arc<AtomicBool>,
}

impl Camera {
    fn new(number: usize, decoder: &str) -> Self {
        let (caps, units) = encode(number);
        let detector = &*DETECTOR;
        let description = format!(
            "appsrc name=source format=time ! h264parse ! {decoder} ! {detector} ! fakesink sync=false"
        );
        let pipeline = gst::parse::launch(&description).unwrap();
        let pipeline = pipeline.downcast::<gst::Pipeline>().unwrap();
        let detector = pipeline.by_name("detector").unwrap();
        let (seen, ends) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let checks = Arc::clone(&seen);
        let out = detector.static_pad("src").unwrap();
        out.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let buffer = info.buffer().unwrap();
            checks.check(number, buffer.pts(), &gstrsdetectnet::detections(buffer));
            gst::PadProbeReturn::Ok
        });
        let source = pipeline
            .by_name("source")
            .and_downcast::<gst_app::AppSrc>()
            .unwrap();
        source.set_caps(Some(&caps));
        source.set_max_buffers(2);
        let (mut next, shall_end) = (0, Arc::clone(&ends));
        let feed = move |source: &gst_app::AppSrc, _: u32| {
            if shall_end.load(Ordering::SeqCst) {
                let _ = source.end_of_stream();
                return;
            }
            let mut unit = units[next % units.len()].copy();
            let edit = unit.make_mut();
            edit.set_pts(FRAME * next as u64);
            edit.set_dts(FRAME * next as u64);
            let _ = source.push_buffer(unit);
            next += 1;
        };
        source.set_callbacks(gst_app::AppSrcCallbacks::builder().need_data(feed).build());
        Self {
            pipeline,
            detector,
            seen,
            ends,
        }
    }

    fn start(&self) {
        if self.pipeline.set_state(gst::State::Playing).is_err() {
            panic!("{:?}", self.error());
        }
    }

    fn error(&self) -> Option<String> {
        let message = self
            .pipeline
            .bus()
            .unwrap()
            .pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => {
                Some(format!("{} {:?}", error.error(), error.debug()))
            }
            _ => None,
        }
    }

    fn frames(&self) -> u64 {
        self.seen.frames.load(Ordering::SeqCst)
    }

    /// Waits until all that is on its way has come out.
    fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self
            .pipeline
            .bus()
            .unwrap()
            .timed_pop_filtered(PATIENCE, &end);
        let ended = message.as_ref().map(|message| message.type_());
        assert_eq!(ended, Some(gst::MessageType::Eos), "{message:?}");
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn sixty_four_decoded_streams_under_load_each_find_their_own_objects() {
    const CAMERAS: usize = 64;
    const MEASURED: Duration = Duration::from_secs(5);
    let decoders = present_decoders();
    prepared::listen();
    let cameras: Vec<_> = thread::scope(|scope| {
        let made = (0..CAMERAS).map(|number| {
            // Sizes and decoders mix in every way.
            let decoder = decoders[number / SIZES.len() % decoders.len()];
            scope.spawn(move || Camera::new(number, decoder))
        });
        let made: Vec<_> = made.collect();
        made.into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for camera in &cameras {
        camera.start();
    }
    // Two frames of each are under way, in two batches.
    prepared::wait_for_batches_of(32);
    let (begin, before) = (
        Instant::now(),
        cameras.iter().map(Camera::frames).sum::<u64>(),
    );
    thread::sleep(MEASURED);
    let frames = cameras.iter().map(Camera::frames).sum::<u64>() - before;
    println!(
        "{CAMERAS} cameras of {decoders:?}: {:.0} frames a second",
        frames as f64 / begin.elapsed().as_secs_f64()
    );
    for camera in &cameras {
        let stats = camera.detector.property::<gst::Structure>("stats");
        let sharing: u32 = stats.get("model-streams").unwrap();
        assert_eq!(sharing as usize, CAMERAS, "{stats}");
        camera.end();
    }
    for camera in &cameras {
        assert_eq!(*camera.seen.wrong.lock().unwrap(), None);
        assert!(
            camera.frames() > 50,
            "a camera is left behind: {} frames",
            camera.frames()
        );
    }
    let counts: Vec<_> = cameras.iter().map(Camera::frames).collect();
    println!("frames of each: {counts:?}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn streams_that_come_and_go_in_mid_stream_do_not_disturb_the_others() {
    const STEADY: usize = 9;
    const LASTS: Duration = Duration::from_secs(10);
    let decoders = present_decoders();
    prepared::listen();
    let steady: Vec<_> = (0..STEADY)
        .map(|number| Camera::new(number, decoders[number % decoders.len()]))
        .collect();
    steady.iter().for_each(Camera::start);
    let begin = Instant::now();
    let guests = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (decoders, guests) = (&decoders, &guests);
            scope.spawn(move || {
                for round in 0.. {
                    if begin.elapsed() > LASTS {
                        return;
                    }
                    let number = STEADY + 4 * (round % 12) + thread;
                    let guest = Camera::new(number, decoders[number % decoders.len()]);
                    guest.start();
                    thread::sleep(Duration::from_millis(37 * (round as u64 % 9)));
                    if round % 3 == 0 {
                        guest.end();
                    }
                    // Else it stops with frames under way.
                    let error = guest.error();
                    let _ = guest.pipeline.set_state(gst::State::Null);
                    assert_eq!(error, None);
                    assert_eq!(*guest.seen.wrong.lock().unwrap(), None);
                    guests.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    println!("{} guests came and went", guests.load(Ordering::SeqCst));
    for camera in &steady {
        let before = camera.frames();
        thread::sleep(Duration::from_millis(500));
        assert!(camera.frames() > before, "a camera stands still");
        camera.end();
        assert_eq!(*camera.seen.wrong.lock().unwrap(), None);
        let stats = camera.detector.property::<gst::Structure>("stats");
        assert_eq!(stats.get::<u32>("model-streams").unwrap() as usize, STEADY);
    }
}
