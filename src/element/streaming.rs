//! What the streaming thread holds, and what happens to one frame.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::hash_settings::HashPlan;
use super::hashing::{Comparer, Hasher};
use super::inspection::{Found, InspectError, Inspection, Inspector, Room, map_nvmm};
use super::lateness_settings::LatePolicy;
use super::ledger::Ticket;
use super::lineup::Inspectable;
use super::memory::Format;
use super::producer::{InspectedFrame, Producer};
use super::settings::{Settings, SettingsError};
use super::statistics::Fate;
use super::tracking::{Followed, Following, Scenes};
use crate::detector::{Detector, Drawing, Frames, Search, Streams, Timings};
use crate::frame::DeviceStorage;
use crate::frame::cuda::CudaFrame;
use crate::frame::memory::Memory;
use crate::meta::Metadata;
use crate::meta::message::{self, FrameFacts};
use crate::model::ModelInfoError;
use crate::overlay::Overlay;
use crate::{lock, profiler};

/// A frame that was taken in, on its way downstream.
pub(super) struct Transit {
    pub buffer: gst::Buffer,
    pub ticket: Ticket,
    pub facts: FrameFacts<'static>,
    pub stage: Stage,
    /// None where objects are not followed.
    pub following: Option<Following>,
    /// Settings that were to hold from this frame on, and why they do not.
    pub bad_settings: Option<String>,
}

impl Inspectable for Transit {
    fn is_inspected(&self) -> bool {
        match &self.stage {
            Stage::Inspecting(inspection) => inspection.is_done(),
            Stage::Passing | Stage::Late(..) => true,
        }
    }
}

/// What is to happen to a frame.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all frames are inspected, and no list holds any"
)]
pub(super) enum Stage {
    /// It passes as it is.
    Passing,
    /// It was late by so much, and passes or is dropped.
    Late(gst::ClockTime, LatePolicy),
    Inspecting(Inspection),
}

/// What became of a frame that was inspected.
pub(super) struct Inspected {
    pub fate: Fate,
    pub shown: Shown,
}

/// What is to be said of a frame whose objects are known.
#[derive(Default)]
pub(super) struct Shown {
    /// What `post-messages` posts.
    pub message: Option<gst::Structure>,
    /// Why nothing was drawn, the first time.
    pub not_drawn: Option<&'static str>,
    /// What speaks against the model, the first time.
    pub doubt: Option<String>,
}

/// What the streaming thread needs from frame to frame; made in READY→PAUSED, gone in PAUSED→READY.
pub(super) struct Streaming {
    detector: Arc<Detector>,
    search: Search,
    overlay: Option<Overlay>,
    /// It was told that frames like these cannot be drawn into.
    warned_of_overlay: bool,
    /// It was told what speaks against the model.
    told_of_doubt: bool,
    metadata: Metadata,
    post_messages: bool,
    interval: u32,
    pub qos: bool,
    pub max_latency: Option<gst::ClockTime>,
    pub late_policy: LatePolicy,
    pub format: Option<Format>,
    pub segment: Option<gst::FormattedSegment<gst::ClockTime>>,
    plan: HashPlan,
    /// Only the thread that brings frames looks at them.
    comparer: Arc<Mutex<Comparer>>,
    hasher: Hasher,
    pub scenes: Scenes,
    followed: Followed,
    /// What was found in the last inspected frame.
    last: Room,
    unused: Vec<Room>,
    /// Makes what the request pads push.
    pub producer: Producer,
    /// Frames that came in since the start.
    frames: u64,
    /// Frames to pass on before the next inspection.
    to_skip: u32,
}

