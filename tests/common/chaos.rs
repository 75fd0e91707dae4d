//! An element in a pipeline whose states, flushes, links, pads and properties change at random while frames come.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use gst::prelude::*;
use proptest::prelude::*;
use proptest::test_runner::TestRng;

use crate::common::{assert_adds_up, take_out};

pub struct Chaos {
    pub source: gst_app::AppSrc,
    random: TestRng,
    pipeline: gst::Pipeline,
    element: gst::Element,
    sink: gst::Element,
    branches: Vec<(gst::Pad, gst::Element)>,
    /// Microseconds that nothing is done, at most.
    longest_pause: u32,
}

/// One that prerolls nothing and waits for no clock.
pub fn fakesink() -> gst::Element {
    let sink = gst::ElementFactory::make("fakesink");
    let sink = sink.property("sync", false).property("async", false);
    sink.build().unwrap()
}

impl Chaos {
    pub fn new(
        random: TestRng,
        element: gst::Element,
        sink: gst::Element,
        longest_pause: u32,
    ) -> Self {
        let pipeline = gst::Pipeline::new();
        let source = gst_app::AppSrc::builder()
            .format(gst::Format::Time)
            // Nobody may take frames any more.
            .max_buffers(4)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        let all = [source.upcast_ref(), &element, &sink];
        pipeline.add_many(all).unwrap();
        gst::Element::link_many(all).unwrap();
        Self {
            source,
            random,
            pipeline,
            element,
            sink,
            branches: Vec::new(),
            longest_pause,
        }
    }

    pub fn below(&mut self, limit: u32) -> u32 {
        self.random.next_u32() % limit
    }

    fn request_a_branch(&mut self) {
        let name = ["crops", "detections"][self.below(2) as usize];
        if self.element.static_pad(name).is_some() {
            return;
        }
        let pad = self.element.request_pad_simple(name).unwrap();
        let sink = fakesink();
        self.pipeline.add(&sink).unwrap();
        sink.sync_state_with_parent().unwrap();
        pad.link(&sink.static_pad("sink").unwrap()).unwrap();
        self.branches.push((pad, sink));
    }

    fn release_a_branch(&mut self) {
        if let Some((pad, sink)) = self.branches.pop() {
            self.element.release_request_pad(&pad);
            take_out(&self.pipeline, &sink);
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

    fn act(&mut self, other: Option<fn(&mut Self)>) {
        let sink = self.element.static_pad("sink").unwrap();
        match (self.below(10), other) {
            (0..=2, _) => self.set_a_state(),
            (3, _) => {
                // A segment that came during the flush would be lost, and nobody would tell it again.
                let Some(segment) = sink.sticky_event::<gst::event::Segment>(0) else {
                    return;
                };
                sink.send_event(gst::event::FlushStart::new());
                // Nor may anything come between its end and the segment.
                let _nobody_else = sink.stream_lock();
                sink.send_event(gst::event::FlushStop::new(self.below(2) == 0));
                sink.send_event(segment.to_owned());
            }
            (4, _) => {
                self.element.unlink(&self.sink);
                thread::sleep(Duration::from_micros(self.below(300).into()));
                let _ = self.element.link(&self.sink);
            }
            (5, _) => self.request_a_branch(),
            (6, _) => self.release_a_branch(),
            (7, _) => self.change_a_property(),
            (8, Some(other)) => other(self),
            _ => thread::sleep(Duration::from_micros(self.below(self.longest_pause).into())),
        }
    }

    /// Feeds frames, which get numbers, from one thread while this one breaks things, `other` things among them.
    pub fn round(
        &mut self,
        feed: impl Fn(&gst_app::AppSrc, usize) + Sync,
        other: Option<fn(&mut Self)>,
    ) {
        let actions = 1 + self.below(8);
        let _ = self.pipeline.set_state(gst::State::Playing);
        let ended = AtomicBool::new(false);
        let source = self.source.clone();
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    feed(&source, number);
                    thread::sleep(Duration::from_micros(200));
                }
            });
            for _ in 0..actions {
                self.act(other);
            }
            ended.store(true, Ordering::Relaxed);
        });
    }

    /// Stops everything, on this thread or another one, and says how many frames came in since the last start; all of
    /// them are accounted for.
    pub fn dispose(mut self) -> (TestRng, u64) {
        if self.below(2) == 0 {
            for (pad, _) in self.branches.drain(..) {
                self.element.release_request_pad(&pad);
            }
        }
        let pipeline = self.pipeline.clone();
        let stop = move || {
            pipeline.set_state(gst::State::Null).unwrap();
        };
        match self.below(2) {
            0 => stop(),
            _ => thread::spawn(stop).join().unwrap(),
        }
        assert_adds_up(&self.element);
        let frames = gstrsdetectnet::stats(&self.element).unwrap().frames;
        (self.random, frames)
    }
}
