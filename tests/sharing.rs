//! Elements of one process that ask for the same model share it, and nothing else: settings, results and failures are
//! each element's own.

mod common;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::pads::*;
use common::*;
use gst::prelude::*;
use gst_video::VideoFormat;

const COLORS: [(&str, [u8; 3]); 3] = [("red", RED), ("green", GREEN), ("blue", BLUE)];

fn colors() -> Builder {
    colors_element("colors-ssd.onnx")
}

fn start(builder: Builder) -> Stream {
    let info = Picture::grey(64, 64).info();
    Stream::playing(&builder.build().unwrap(), &info)
}

fn sharing(stream: &Stream) -> u32 {
    stream.stats().get("model-streams").unwrap()
}

/// The labels that the element finds in [`four_cells`].
fn labels(stream: &Stream) -> Vec<String> {
    stream.sink.take();
    stream.source.push(four_cells().buffer()).unwrap();
    stream.sink.wait_for_frames(1);
    let found = stream
        .sink
        .take()
        .into_iter()
        .find_map(|passed| match passed {
            Passed::Frame { detections, .. } => Some(detections),
            _ => None,
        });
    found
        .unwrap()
        .into_iter()
        .map(|found| found.label)
        .collect()
}

#[test]
fn elements_with_equal_options_share_a_model_until_they_stop() {
    let first = start(colors());
    assert_eq!(sharing(&first), 1);
    let second = start(colors());
    // What concerns the results alone does not matter.
    let other_results = start(
        colors()
            .property("threshold", 0.9f32)
            .property("classes", "red")
            .property("max-detections", 1u32)
            .property("interval", 3u32)
            .property("max-in-flight", 4u32)
            .property("overlay", "box"),
    );
    for stream in [&first, &second, &other_results] {
        assert_eq!(sharing(stream), 3);
    }
    second.element.set_state(gst::State::Ready).unwrap();
    assert_eq!([&first, &second, &other_results].map(sharing), [2, 0, 2]);
    second.element.set_state(gst::State::Playing).unwrap();
    assert_eq!([&first, &second, &other_results].map(sharing), [3, 3, 3]);
    drop(first);
    drop(other_results);
    assert_eq!(sharing(&second), 1);
}