impl Streaming {
    pub fn new(detector: Detector, settings: &Settings) -> Result<Self, SettingsError> {
        let mut streaming = Self {
            search: Search::default(),
            detector: Arc::new(detector),
            overlay: None,
            warned_of_overlay: false,
            told_of_doubt: false,
            metadata: Metadata::default(),
            post_messages: false,
            interval: 0,
            qos: false,
            max_latency: None,
            late_policy: LatePolicy::default(),
            format: None,
            segment: None,
            plan: settings.hash.plan(),
            comparer: Arc::default(),
            hasher: Hasher::default(),
            scenes: Scenes::default(),
            followed: Followed::default(),
            last: Room::default(),
            unused: Vec::new(),
            producer: Producer::default(),
            frames: 0,
            to_skip: 0,
        };
        streaming.apply(settings)?;
        Ok(streaming)
    }

    /// Takes over settings that may change while playing; on an error the earlier ones stay.
    pub fn apply(&mut self, settings: &Settings) -> Result<(), SettingsError> {
        let labels = self.detector.labels();
        let (search, rules) = settings.search(labels)?;
        let look = settings.overlay.look(labels)?;
        let crop_rules = settings.outputs.crop_rules(labels)?;
        self.metadata.choose(settings.metadata_kinds()?)?;
        self.producer.apply(&settings.outputs, crop_rules);
        self.search = search;
        self.scenes.apply(rules);
        match &mut self.overlay {
            Some(overlay) if look.is_anything() => overlay.change(look),
            overlay => *overlay = look.is_anything().then(|| Overlay::new(look)),
        }
        self.post_messages = settings.post_messages;
        self.interval = settings.interval;
        self.to_skip = self.to_skip.min(self.interval);
        self.qos = settings.qos;
        self.max_latency = settings.lateness.max_latency();
        self.late_policy = settings.lateness.policy;
        self.plan = settings.hash.plan();
        // Other settings may find something else.
        lock(&self.comparer).forget_past();
        Ok(())
    }

    /// The next frame is inspected whatever `interval` says: what came before is another picture.
    pub fn forget_past(&mut self) {
        self.to_skip = 0;
        lock(&self.comparer).forget_past();
        self.producer.forget_past();
    }

    /// The running time of a frame, if its segment has one.
    fn running_time(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
        self.segment.as_ref()?.to_running_time(buffer.pts()?)
    }

    fn stream_time(&self, buffer: &gst::BufferRef) -> Option<gst::ClockTime> {
        self.segment.as_ref()?.to_stream_time(buffer.pts()?)
    }

    /// Whether `interval` or a gap says that this frame passes uninspected.
    pub fn skips(&mut self, buffer: &gst::BufferRef) -> bool {
        self.frames += 1;
        if buffer.flags().contains(gst::BufferFlags::GAP) {
            return true;
        }
        match self.to_skip {
            0 => false,
            _ => {
                self.to_skip -= 1;
                true
            }
        }
    }

    /// Those that share the model.
    pub fn streams(&self) -> Streams {
        self.detector.streams().clone()
    }

    /// Writes what is known of the model.
    pub fn write_modelinfo(&self, path: &Path) -> Result<(), ModelInfoError> {
        self.detector.write_modelinfo(path)
    }

    /// Puts another detector, of the same model, in the place of this one.
    pub fn replace_detector(&mut self, detector: Detector) {
        self.detector = Arc::new(detector);
        lock(&self.comparer).forget_past();
    }

    /// For a frame that is to be inspected now.
    pub fn inspector(&mut self) -> Inspector {
        self.to_skip = self.interval;
        Inspector {
            detector: Arc::clone(&self.detector),
            search: self.search.clone(),
            format: self.format.clone(),
            plan: self.plan,
            comparer: Arc::clone(&self.comparer),
            room: self.unused.pop().unwrap_or_default(),
        }
    }

