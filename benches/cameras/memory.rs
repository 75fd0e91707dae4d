//! Streams without decoders: threads that push the same decoded frames into the pads of elements, as fast as they go.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gst::prelude::*;

use crate::camera::Pace;
use crate::clip::Decoded;
use crate::counters::Counters;
use crate::options::Options;

/// Between the times that frames are given.
const PERIOD: gst::ClockTime = gst::ClockTime::from_nseconds(33_333_333);

pub struct Stream {
    pub element: gst::Element,
    pub counters: Arc<Counters>,
    bus: gst::Bus,
    source: gst::Pad,
    sink: gst::Pad,
    caps: gst::Caps,
    frames: Vec<gst::Buffer>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stream {
    pub fn new(options: &Options, decoded: &Decoded) -> Result<Self, Box<dyn Error>> {
        let element = gst::ElementFactory::make("rsdetectnet").build()?;
        options.apply(&element);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        if let Some(context) = decoded.context() {
            element.set_context(&context);
        }
        let counters = Arc::new(Counters::default());
        let source = gst::Pad::builder(gst::PadDirection::Src).build();
        let sink = gst::Pad::builder(gst::PadDirection::Sink)
            .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
            .build();
        source.link(&element.static_pad("sink").ok_or("no pad")?)?;
        element.static_pad("src").ok_or("no pad")?.link(&sink)?;
        counters.measure(&element).ok_or("no pads")?;
        counters.count_at(&sink);
        let samples = &decoded.samples;
        Ok(Self {
            element,
            counters,
            bus,
            source,
            sink,
            caps: samples[0].caps_owned().ok_or("no caps")?,
            frames: samples.iter().filter_map(own_frame).collect(),
            stop: Arc::default(),
            thread: None,
        })
    }

    /// Starts the element, and says how long that took; then its thread.
    pub fn start(
        &mut self,
        options: &Options,
        (number, of): (usize, usize),
    ) -> Result<Duration, Box<dyn Error>> {
        let begin = Instant::now();
        if self.element.set_state(gst::State::Paused).is_err() {
            self.check()?;
            return Err("an element does not start".into());
        }
        let took = begin.elapsed();
        self.element.set_state(gst::State::Playing)?;
        for pad in [&self.source, &self.sink] {
            pad.set_active(true)?;
        }
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        for event in [
            gst::event::StreamStart::new("frames"),
            gst::event::Caps::new(&self.caps),
            gst::event::Segment::new(&segment),
        ] {
            self.source.push_event(event);
        }
        let (source, frames) = (self.source.clone(), self.frames.clone());
        let (stop, counters) = (Arc::clone(&self.stop), Arc::clone(&self.counters));
        let paced = options.paced;
        self.thread = Some(std::thread::spawn(move || {
            let mut pace = paced.map(|rate| Pace::new(rate, number, of));
            for number in 0.. {
                if let Some(pace) = &mut pace {
                    pace.wait(&counters);
                }
                let mut frame = frames[number % frames.len()].copy();
                frame.make_mut().set_pts(PERIOD * number as u64);
                if stop.load(Ordering::Relaxed) || source.push(frame).is_err() {
                    return;
                }
            }
        }));
        Ok(took)
    }

    /// The first error that was posted.
    pub fn check(&self) -> Result<(), Box<dyn Error>> {
        let error = self.bus.pop_filtered(&[gst::MessageType::Error]);
        match error.as_ref().map(|error| error.view()) {
            Some(gst::MessageView::Error(error)) => Err(error.error().to_string().into()),
            _ => Ok(()),
        }
    }
}

/// A frame that no other stream has, as cameras have them: what they shared they would take from each other's caches.
/// Surfaces of NVMM cannot be copied.
fn own_frame(sample: &gst::Sample) -> Option<gst::Buffer> {
    let frame = sample.buffer_owned()?;
    let features = sample.caps().and_then(|caps| caps.features(0));
    match features.is_some_and(|features| features.contains("memory:NVMM")) {
        true => Some(frame),
        false => frame.copy_deep().ok(),
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = self.element.set_state(gst::State::Null);
    }
}
