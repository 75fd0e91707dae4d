//! A stream around one element: a pad that pushes into it, and one that notes what comes out.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstrsdetectnet::LabeledDetection;

/// Longer than anything takes here.
pub const LONG: Duration = Duration::from_secs(60);

/// What came out of the element.
#[derive(Clone, Debug, PartialEq)]
pub enum Passed {
    Frame {
        pts: Option<gst::ClockTime>,
        /// The address of its memory.
        memory: usize,
        detections: Vec<LabeledDetection>,
    },
    Event(gst::EventType),
    Query(gst::QueryType),
}

/// What becomes of frames at the sink.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Door {
    /// They are taken, or refused.
    Open(Result<gst::FlowSuccess, gst::FlowError>),
    /// One is refused, and all after it are taken.
    RefusesOne(gst::FlowError),
    /// Who brings one waits.
    Closed,
}

pub const OPEN: Door = Door::Open(Ok(gst::FlowSuccess::Ok));

#[derive(Debug)]
struct State {
    passed: Vec<Passed>,
    door: Door,
    flushing: bool,
    /// Somebody waits at the closed door.
    knocking: bool,
}

/// A pad that notes all that comes, in its order.
#[derive(Clone)]
pub struct Sink {
    pub pad: gst::Pad,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Sink {
    pub fn new() -> Self {
        let shared = Arc::new((
            Mutex::new(State {
                passed: Vec::new(),
                door: OPEN,
                flushing: false,
                knocking: false,
            }),
            Condvar::new(),
        ));
        let (chained, told, asked) = (shared.clone(), shared.clone(), shared.clone());
        // With a template, it does not insist on the caps that it has.
        let (sink, always) = (gst::PadDirection::Sink, gst::PadPresence::Always);
        let template = gst::PadTemplate::new("in", sink, always, &gst::Caps::new_any());
        let pad = gst::Pad::builder_from_template(&template.unwrap())
            .chain_function(move |_, _, buffer| take(&chained, &buffer))
            .event_function(move |_, _, event| {
                let mut state = told.0.lock().unwrap();
                match event.type_() {
                    gst::EventType::FlushStart => state.flushing = true,
                    gst::EventType::FlushStop => state.flushing = false,
                    _ => {}
                }
                state.passed.push(Passed::Event(event.type_()));
                told.1.notify_all();
                true
            })
            .query_function(move |pad, parent, query| {
                if !query.is_serialized() {
                    return gst::Pad::query_default(pad, parent, query);
                }
                let mut state = asked.0.lock().unwrap();
                state.passed.push(Passed::Query(query.type_()));
                asked.1.notify_all();
                true
            })
            .build();
        pad.set_active(true).unwrap();
        Self { pad, shared }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap()
    }

    pub fn set(&self, door: Door) {
        self.state().door = door;
        self.shared.1.notify_all();
    }

    /// All that came so far.
    pub fn passed(&self) -> Vec<Passed> {
        self.state().passed.clone()
    }

    /// Forgets what came so far.
    pub fn take(&self) -> Vec<Passed> {
        std::mem::take(&mut self.state().passed)
    }

    fn wait_until(&self, what: &str, done: impl Fn(&State) -> bool) {
        let (state, waited) = self
            .shared
            .1
            .wait_timeout_while(self.state(), LONG, |state| !done(state))
            .unwrap();
        assert!(!waited.timed_out(), "no {what}: {:?}", state.passed);
    }

    /// Waits until somebody stands at the closed door.
    pub fn wait_for_a_knock(&self) {
        self.wait_until("frame at the door", |state| state.knocking);
    }

    pub fn wait_for_frames(&self, number: usize) {
        self.wait_until("more frames", |state| frames(&state.passed) >= number);
    }

    pub fn wait_for(&self, event: gst::EventType) {
        let event = Passed::Event(event);
        self.wait_until("such event", |state| state.passed.contains(&event));
    }
}

/// Frames among what came out.
pub fn frames(passed: &[Passed]) -> usize {
    let is_frame = |passed: &&Passed| matches!(passed, Passed::Frame { .. });
    passed.iter().filter(is_frame).count()
}

fn take(
    shared: &(Mutex<State>, Condvar),
    buffer: &gst::Buffer,
) -> Result<gst::FlowSuccess, gst::FlowError> {
    let mut state = shared.0.lock().unwrap();
    while state.door == Door::Closed && !state.flushing {
        state.knocking = true;
        shared.1.notify_all();
        state = shared.1.wait(state).unwrap();
    }
    state.knocking = false;
    if state.flushing {
        return Err(gst::FlowError::Flushing);
    }
    match state.door {
        Door::Open(Err(error)) => return Err(error),
        Door::RefusesOne(error) => {
            state.door = OPEN;
            return Err(error);
        }
        _ => {}
    }
    state.passed.push(Passed::Frame {
        pts: buffer.pts(),
        memory: buffer.peek_memory(0).as_ptr() as usize,
        detections: gstrsdetectnet::detections(buffer),
    });
    shared.1.notify_all();
    Ok(gst::FlowSuccess::Ok)
}

/// An element between two pads of the test.
pub struct Stream {
    pub element: gst::Element,
    pub source: gst::Pad,
    pub sink: Sink,
    pub bus: gst::Bus,
}

impl Stream {
    /// Starts the element; its stream begins with [`Stream::begin`].
    pub fn new(element: &gst::Element) -> Self {
        let source = gst::Pad::builder(gst::PadDirection::Src).build();
        let sink = Sink::new();
        source.link(&element.static_pad("sink").unwrap()).unwrap();
        element.static_pad("src").unwrap().link(&sink.pad).unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        source.set_active(true).unwrap();
        let stream = Self {
            element: element.clone(),
            source,
            sink,
            bus,
        };
        if element.set_state(gst::State::Playing).is_err() {
            panic!("{:?}", stream.error());
        }
        stream
    }

    /// As [`Stream::new`], with the events that come before frames.
    pub fn playing(element: &gst::Element, info: &gst_video::VideoInfo) -> Self {
        let stream = Self::new(element);
        stream.begin(&info.to_caps().unwrap());
        stream
    }

    pub fn begin(&self, caps: &gst::Caps) {
        for event in [
            gst::event::StreamStart::new("test"),
            gst::event::Caps::new(caps),
            segment(),
        ] {
            assert!(self.source.push_event(event));
        }
    }

    /// The first error on the bus.
    pub fn error(&self) -> Option<String> {
        let message = self.bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(error.error().to_string()),
            _ => None,
        }
    }

    pub fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.sink.set(OPEN);
        let _ = self.element.set_state(gst::State::Null);
        let _ = self.source.set_active(false);
        let _ = self.sink.pad.set_active(false);
        self.element.set_bus(None);
        for (source, sink) in [
            (self.source.clone(), self.element.static_pad("sink")),
            (self.sink.pad.clone(), self.element.static_pad("src")),
        ] {
            if let Some(pad) = sink {
                let _ = match source.direction() {
                    gst::PadDirection::Src => source.unlink(&pad),
                    _ => pad.unlink(&source),
                };
            }
        }
    }
}

pub fn segment() -> gst::Event {
    gst::event::Segment::new(&gst::FormattedSegment::<gst::ClockTime>::new())
}

/// Threads of this process.
pub fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until there are no more threads than that: they end after who waited for them goes on.
pub fn wait_for_threads(most: usize) {
    let start = Instant::now();
    while threads() > most {
        assert!(
            start.elapsed() < LONG,
            "{} threads instead of {most}",
            threads()
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}
