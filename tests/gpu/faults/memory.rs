//! Memory of the GPU runs out: at a build, at a start, while frames come, for larger batches, for crops.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cust::sys;
use gst::prelude::*;
use gst_video::VideoFormat;
use gstrsdetectnet::cuda::context::{Context, memory};
use gstrsdetectnet::cuda::driver::check;

use crate::common::pads::{Passed, Sink};
use crate::common::{Picture, RED, assert_adds_up, assert_found, init};
use crate::media::{COLORS_SSD, bundled_detector, shared_cache};
use crate::playing::{
    assert_astronauts, astronauts, attempt, push, push_until_it_fails, stream, uploaded, with_cell,
};
use crate::process::{alone, is_child, printed, start};

/// Free memory of the GPU, in bytes.
pub fn free_memory(context: &Context) -> usize {
    let _current = context.enter().unwrap();
    memory().unwrap().free
}

/// All memory of the GPU that nobody else had.
struct Hog {
    context: Context,
    taken: Vec<(u64, usize)>,
}

impl Hog {
    fn take_all(context: &Context) -> Self {
        let _current = context.enter().unwrap();
        let mut taken = Vec::new();
        let mut size = 4 << 30;
        while size >= 16 << 10 {
            let mut address = 0;
            // SAFETY: the call writes to the variable.
            match unsafe { sys::cuMemAlloc_v2(&mut address, size) } {
                sys::CUresult::CUDA_SUCCESS => taken.push((address, size)),
                _ => size /= 2,
            }
        }
        let hog = Self {
            context: context.clone(),
            taken,
        };
        println!(
            "{} MiB in {} pieces are taken, {} KiB are free",
            hog.size() >> 20,
            hog.taken.len(),
            free_memory(context) >> 10
        );
        hog
    }

    fn size(&self) -> usize {
        self.taken.iter().map(|(_, size)| size).sum()
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _current = self.context.enter();
        for (address, _) in &self.taken {
            // SAFETY: the memory is this one's own.
            unsafe { sys::cuMemFree_v2(*address) };
        }
    }
}

/// A process that has all memory, until this value goes.
struct OtherProcess(Child);

