//! Many streams at once, which come, go and fail.

use super::*;

/// One of many cameras. Its size, format, colour and model are its own, and each of its frames shows one object, at a
/// place that no other camera's frame of that number has.
struct Camera {
    number: usize,
    frames: Vec<(gst::Buffer, gstrsdetectnet::BoundingBox)>,
    stream: Stream,
}

impl Camera {
    const DIFFERENT_FRAMES: usize = 8;

    fn start(number: usize) -> Self {
        let model = match number % 2 {
            0 => "colors-ssd.onnx",
            _ => "colors-yolov5.onnx",
        };
        let (width, height) = [(64, 64), (320, 320), (333, 333), (640, 640)][number % 4];
        let format = match number % 8 {
            0 => VideoFormat::Nv12,
            3 => VideoFormat::I420,
            _ => VideoFormat::Rgb,
        };
        let mut caps = None;
        let frames = (0..Self::DIFFERENT_FRAMES).map(|frame| {
            let (column, row) = Self::place(number, frame);
            let (_, color) = COLORS[number % 3];
            let picture = Picture::grey(width, height).with_cell(column, row, color);
            let sample = picture.converted(format, None);
            caps = sample.caps_owned();
            (
                sample.buffer_owned().unwrap(),
                picture.cell_box(column, row),
            )
        });
        let frames = frames.collect();
        let in_flight = [1, 2, 4][number / 2 % 3];
        let element = colors_element(model).property("max-in-flight", in_flight as u32);
        let info = gst_video::VideoInfo::from_caps(&caps.unwrap()).unwrap();
        Self {
            number,
            frames,
            stream: Stream::playing(&element.build().unwrap(), &info),
        }
    }

    fn place(number: usize, frame: usize) -> (u32, u32) {
        let cell = ((number + 9 * frame) % 64) as u32;
        (cell % 8, cell / 8)
    }

    /// Pushes frames as fast as they go.
    fn run(&self, frames: usize) {
        for (number, (buffer, _)) in (0..frames).zip(self.frames.iter().cycle()) {
            let mut buffer = buffer.copy();
            let pts = gst::ClockTime::from_mseconds(number as u64);
            buffer.get_mut().unwrap().set_pts(pts);
            self.stream.source.push(buffer).unwrap();
        }
        assert!(self.stream.source.push_event(gst::event::Eos::new()));
        self.stream.sink.wait_for(gst::EventType::Eos);
    }

    /// Every frame came out, in order, with its own object and nothing else.
    fn check(&self, frames: usize) {
        let mut count = 0;
        for passed in self.stream.sink.passed() {
            let Passed::Frame {
                pts, detections, ..
            } = passed
            else {
                continue;
            };
            assert_eq!(pts, Some(gst::ClockTime::from_mseconds(count as u64)));
            let (_, bounding_box) = self.frames[count % self.frames.len()];
            let (label, _) = COLORS[self.number % 3];
            // Blocks of odd pictures are cut at whole pixels, and chroma has half of them.
            assert_found(&detections, &[(label, bounding_box)], 0.9, 0.7);
            count += 1;
        }
        assert_eq!(count, frames, "camera {}", self.number);
        assert_eq!(self.stream.error(), None);
    }
}

#[test]
fn sixty_four_streams_under_load_each_find_their_own_objects() {
    const CAMERAS: usize = 64;
    const FRAMES: usize = 60;
    init();
    let cameras: Vec<_> = (0..CAMERAS).map(Camera::start).collect();
    for camera in &cameras {
        assert_eq!(sharing(&camera.stream) as usize, CAMERAS / 2);
    }
    let begin = Instant::now();
    thread::scope(|scope| {
        for camera in &cameras {
            scope.spawn(|| camera.run(FRAMES));
        }
    });
    println!(
        "{CAMERAS} streams of {FRAMES} frames took {:?}",
        begin.elapsed()
    );
    for camera in &cameras {
        camera.check(FRAMES);
    }
}

#[test]
fn streams_that_come_and_go_do_not_disturb_the_others() {
    const FRAMES: usize = 400;
    init();
    let steady: Vec<_> = (0..4).map(Camera::start).collect();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let running: Vec<_> = steady
            .iter()
            .map(|camera| scope.spawn(|| camera.run(FRAMES)))
            .collect();
        for guest in 0..3 {
            let done = &done;
            scope.spawn(move || {
                for round in 0.. {
                    if done.load(Ordering::SeqCst) {
                        break;
                    }
                    let camera = Camera::start(4 + 7 * guest + 5 * (round % 12));
                    camera.run(20);
                    camera.check(20);
                }
            });
        }
        let outcomes: Vec<_> = running.into_iter().map(|running| running.join()).collect();
        done.store(true, Ordering::SeqCst);
        assert!(outcomes.iter().all(Result::is_ok));
    });
    for camera in &steady {
        camera.check(FRAMES);
        assert_eq!(sharing(&camera.stream), 2);
    }
}

#[test]
fn two_elements_of_one_pipeline_share_a_model() {
    for in_flight in [1, 4] {
        init();
        let detector = format!(
            "rsdetectnet max-in-flight={in_flight} model={} labels={}",
            model("colors-ssd.onnx"),
            tests_file("models/colors.labels.txt").display(),
        );
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=50 ! {detector} name=first ! {detector} name=second ! fakesink"
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let end = [gst::MessageType::Eos, gst::MessageType::Error];
        let timeout = gst::ClockTime::try_from(LONG).unwrap();
        let message = pipeline.bus().unwrap().timed_pop_filtered(timeout, &end);
        let ended = message.map(|message| message.type_());
        assert_eq!(ended, Some(gst::MessageType::Eos));
        for name in ["first", "second"] {
            let detector = pipeline.by_name(name).unwrap();
            let stats = detector.property::<gst::Structure>("stats");
            assert_eq!(stats.get::<u32>("model-streams"), Ok(2));
            assert_eq!(stats.get::<u64>("inspected"), Ok(50));
        }
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn an_element_that_fails_fails_alone() {
    let streams: Vec<_> = (0..4).map(|_| start(colors())).collect();
    let done = AtomicBool::new(false);
    let frames = AtomicU64::new(0);
    thread::scope(|scope| {
        for stream in &streams {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    stream.source.push(four_cells().buffer()).unwrap();
                    frames.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..10 {
            for builder in [
                colors().property("model", model("broken.onnx")),
                colors().property("model", model("classifier.onnx")),
                colors().property("labels", "/no/labels.txt"),
                colors().property("classes", "unicorn"),
            ] {
                let element = builder.build().unwrap();
                assert!(element.set_state(gst::State::Paused).is_err());
                element.set_state(gst::State::Null).unwrap();
            }
            // One that shares the model, but whose frames are not what its caps say.
            let truncated = start(colors());
            let pushed = truncated.source.push(gst::Buffer::with_size(100).unwrap());
            assert_eq!(pushed, Err(gst::FlowError::Error));
            assert!(truncated.error().is_some());
        }
        let so_far = frames.load(Ordering::SeqCst);
        let begin = Instant::now();
        while frames.load(Ordering::SeqCst) < so_far + 40 {
            assert!(begin.elapsed() < LONG, "the others stand still");
            thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Ordering::SeqCst);
    });
    for stream in &streams {
        assert_eq!(stream.error(), None);
        assert_eq!(sharing(stream), 4);
    }
}
