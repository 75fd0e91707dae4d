//! Faults at every moment: states, flushes, links, pads, properties and caps change at random while frames come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gst::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::common::pads::*;
use crate::common::*;

/// RSDETECTNET_TEST_ROUNDS=10000 for the count that README states.
fn rounds() -> u32 {
    std::env::var("RSDETECTNET_TEST_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap())
}

struct Chaos {
    random: TestRng,
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    element: gst::Element,
    sink: gst::Element,
    branches: Vec<(gst::Pad, gst::Element)>,
}

impl Chaos {
    fn new(random: TestRng) -> Self {
        let pipeline = gst::Pipeline::new();
        let source = gst_app::AppSrc::builder()
            .caps(&four_cells().info().to_caps().unwrap())
            .format(gst::Format::Time)
            // Nobody may take frames any more.
            .max_buffers(4)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let sink = gst::ElementFactory::make("fakesink")
            .property("sync", false)
            .build()
            .unwrap();
        pipeline
            .add_many([source.upcast_ref(), &element, &sink])
            .unwrap();
        gst::Element::link_many([source.upcast_ref(), &element, &sink]).unwrap();
        Self {
            random,
            pipeline,
            source,
            element,
            sink,
            branches: Vec::new(),
        }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.random.next_u32() % limit
    }

    fn request_a_branch(&mut self) {
        let name = ["crops", "detections"][self.below(2) as usize];
        if self.element.static_pad(name).is_some() {
            return;
        }
        let pad = self.element.request_pad_simple(name).unwrap();
        let sink = gst::ElementFactory::make("fakesink")
            .property("async", false)
            .property("sync", false)
            .build()
            .unwrap();
        self.pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        self.branches.push((pad, sink));
    }

    fn release_a_branch(&mut self) {
        if let Some((pad, sink)) = self.branches.pop() {
            self.element.release_request_pad(&pad);
            self.pipeline.remove(&sink).unwrap();
            sink.set_state(gst::State::Null).unwrap();
        }
    }

    fn change_a_property(&mut self) {
        let value = self.below(5);
        let element = &self.element;
        match self.random.next_u32() % 5 {
            0 => element.set_property("threshold", value as f32 / 5.0),
            1 => element.set_property_from_str("interval", &value.to_string()),
            2 => {
                let overlays = ["", "box", "label", "box,label", "confidence"];
                element.set_property_from_str("overlay", overlays[value as usize]);
            }
            3 => element.set_property_from_str("max-detections", &(1 + value).to_string()),
            _ => {
                let _: gst::Structure = element.property("stats");
            }
        }
    }

    fn set_a_state(&mut self) {
        let states = [
            gst::State::Null,
            gst::State::Ready,
            gst::State::Paused,
            gst::State::Playing,
        ];
        let state = states[self.below(4) as usize];
        // The element alone would wait for a sink that prerolls, as any element does.
        let _ = self.pipeline.set_state(state);
    }

    fn act(&mut self) {
        let sink = self.element.static_pad("sink").unwrap();
        match self.below(10) {
            0..=2 => self.set_a_state(),
            3 => {
                // Nothing may come between the end of a flush and the segment, which nobody else would tell again.
                let segment = sink.sticky_event::<gst::event::Segment>(0);
                sink.send_event(gst::event::FlushStart::new());
                let _nobody_else = sink.stream_lock();
                sink.send_event(gst::event::FlushStop::new(self.below(2) == 0));
                if let Some(segment) = segment {
                    sink.send_event(segment.to_owned());
                }
            }
            4 => {
                self.element.unlink(&self.sink);
                thread::sleep(Duration::from_micros(self.below(300).into()));
                let _ = self.element.link(&self.sink);
            }
            5 => self.request_a_branch(),
            6 => self.release_a_branch(),
            7 => self.change_a_property(),
            8 => {
                let picture = Picture::grey(16 + self.below(200), 16 + self.below(200));
                self.source
                    .set_caps(Some(&picture.info().to_caps().unwrap()));
            }
            _ => thread::sleep(Duration::from_micros(self.below(2000).into())),
        }
    }

    /// Feeds frames from one thread while this one breaks things; the pipeline goes in one of two ways.
    fn round(&mut self) {
        let actions = 1 + self.below(8);
        let _ = self.pipeline.set_state(gst::State::Playing);
        let ended = AtomicBool::new(false);
        let source = self.source.clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    let _ = source.push_buffer(four_cells().buffer());
                    thread::sleep(Duration::from_micros(200));
                }
            });
            for _ in 0..actions {
                self.act();
            }
            ended.store(true, Ordering::Relaxed);
        });
    }

    fn dispose(mut self) -> TestRng {
        if self.below(2) == 0 {
            for (pad, _) in self.branches.drain(..) {
                self.element.release_request_pad(&pad);
            }
        }
        let (pipeline, random) = (self.pipeline.clone(), self.random.clone());
        let stop = move || {
            pipeline.set_state(gst::State::Null).unwrap();
        };
        match self.random.next_u32() % 2 {
            0 => stop(),
            _ => thread::spawn(stop).join().unwrap(),
        }
        let stats = gstrsdetectnet::stats(&self.element).unwrap();
        let became = stats.inspected
            + stats.unchanged
            + stats.skipped
            + stats.late
            + stats.dropped
            + stats.failed
            + stats.flushed;
        assert_eq!(stats.frames, became, "{stats:?}");
        random
    }
}

#[test]
fn after_random_faults_at_random_moments_a_new_stream_finds_what_it_should() {
    init();
    let seed = [7; 32];
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let begin = Instant::now();
    let mut threads_before = 0;
    for round in 0..rounds() {
        if std::env::var_os("RSDETECTNET_TEST_TRACE").is_some() {
            eprintln!("round {round}");
        }
        let mut chaos = Chaos::new(random);
        chaos.round();
        random = chaos.dispose();
        random.next_u64();
        if round % 20 == 19 {
            let element = colors_element("colors-ssd.onnx").build().unwrap();
            let found = detect_one(&element, &sample_of(&four_cells()));
            assert_eq!(found.len(), 4, "after round {round}");
        }
        if round == 20 {
            threads_before = threads();
        }
    }
    wait_for_threads(threads_before);
    println!("{} rounds in {:?}", rounds(), begin.elapsed());
}

fn sample_of(picture: &Picture) -> gst::Sample {
    gst::Sample::builder()
        .buffer(&picture.buffer())
        .caps(&picture.info().to_caps().unwrap())
        .build()
}