#[test]
fn elements_with_other_options_have_a_model_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let same_labels = folder.path().join("labels.txt");
    std::fs::copy(tests_file("models/colors.labels.txt"), &same_labels).unwrap();
    let same_model = folder.path().join("colors-ssd.onnx");
    std::fs::copy(model("colors-ssd.onnx"), &same_model).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let streams = [
        start(colors()),
        start(colors().property("model-instance-id", "gate")),
        start(colors().property("model-instance-id", "garden")),
        start(colors().property("threads", 1u32)),
        start(colors().property_from_str("scaling", "area")),
        start(colors().property("labels", text(&same_labels))),
        start(colors().property("model", text(&same_model))),
        start(colors_element("colors-ssd-nhwc-uint8.onnx")),
    ];
    for stream in &streams {
        assert_eq!(sharing(stream), 1);
        assert_eq!(labels(stream), ["red", "red", "blue", "green"]);
    }
    let second_at_the_gate = start(colors().property("model-instance-id", "gate"));
    assert_eq!(sharing(&second_at_the_gate), 2);
    assert_eq!(streams.each_ref().map(sharing), [1, 2, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_model_file_that_was_replaced_is_loaded_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let element = || {
        let builder = colors().property("model", path.to_str().unwrap().to_owned());
        builder.property("labels", None::<String>)
    };
    std::fs::copy(model("colors-ssd.onnx"), &path).unwrap();
    let before = start(element());
    std::fs::copy(model("colors-yolov5.onnx"), &path).unwrap();
    let after = start(element());
    assert_eq!((sharing(&before), sharing(&after)), (1, 1));
    // The labels of the one are numbers, those of the other are in the model.
    assert_eq!(labels(&before)[0], "class 1");
    assert_eq!(labels(&after)[0], "red");
}

#[test]
fn settings_of_the_results_are_each_element_s_own() {
    let all = start(colors());
    let strict = start(colors().property("threshold", 0.7f32));
    let chosen = start(colors().property("classes", "green:0.55,Blue"));
    let few = start(colors().property("max-detections", 2u32));
    assert_eq!(sharing(&all), 4);
    for _ in 0..3 {
        assert_eq!(labels(&all), ["red", "red", "blue", "green"]);
        assert_eq!(labels(&strict), ["red", "red", "blue"]);
        assert_eq!(labels(&chosen), ["blue", "green"]);
        assert_eq!(labels(&few), ["red", "red"]);
    }
    strict.element.set_property("threshold", 0.1f32);
    assert_eq!(labels(&strict), ["red", "red", "blue", "green"]);
    assert_eq!(labels(&few), ["red", "red"]);
}

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

#[test]
fn elements_that_start_at_once_all_share_one_model() {
    const ELEMENTS: usize = 16;
    // The bundled model takes longest to load.
    let streams: Vec<_> = {
        init();
        let start = Barrier::new(ELEMENTS);
        let started = Barrier::new(ELEMENTS);
        thread::scope(|scope| {
            let begin = || {
                let element = gst::ElementFactory::make("rsdetectnet").build().unwrap();
                start.wait();
                let stream = Stream::playing(&element, &four_cells().info());
                stream.source.push(four_cells().buffer()).unwrap();
                started.wait();
                stream
            };
            let threads: Vec<_> = (0..ELEMENTS).map(|_| scope.spawn(begin)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        })
    };
    for stream in &streams {
        assert_eq!(sharing(stream) as usize, ELEMENTS);
        assert_eq!(frames(&stream.sink.passed()), 1);
        assert_eq!(stream.error(), None);
    }
}

#[test]
fn elements_that_start_a_broken_model_at_once_all_fail() {
    const ELEMENTS: usize = 16;
    init();
    let start = Barrier::new(ELEMENTS);
    thread::scope(|scope| {
        for _ in 0..ELEMENTS {
            scope.spawn(|| {
                let builder = colors().property("model", model("broken.onnx"));
                let element = builder.build().unwrap();
                let bus = listen(&element);
                start.wait();
                // Who waited for another one to load it is told with the first frame.
                if element.set_state(gst::State::Paused).is_ok() {
                    let mut harness =
                        gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
                    harness.set_src_caps(four_cells().info().to_caps().unwrap());
                    assert_eq!(
                        harness.push(four_cells().buffer()),
                        Err(gst::FlowError::Error)
                    );
                }
                let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
                let gst::MessageView::Error(error) = message.view() else {
                    unreachable!()
                };
                let text = error.error().to_string();
                assert!(text.contains("not an ONNX model"), "{text}");
                element.set_state(gst::State::Null).unwrap();
            });
        }
    });
}

/// A file that nobody can open meanwhile: opening it waits (fcntl(2), "Leases").
struct Lease(std::fs::File);

impl Lease {
    fn take(path: &Path) -> Self {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        // SAFETY: a signal that tells of who waits is ignored, and the file is open.
        let taken = unsafe {
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK)
        };
        assert_eq!(taken, 0, "{}", std::io::Error::last_os_error());
        Self(file)
    }

    fn give_up(self) {
        drop(self.0);
    }
}

#[test]
fn who_waits_for_another_s_load_can_be_stopped_and_who_goes_on_waiting_gets_the_model() {
    init();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    std::fs::copy(tests_file("models/colors.labels.txt"), &path).unwrap();
    // Whoever loads the model waits for this to be given up.
    let lease = Lease::take(&path);
    let element = || {
        let builder = colors().property("labels", path.to_str().unwrap().to_owned());
        builder.build().unwrap()
    };
    let (loading, stopped, patient) = (element(), element(), element());
    thread::scope(|scope| {
        let (started, is_started) = mpsc::channel();
        let loads = loading.clone();
        scope.spawn(move || {
            started
                .send(loads.set_state(gst::State::Paused).is_ok())
                .unwrap()
        });
        // It is the loading one's turn once a thread of it reads the labels.
        wait_for_thread("rsdetectnet-load");
        thread::sleep(Duration::from_millis(300));

        assert!(stopped.set_state(gst::State::Paused).is_ok());
        let waiting = Stream::playing(&patient, &four_cells().info());
        let begin = Instant::now();
        stopped.set_state(gst::State::Null).unwrap();
        println!("stopped after {:?}", begin.elapsed());
        assert!(begin.elapsed() < Duration::from_secs(5));
        assert!(
            is_started.try_recv().is_err(),
            "the model was loaded already"
        );

        let pushed = scope.spawn(move || {
            waiting.source.push(four_cells().buffer()).unwrap();
            waiting
        });
        // Its frame comes before its model.
        thread::sleep(Duration::from_millis(200));
        lease.give_up();
        assert_eq!(is_started.recv_timeout(LONG), Ok(true));
        let waiting = pushed.join().unwrap();
        assert_eq!(sharing(&waiting), 2);
        assert_eq!(labels(&waiting), ["red", "red", "blue", "green"]);
        let stats: gst::Structure = patient.property("stats");
        let counts = ["frames", "inspected"].map(|name| stats.get::<u64>(name).unwrap());
        assert_eq!(counts, [2, 2], "{stats}");
    });
    loading.set_state(gst::State::Null).unwrap();
}

fn wait_for_thread(name: &str) {
    let begin = Instant::now();
    let is_there = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        // The kernel keeps 15 bytes of a name.
        names
            .into_iter()
            .any(|task| name.starts_with(task.trim_end()))
    };
    while !is_there() {
        assert!(begin.elapsed() < LONG, "there is no thread {name}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Bytes of this process's one heap that are allocated. How much of the heap lies in memory says less: what was freed
/// between two blocks stays there.
fn allocated() -> usize {
    // SAFETY: the call has no preconditions.
    let heap = unsafe { libc::mallinfo2() };
    heap.uordblks + heap.hblkhd
}

#[test]
fn the_last_one_out_frees_everything() {
    // Alone in a process, so that threads and memory are those of this test.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_starts_and_stops",
            "--ignored",
            "--nocapture",
        ])
        // One heap for all threads, of which `allocated` tells.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}"
    );
    println!("{text}");
}