    /// Attaches what was found, or what was found in the last inspected frame, and draws it. Frames come in the order
    /// in which they were taken in.
    pub fn complete(
        &mut self,
        found: Found,
        following: Option<&Following>,
        facts: &FrameFacts<'_>,
        buffer: &mut gst::Buffer,
    ) -> Result<Inspected, InspectError> {
        let start = Instant::now();
        let Found {
            format,
            plan,
            looked,
            timings,
            mut room,
        } = found;
        if timings.is_none() {
            std::mem::swap(&mut room, &mut self.last);
            room.thumbnails.replace_frames(&self.last.look);
        }
        if let Some(following) = following {
            let repeated = timings.is_none();
            self.followed
                .inspected(following, buffer, repeated, &mut room);
        }
        if timings.is_some() && plan.shown {
            self.hash(&format, plan, buffer, &mut room)?;
        }
        let hash = looked + start.elapsed();
        let start = Instant::now();
        let thumbnails = std::mem::take(&mut room.thumbnails);
        let facts = FrameFacts {
            repeated: timings.is_none(),
            thumbnails: plan.shown.then_some(&thumbnails),
            ..*facts
        };
        let shown = self.show(&format, &facts, timings, buffer, &mut room)?;
        room.thumbnails = thumbnails;
        let fate = match timings {
            None => Fate::Unchanged { hash },
            Some(timings) => Fate::Inspected {
                timings,
                hash,
                attach: start.elapsed(),
                detections: room.detections.iter().map(Vec::len).sum(),
            },
        };
        self.unused.push(std::mem::replace(&mut self.last, room));
        Ok(Inspected { fate, shown })
    }

    /// A frame passes uninspected: what is expected in it is attached and drawn, unless the frame is empty itself.
    pub fn pass(
        &mut self,
        following: &Following,
        facts: &FrameFacts<'_>,
        buffer: &mut gst::Buffer,
    ) -> Result<Shown, InspectError> {
        let is_gap = buffer.flags().contains(gst::BufferFlags::GAP);
        let Some(format) = following.format.as_ref().filter(|_| !is_gap) else {
            self.followed.advance(following, buffer);
            return Ok(Shown::default());
        };
        let mut room = self.unused.pop().unwrap_or_default();
        self.followed.passed(following, buffer, &mut room);
        let facts = FrameFacts {
            predicted: true,
            ..*facts
        };
        let shown = match room.detections.iter().all(Vec::is_empty) {
            true => Ok(Shown::default()),
            false => self.show(format, &facts, None, buffer, &mut room),
        };
        self.unused.push(room);
        shown
    }

    /// A frame is dropped, and time goes on.
    pub fn drop_frame(&mut self, following: &Following, buffer: &gst::BufferRef) {
        self.followed.advance(following, buffer);
    }

    /// Attaches the objects of a frame, makes what the pads get of them, and draws them.
    fn show(
        &mut self,
        format: &Format,
        facts: &FrameFacts<'_>,
        timings: Option<Timings>,
        buffer: &mut gst::Buffer,
        room: &mut Room,
    ) -> Result<Shown, InspectError> {
        let labels = self.detector.labels();
        let detections = &room.detections;
        self.producer.frame_inspected(&InspectedFrame {
            format,
            buffer,
            context: self.detector.context(),
            facts: *facts,
            timings: timings.unwrap_or_default(),
            detections,
            labels,
        })?;
        if self.metadata.applies_to(buffer, facts, detections) {
            let _range = profiler::range(c"attach");
            self.metadata
                .attach(buffer.make_mut(), facts, detections, labels);
        }
        let message = || message::structure(facts, detections, labels);
        let message = self.post_messages.then(message);
        let not_drawn = match self.draw(format, buffer, room)? {
            Drawn::Never(reason) if !self.warned_of_overlay => {
                self.warned_of_overlay = true;
                Some(reason)
            }
            _ => None,
        };
        Ok(Shown {
            message,
            not_drawn,
            doubt: self.new_doubt(),
        })
    }

    /// What speaks against the model, unless it was told before.
    fn new_doubt(&mut self) -> Option<String> {
        let doubt = self.detector.doubt().filter(|_| !self.told_of_doubt)?;
        self.told_of_doubt = true;
        Some(doubt.to_owned())
    }