impl OtherProcess {
    fn takes_all() -> Self {
        let mut child = start("memory::child_takes_all_memory");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let taken = lines.find(|line| line.contains("are taken"));
        println!("another process: {}", taken.expect("it takes memory"));
        Self(child)
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "a child process of the tests below"]
fn child_takes_all_memory() {
    if !is_child() {
        return;
    }
    let context = Context::primary(0).unwrap();
    let _hog = Hog::take_all(&context);
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Asserts that a sentence names the cause.
fn assert_blames_memory(error: &str) {
    println!("{error}");
    assert!(error.to_lowercase().contains("memory"), "{error}");
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_gpu_that_is_full_when_an_engine_is_built_is_an_error_and_the_next_start_works() {
    let test =
        "memory::a_gpu_that_is_full_when_an_engine_is_built_is_an_error_and_the_next_start_works";
    alone(test, 120, || {
        init();
        let folder = tempfile::tempdir().unwrap();
        let detector = bundled_detector("fp16", folder.path());
        let context = Context::primary(0).unwrap();
        let hog = Hog::take_all(&context);
        for _ in 0..2 {
            let failed = attempt(&detector, &astronauts(3)).err();
            assert_blames_memory(&failed.expect("it runs without memory"));
        }
        drop(hog);
        let played = attempt(&detector, &astronauts(3)).unwrap();
        assert_astronauts(&played);
        println!("once there is memory: {:?}", played.progress.last());
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_gpu_that_another_process_fills_before_a_start_is_an_error_and_the_next_start_works() {
    let test = "memory::a_gpu_that_another_process_fills_before_a_start_is_an_error_and_the_next_start_works";
    alone(test, 120, || {
        init();
        let detector = bundled_detector("fp16", &shared_cache());
        assert_astronauts(&attempt(&detector, &astronauts(3)).unwrap());
        let other = OtherProcess::takes_all();
        for _ in 0..3 {
            let failed = attempt(&detector, &astronauts(3)).err();
            assert_blames_memory(&failed.expect("it runs without memory"));
        }
        drop(other);
        assert_astronauts(&attempt(&detector, &astronauts(3)).unwrap());
    });
}

/// TensorRT itself meets the end of the memory, at one point or another of a start.
#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_gpu_with_little_memory_left_is_an_error_or_enough_and_never_a_crash() {
    let test = "memory::a_gpu_with_little_memory_left_is_an_error_or_enough_and_never_a_crash";
    alone(test, 240, || {
        init();
        let detector = bundled_detector("fp16", &shared_cache());
        assert_astronauts(&attempt(&detector, &astronauts(1)).unwrap());
        let context = Context::primary(0).unwrap();
        for room in [18, 24, 32, 48, 64, 96, 128, 192] {
            let mut reserved = 0;
            {
                let _current = context.enter().unwrap();
                // SAFETY: the call writes to the variable.
                check("cuMemAlloc", unsafe {
                    sys::cuMemAlloc_v2(&mut reserved, room << 20)
                })
                .unwrap();
            }
            let hog = Hog::take_all(&context);
            {
                let _current = context.enter().unwrap();
                // SAFETY: the memory was taken above.
                check("cuMemFree", unsafe { sys::cuMemFree_v2(reserved) }).unwrap();
            }
            match attempt(&detector, &astronauts(2)) {
                Ok(played) => {
                    println!("{room} MiB are enough");
                    assert_astronauts(&played);
                }
                Err(error) => {
                    print!("{room} MiB: ");
                    assert_blames_memory(&error);
                }
            }
            drop(hog);
        }
        assert_astronauts(&attempt(&detector, &astronauts(3)).unwrap());
    });
}

#[test]
#[ignore = "a child process of the test below"]
fn child_starts() {
    if !is_child() {
        return;
    }
    let detector = bundled_detector("fp16", &shared_cache());
    match attempt(&detector, &astronauts(3)) {
        Ok(played) => {
            assert_astronauts(&played);
            println!("\nit detects");
        }
        Err(error) => println!("\nerror: {error}"),
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_gpu_without_room_for_a_new_process_is_an_error_there_and_the_next_process_works() {
    let test =
        "memory::a_gpu_without_room_for_a_new_process_is_an_error_there_and_the_next_process_works";
    alone(test, 120, || {
        init();
        let other = OtherProcess::takes_all();
        let said = printed("memory::child_starts", &[], 60).unwrap();
        assert_blames_memory(
            said.lines()
                .find(|line| line.starts_with("error: "))
                .unwrap(),
        );
        drop(other);
        let said = printed("memory::child_starts", &[], 60).unwrap();
        assert!(said.contains("it detects"), "{said}");
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_gpu_that_fills_up_while_frames_come_loses_none_and_refuses_larger_ones_until_it_is_freed() {
    let test = "memory::\
        a_gpu_that_fills_up_while_frames_come_loses_none_and_refuses_larger_ones_until_it_is_freed";
    alone(test, 120, || {
        const FRAMES: usize = 200;
        init();
        let detector = COLORS_SSD.detector(&shared_cache());
        let (small, small_box) = with_cell((256, 256), (3, 2), RED);
        let (large, large_box) = with_cell((4096, 2304), (5, 6), RED);
        let video = stream(&detector, &small);
        for _ in 0..FRAMES {
            push(&video, &small).unwrap();
        }
        video.sink.wait_for_frames(FRAMES);
        let hog = Hog::take_all(&Context::primary(0).unwrap());

        for _ in 0..FRAMES {
            push(&video, &small).unwrap();
        }
        video.sink.wait_for_frames(2 * FRAMES);
        for passed in video.sink.take() {
            if let Passed::Frame { detections, .. } = passed {
                assert_found(&detections, &[("red", small_box)], 0.99, 0.9);
            }
        }
        assert_eq!(video.error(), None);

        let caps = |sample: &gst::Sample| gst::event::Caps::new(&sample.caps_owned().unwrap());
        assert!(video.source.push_event(caps(&large)));
        assert_blames_memory(&push_until_it_fails(&video, &large));

        drop(hog);
        // The same element, without a new start.
        let before = video.sink.passed().len();
        push(&video, &large).unwrap();
        video.sink.wait_for_frames(1);
        let after = video.sink.passed().split_off(before);
        let found = after.into_iter().find_map(|passed| match passed {
            Passed::Frame { detections, .. } => Some(detections),
            _ => None,
        });
        assert_found(&found.unwrap(), &[("red", large_box)], 0.99, 0.9);
        let element = video.element.clone();
        drop(video);
        assert_adds_up(&element);
        let stats = gstrsdetectnet::stats(&element).unwrap();
        assert_eq!(stats.inspected, 2 * FRAMES as u64 + 1, "{stats:?}");
    });
}

/// How many sizes of batches could not be made, by the detector's log.
static REFUSED_BATCHES: AtomicUsize = AtomicUsize::new(0);

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn streams_on_a_full_gpu_go_on_in_the_batches_that_there_are() {
    let test = "memory::streams_on_a_full_gpu_go_on_in_the_batches_that_there_are";
    alone(test, 120, || {
        const STREAMS: usize = 24;
        const FRAMES: usize = 50;
        init();
        gst::log::set_threshold_from_string("rsdetectnet-detector:4", false);
        gst::log::add_log_function(|category, _, _, _, _, _, message| {
            let text = message
                .get()
                .filter(|_| category.name() == "rsdetectnet-detector");
            if text.is_some_and(|text| text.starts_with("no batches of ")) {
                REFUSED_BATCHES.fetch_add(1, Ordering::SeqCst);
            }
        });
        let detector = COLORS_SSD.detector(&shared_cache());
        let (sample, bounding_box) = with_cell((256, 256), (3, 2), RED);
        // Frames of which none needs memory any more.
        let Some(frames) = uploaded(&[sample]) else {
            return;
        };
        let frame = &frames[0];
        let first = stream(&format!("{detector} max-in-flight=1"), frame);
        push(&first, frame).unwrap();
        let hog = Hog::take_all(&Context::primary(0).unwrap());
        let mut streams = vec![first];
        for _ in 1..STREAMS {
            streams.push(stream(&detector, frame));
        }
        let play = || {
            thread::scope(|scope| {
                for stream in &streams {
                    scope.spawn(|| {
                        for _ in 0..FRAMES {
                            let pushed = push(stream, frame);
                            assert!(pushed.is_ok(), "{pushed:?}: {:?}", stream.error());
                        }
                    });
                }
            });
        };
        play();
        let begin = Instant::now();
        while REFUSED_BATCHES.load(Ordering::SeqCst) == 0 {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "batches grow on a full GPU"
            );
            thread::sleep(Duration::from_millis(10));
        }
        play();
        drop(hog);
        play();
        for (number, stream) in streams.iter().enumerate() {
            let frames = 3 * FRAMES + usize::from(number == 0);
            stream.sink.wait_for_frames(frames);
            for passed in stream.sink.take() {
                if let Passed::Frame { detections, .. } = passed {
                    assert_found(&detections, &[("red", bounding_box)], 0.99, 0.9);
                }
            }
            assert_eq!(stream.error(), None);
        }
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_for_which_the_gpu_has_no_room_are_a_warning_while_the_video_goes_on() {
    let test = "memory::crops_for_which_the_gpu_has_no_room_are_a_warning_while_the_video_goes_on";
    alone(test, 120, || {
        const FRAMES: usize = 20;
        init();
        let detector = format!(
            "{} crop-overflow=block",
            COLORS_SSD.detector(&shared_cache())
        );
        // Each crop is larger than the pieces in which the driver takes memory.
        let picture = Picture::grey(8192, 8192).with_cell(3, 2, RED);
        let wanted = [("red", picture.cell_box(3, 2))];
        let Some(frames) = uploaded(&[picture.converted(VideoFormat::Rgba, None)]) else {
            return;
        };
        let frame = &frames[0];
        let element = gst::parse::launch(&detector).unwrap();
        let kept = crops_that_are_kept(&element);
        let video = crate::common::pads::Stream::new(&element);
        video.begin(&frame.caps_owned().unwrap());
        let play = |frames: usize| {
            for _ in 0..frames {
                push(&video, frame).unwrap();
            }
        };
        play(2);
        video.sink.wait_for_frames(2);
        kept.wait_for(1);
        let hog = Hog::take_all(&Context::primary(0).unwrap());
        play(FRAMES);
        video.sink.wait_for_frames(FRAMES + 2);
        let warning = video.bus.pop_filtered(&[gst::MessageType::Warning]);
        let warning = warning.expect("crops are lost without a word");
        let gst::MessageView::Warning(warning) = warning.view() else {
            unreachable!();
        };
        println!("{}", warning.error());
        assert!(
            warning
                .error()
                .to_string()
                .starts_with("crops are not cut out: ")
        );
        assert_eq!(video.error(), None);
        let during = kept.count();
        drop(hog);
        play(FRAMES);
        video.sink.wait_for_frames(2 * FRAMES + 2);
        kept.wait_for(during + 1);
        for passed in video.sink.take() {
            if let Passed::Frame { detections, .. } = passed {
                assert_found(&detections, &wanted, 0.99, 0.9);
            }
        }
        let stats = gstrsdetectnet::stats(&element).unwrap();
        println!("{} crops, {} dropped", stats.crops, stats.crops_dropped);
        assert!(stats.crops_dropped > 0, "{stats:?}");
        drop(video);
    });
}

/// Keeps every crop, so that each needs memory of its own.
struct Kept {
    crops: std::sync::Arc<std::sync::Mutex<Vec<gst::Buffer>>>,
    _sink: Sink,
}

impl Kept {
    fn count(&self) -> usize {
        self.crops.lock().unwrap().len()
    }

    fn wait_for(&self, crops: usize) {
        let begin = Instant::now();
        while self.count() < crops {
            assert!(
                begin.elapsed() < Duration::from_secs(30),
                "{} crops",
                self.count()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn crops_that_are_kept(element: &gst::Element) -> Kept {
    let crops = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = crops.clone();
    let pad = element.request_pad_simple("crops").unwrap();
    let sink = Sink::new();
    pad.link(&sink.pad).unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        noted.lock().unwrap().push(info.buffer().unwrap().clone());
        gst::PadProbeReturn::Ok
    });
    Kept { crops, _sink: sink }
}