#[test]
#[ignore = "run by the_last_one_out_frees_everything"]
fn child_starts_and_stops() {
    const SETTLED: usize = 3;
    const CYCLES: usize = 12;
    /// A model left behind by each cycle would be 70 MB.
    const MAY_GROW: usize = 1 << 20;
    let cycle = || {
        init();
        let element = || gst::ElementFactory::make("rsdetectnet").build().unwrap();
        let streams: Vec<_> = (0..3)
            .map(|_| Stream::playing(&element(), &four_cells().info()))
            .collect();
        thread::scope(|scope| {
            for stream in &streams {
                scope.spawn(|| {
                    for _ in 0..5 {
                        stream.source.push(four_cells().buffer()).unwrap();
                    }
                });
            }
        });
        assert_eq!(sharing(&streams[0]), 3);
    };
    let before = threads();
    cycle();
    // ONNX Runtime keeps one thread from its first use on.
    wait_for_threads(before + 1);
    let begin = Instant::now();
    let held: Vec<usize> = (0..CYCLES)
        .map(|_| {
            cycle();
            // Copies of the model that were under way are dropped by their threads.
            wait_for_threads(before + 1);
            allocated()
        })
        .collect();
    let grown = held[CYCLES - 1].saturating_sub(held[SETTLED]);
    println!(
        "{grown} bytes grew over {} cycles of {:?}: {held:?}",
        CYCLES - 1 - SETTLED,
        begin.elapsed() / CYCLES as u32
    );
    assert!(grown < MAY_GROW, "{grown} bytes grew");
}