    /// Makes the thumbnails of a frame and of what was found in it.
    fn hash(
        &mut self,
        format: &Format,
        plan: HashPlan,
        buffer: &gst::Buffer,
        room: &mut Room,
    ) -> Result<(), InspectError> {
        let Self {
            detector, hasher, ..
        } = self;
        let Room {
            detections,
            device_frames,
            look,
            thumbnails,
            ..
        } = room;
        let context = detector.context();
        let mut hash = |frames| hasher.hash(plan, frames, context, look, detections, thumbnails);
        let info = &format.shape.info;
        match format.memory {
            Memory::System => {
                let mapped = format.shape.read(buffer)?;
                hash(Frames::System(mapped.view()?))?;
            }
            Memory::Cuda => {
                let mapped = CudaFrame::map(buffer, info)?;
                hash(Frames::Device {
                    frames: &[mapped.frame()],
                    pending: mapped.pending_stream(),
                })?;
            }
            Memory::Nvmm => {
                let _mapped = map_nvmm(detector, buffer, &format.shape, device_frames)?;
                hash(Frames::Device {
                    frames: device_frames,
                    pending: None,
                })?;
            }
        }
        Ok(())
    }

    /// Draws what was found into the frame, in place. Memory that another buffer shares is copied first; that of
    /// NVMM cannot be, so that there, as with DeepStream's own elements, all branches behind a `tee` see the drawing.
    fn draw(
        &mut self,
        format: &Format,
        buffer: &mut gst::Buffer,
        room: &mut Room,
    ) -> Result<Drawn, InspectError> {
        let Self {
            detector,
            overlay: Some(overlay),
            ..
        } = self
        else {
            return Ok(Drawn::Done);
        };
        let Room {
            detections,
            device_frames,
            ..
        } = room;
        if detections.iter().all(Vec::is_empty) {
            return Ok(Drawn::Done);
        }
        let _range = profiler::range(c"draw");
        let info = &format.shape.info;
        match format.memory {
            Memory::System => {
                let mut mapped = format.shape.write(buffer.make_mut())?;
                let labels = detector.labels().as_slice();
                overlay.draw(&mut mapped.view()?, &detections[0], labels);
            }
            Memory::Cuda => {
                let mapped = CudaFrame::map_for_drawing(buffer.make_mut(), info)?;
                let drawing = Drawing {
                    overlay,
                    detections,
                };
                detector.draw(&[mapped.frame()], mapped.pending_stream(), drawing)?;
            }
            Memory::Nvmm => {
                let _mapped = map_nvmm(detector, buffer, &format.shape, device_frames)?;
                if device_frames
                    .iter()
                    .any(|f| f.storage != DeviceStorage::Pitch)
                {
                    return Ok(Drawn::Never(
                        "the overlay cannot be drawn into block-linear frames; let nvvideoconvert make \
                         them pitch-linear, or draw with nvdsosd",
                    ));
                }
                let drawing = Drawing {
                    overlay,
                    detections,
                };
                detector.draw(device_frames, None, drawing)?;
            }
        }
        Ok(Drawn::Done)
    }

    /// What is known of the latest frame.
    pub fn facts(&self, buffer: &gst::BufferRef) -> FrameFacts<'static> {
        let size = self.format.as_ref().map(|format| format.shape.size());
        let (width, height) = size.unwrap_or_default();
        FrameFacts {
            number: self.frames.saturating_sub(1),
            pts: buffer.pts(),
            stream_time: self.stream_time(buffer),
            running_time: self.running_time(buffer),
            width,
            height,
            repeated: false,
            predicted: false,
            thumbnails: None,
        }
    }
}

/// Whether the overlay is in the frame.
enum Drawn {
    /// As far as there was something to draw.
    Done,
    /// Nor will it be in other frames like this, for this reason.
    Never(&'static str),
}
