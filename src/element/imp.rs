//! The element's class, pads, events, queries and states.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use once_cell::sync::Lazy;

use super::lateness_settings::LatePolicy;
use super::lineup::{Item, Lineup};
use super::loader::Loader;
use super::memory::{self, Format};
use super::outputs::{Outputs, Overflows};
use super::producer::Produced;
use super::quality::Quality;
use super::settings::Settings;
use super::statistics::{Fate, Statistics};
use super::streaming::{Found, InspectError, Inspector, Stage, Streaming, Transit};
use super::{crops_pad, detections_pad, request_pad};
use crate::cuda::seats::Seat;
use crate::frame::context_offer::ContextOffer;
use crate::lock;
use crate::meta::message::FrameFacts;

pub(super) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "rsdetectnet",
        gst::DebugColorFlags::empty(),
        Some("Object detection in place"),
    )
});

/// What must happen to a frame besides being passed on, once no lock is held.
#[derive(Default)]
struct Aftermath {
    detections: Option<gst::Structure>,
    /// The frame was late by this much.
    late: Option<gst::ClockTime>,
    bad_settings: Option<String>,
    not_drawn: Option<&'static str>,
    not_cut: Option<String>,
    /// What the request pads get.
    produced: Produced,
    overflows: Overflows,
}

/// What is to happen to a frame that came in.
enum Decision {
    Pass,
    /// By so much.
    TooLate(gst::ClockTime, LatePolicy),
    Inspect,
}

pub struct RsDetectNet {
    pub(super) sink_pad: gst::Pad,
    pub(super) src_pad: gst::Pad,
    pub(super) outputs: Outputs,
    /// The latest seek that went upstream: it comes again from every pad behind which there is a sink.
    latest_seek: Mutex<Option<gst::Seqnum>>,
    pub(super) settings: Mutex<Settings>,
    /// Set when `settings` changed and the streaming thread has not taken them over yet.
    pub(super) settings_changed: AtomicBool,
    pub(super) streaming: Mutex<Option<Streaming>>,
    /// A model whose engine is being built while the element waits for its first frame.
    pub(super) loader: Mutex<Option<Arc<Loader>>>,
    /// The CUDA context shared with the elements around, for the GPU that is set.
    pub(super) offer: Mutex<Arc<ContextOffer>>,
    /// The element's place on a GPU.
    pub(super) seat: Mutex<Option<Seat>>,
    /// Whether frames in GPU memory are welcome.
    pub(super) on_gpu: AtomicBool,
    pub(super) quality: Mutex<Quality>,
    pub(super) statistics: Mutex<Statistics>,
    /// What one inspection takes, in nanoseconds, measured when the model was loaded.
    pub(super) latency: AtomicU64,
    /// More than one has frames and events sent on by the thread of the pad `src`.
    pub(super) max_in_flight: AtomicUsize,
    pub(super) lineup: Lineup,
    /// Frames before the next one were dropped.
    discontinuous: AtomicBool,
}

#[glib::object_subclass]
impl ObjectSubclass for RsDetectNet {
    const NAME: &'static str = "GstRsDetectNet";
    type Type = super::RsDetectNet;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let proxied = gst::PadFlags::PROXY_CAPS
            | gst::PadFlags::PROXY_ALLOCATION
            | gst::PadFlags::PROXY_SCHEDULING;
        let pad = |name| {
            let template = class.pad_template(name);
            gst::Pad::builder_from_template(&template.unwrap_or_else(|| unreachable!()))
        };
        let sink_pad = pad("sink")
            .chain_function(|_, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_chain(buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.query(pad, query))
            })
            .iterate_internal_links_function(|_, parent| {
                request_pad::links(parent, |this| &this.src_pad)
            })
            .flags(proxied)
            .build();
        let src_pad = pad("src")
            .activatemode_function(|_, parent, mode, active| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::loggable_error!(CAT, "a panic")),
                    |this| match mode {
                        gst::PadMode::Push => this.activate_src(active),
                        _ => Err(gst::loggable_error!(CAT, "the pad only pushes")),
                    },
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.query(pad, query))
            })
            .iterate_internal_links_function(|_, parent| {
                request_pad::links(parent, |this| &this.sink_pad)
            })
            .flags(proxied)
            .build();
        Self {
            sink_pad,
            src_pad,
            outputs: Outputs::default(),
            latest_seek: Mutex::default(),
            settings: Mutex::default(),
            settings_changed: AtomicBool::new(false),
            streaming: Mutex::default(),
            loader: Mutex::default(),
            offer: Mutex::new(Arc::new(ContextOffer::new(Some(0)))),
            seat: Mutex::default(),
            on_gpu: AtomicBool::new(true),
            quality: Mutex::default(),
            statistics: Mutex::default(),
            latency: AtomicU64::new(0),
            max_in_flight: AtomicUsize::new(1),
            lineup: Lineup::default(),
            discontinuous: AtomicBool::new(false),
        }
    }
}

impl ObjectImpl for RsDetectNet {
    fn properties() -> &'static [glib::ParamSpec] {
        Settings::specs()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        gst::info!(CAT, imp = self, "{} = {value:?}", spec.name());
        lock(&self.settings).set(spec.name(), value);
        self.settings_changed.store(true, Ordering::Release);
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        match lock(&self.settings).value(spec.name()) {
            Some(value) => value,
            None => {
                let mut stats = lock(&self.statistics).to_structure();
                self.outputs.add_statistics(&mut stats);
                stats.to_value()
            }
        }
    }

    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        for pad in [&self.sink_pad, &self.src_pad] {
            if let Err(error) = element.add_pad(pad) {
                gst::error!(
                    CAT,
                    imp = self,
                    "cannot add the pad {}: {error}",
                    pad.name()
                );
            }
        }
    }
}

impl GstObjectImpl for RsDetectNet {}

impl ElementImpl for RsDetectNet {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: Lazy<gst::subclass::ElementMetadata> = Lazy::new(|| {
            gst::subclass::ElementMetadata::new(
                "Object detector",
                "Filter/Analyzer/Video",
                "Finds objects in video frames in place and attaches them as metadata",
                "The rsdetectnet authors",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: Lazy<Vec<gst::PadTemplate>> = Lazy::new(|| {
            let caps = memory::all_caps();
            let (crops, lines) = (crops_pad::caps(), detections_pad::caps());
            let (always, request) = (gst::PadPresence::Always, gst::PadPresence::Request);
            [
                ("sink", gst::PadDirection::Sink, always, &caps),
                ("src", gst::PadDirection::Src, always, &caps),
                (crops_pad::NAME, gst::PadDirection::Src, request, &crops),
                (
                    detections_pad::NAME,
                    gst::PadDirection::Src,
                    request,
                    &lines,
                ),
            ]
            .into_iter()
            .filter_map(|(name, direction, presence, caps)| {
                gst::PadTemplate::new(name, direction, presence, caps).ok()
            })
            .collect()
        });
        &TEMPLATES
    }

    fn set_context(&self, context: &gst::Context) {
        self.offer().set_context(self.obj().upcast_ref(), context);
        self.parent_set_context(context);
    }

    fn request_new_pad(
        &self,
        template: &gst::PadTemplate,
        _name: Option<&str>,
        _caps: Option<&gst::Caps>,
    ) -> Option<gst::Pad> {
        request_pad::add(self, template)
    }

    fn release_pad(&self, pad: &gst::Pad) {
        request_pad::remove(self, pad);
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        match transition {
            gst::StateChange::NullToReady => self.share_context(),
            gst::StateChange::ReadyToPaused => self.start().map_err(|error| {
                self.post_error_message(error);
                gst::StateChangeError
            })?,
            // The streaming thread may wait for the model.
            gst::StateChange::PausedToReady => self.cancel_loading(),
            _ => {}
        }
        let success = self.parent_change_state(transition);
        let stopped = transition == gst::StateChange::PausedToReady;
        if stopped || (transition == gst::StateChange::ReadyToPaused && success.is_err()) {
            self.cancel_loading();
            lock(&self.loader).take();
            lock(&self.streaming).take();
            lock(&self.statistics).share(None);
        }
        if transition == gst::StateChange::ReadyToNull {
            self.offer().clear();
            lock(&self.seat).take();
        }
        success
    }
}

impl RsDetectNet {
    fn sink_chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.wait_for_model()?;
        let limit = self.max_in_flight.load(Ordering::Acquire);
        if limit > 1 {
            self.lineup.wait_for_room(limit)?;
        }
        let transit = self.take_in(buffer)?;
        match limit {
            0 | 1 => self.send_on(transit),
            _ => self.lineup.push_frame(transit),
        }
    }

    /// Decides what is to happen to a frame, and begins with it.
    fn take_in(&self, buffer: gst::Buffer) -> Result<Transit, gst::FlowError> {
        let (decision, facts, bad_settings) = self.decide(&buffer)?;
        let stage = match decision {
            Decision::Pass => Stage::Passing,
            Decision::TooLate(late, policy) => Stage::Late(late, policy),
            Decision::Inspect => {
                let mut begun = self.inspector()?.inspect(&buffer);
                if let Err(InspectError::OtherContext(context)) = begun {
                    self.lineup.drain();
                    self.adopt(context)?;
                    begun = self.inspector()?.inspect(&buffer);
                }
                if let Err(InspectError::OtherGpu { frame, .. }) = begun
                    && let Some(context) = self.context_of_gpu(frame)
                {
                    self.lineup.drain();
                    self.adopt(context)?;
                    begun = self.inspector()?.inspect(&buffer);
                }
                Stage::Inspecting(begun.map_err(|error| self.post_failure(&error))?)
            }
        };
        Ok(Transit {
            buffer,
            facts,
            stage,
            bad_settings,
        })
    }

    fn inspector(&self) -> Result<Inspector, gst::FlowError> {
        let mut streaming = lock(&self.streaming);
        let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
        Ok(streaming.inspector())
    }

    fn post_failure(&self, error: &InspectError) -> gst::FlowError {
        match error {
            InspectError::NoCaps => {
                gst::element_imp_error!(self, gst::CoreError::Negotiation, ("{}", error));
                return gst::FlowError::NotNegotiated;
            }
            InspectError::Detect(_) | InspectError::OtherContext(_) => {
                gst::element_imp_error!(self, gst::LibraryError::Failed, ("{}", error))
            }
            _ => gst::element_imp_error!(self, gst::StreamError::Format, ("{}", error)),
        }
        gst::FlowError::Error
    }

    /// What is to happen to a frame, what is known of it, and why settings that were to hold from now on do not.
    fn decide(
        &self,
        buffer: &gst::BufferRef,
    ) -> Result<(Decision, FrameFacts, Option<String>), gst::FlowError> {
        let mut streaming = lock(&self.streaming);
        let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
        let mut bad_settings = None;
        if self.settings_changed.swap(false, Ordering::AcqRel) {
            let settings = lock(&self.settings).clone();
            bad_settings = streaming.apply(&settings).err().map(|e| e.to_string());
        }
        let skips = streaming.skips(buffer);
        let facts = streaming.facts(buffer);
        let lateness = match skips {
            true => None,
            false => self.lateness(streaming, facts.running_time),
        };
        let decision = match lateness {
            _ if skips => Decision::Pass,
            Some(late) => Decision::TooLate(late, streaming.late_policy),
            None => Decision::Inspect,
        };
        Ok((decision, facts, bad_settings))
    }

    /// By how much a frame is too late to be inspected: as downstream says, or by the clock.
    fn lateness(
        &self,
        streaming: &Streaming,
        running_time: Option<gst::ClockTime>,
    ) -> Option<gst::ClockTime> {
        let told = streaming
            .qos
            .then(|| lock(&self.quality).lateness(running_time));
        told.flatten().or_else(|| {
            let latest = running_time? + streaming.max_latency?;
            let now = self.obj().current_running_time()?;
            (now > latest).then(|| now - latest)
        })
    }

    /// Waits for what is found in a frame, and pushes the frame with it.
    fn send_on(&self, transit: Transit) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Transit {
            mut buffer,
            facts,
            stage,
            bad_settings,
        } = transit;
        let mut aftermath = Aftermath {
            bad_settings,
            ..Aftermath::default()
        };
        let fate = match stage {
            Stage::Passing => Fate::Skipped,
            Stage::Late(late, policy) => {
                aftermath.late = Some(late);
                match policy {
                    LatePolicy::SkipInference => Fate::Late,
                    LatePolicy::Drop => Fate::Dropped,
                }
            }
            Stage::Inspecting(inspection) => {
                let found = inspection.wait().map_err(InspectError::from);
                let completed = match found {
                    Ok(found) => self.complete(found, &facts, &mut buffer, &mut aftermath)?,
                    Err(error) => Err(error),
                };
                completed.map_err(|error| self.post_failure(&error))?
            }
        };
        gst::trace!(CAT, imp = self, "{:?}: {fate:?}", buffer.pts());
        lock(&self.statistics).add(Instant::now(), fate);
        let produced = std::mem::take(&mut aftermath.produced);
        self.outputs.send(&buffer, produced, aftermath.overflows);
        self.tell(&buffer, &facts, aftermath);
        if fate == Fate::Dropped {
            self.discontinuous.store(true, Ordering::Release);
            return Ok(gst::FlowSuccess::Ok);
        }
        if self.discontinuous.swap(false, Ordering::AcqRel) {
            buffer.make_mut().set_flags(gst::BufferFlags::DISCONT);
        }
        match self.src_pad.push(buffer) {
            Err(gst::FlowError::NotLinked) if self.outputs.linked() => Ok(gst::FlowSuccess::Ok),
            flow => flow,
        }
    }

    /// Attaches what was found in a frame, and makes what the request pads get of it.
    fn complete(
        &self,
        found: Found,
        facts: &FrameFacts,
        buffer: &mut gst::Buffer,
        aftermath: &mut Aftermath,
    ) -> Result<Result<Fate, InspectError>, gst::FlowError> {
        let mut streaming = lock(&self.streaming);
        let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
        aftermath.overflows = streaming.producer.overflows();
        streaming.producer.wanted = self.outputs.wanted(aftermath.overflows);
        let inspected = match streaming.complete(found, facts, buffer) {
            Ok(inspected) => inspected,
            Err(error) => return Ok(Err(error)),
        };
        aftermath.detections = inspected.message;
        aftermath.not_drawn = inspected.not_drawn;
        aftermath.produced = streaming.producer.take();
        aftermath.not_cut = aftermath.produced.not_cut.take();
        Ok(Ok(inspected.fate))
    }

    /// One round of the thread of the pad `src`.
    fn send_next(&self) {
        match self.lineup.next() {
            Some((Item::Frame(transit), mut at_work)) => at_work.flow = self.send_on(transit),
            Some((Item::Event(event), _at_work)) => {
                self.send_event(event);
            }
            None => {
                let _ = self.src_pad.pause_task();
            }
        }
    }

    fn start_sending(&self) -> Result<(), gst::glib::BoolError> {
        let element = self.obj().downgrade();
        self.src_pad.start_task(move || {
            if let Some(element) = element.upgrade() {
                let this = element.imp();
                Self::catch_panic_pad_function(
                    Some(element.upcast_ref()),
                    || (),
                    |_| {
                        this.send_next();
                    },
                );
            }
        })
    }

    /// Whether another thread sends on what the streaming thread brings.
    pub(super) fn sends_apart(&self) -> bool {
        self.max_in_flight.load(Ordering::Acquire) > 1
    }

    fn activate_src(&self, active: bool) -> Result<(), gst::LoggableError> {
        if !self.sends_apart() {
            return Ok(());
        }
        let done = match active {
            true => {
                self.lineup.open();
                self.start_sending()
            }
            false => {
                self.lineup.close();
                self.src_pad.stop_task()
            }
        };
        done.map_err(|error| gst::loggable_error!(CAT, "{error}"))
    }

    /// Posts what is to be said of a frame.
    fn tell(&self, buffer: &gst::BufferRef, facts: &FrameFacts, aftermath: Aftermath) {
        let element = self.obj();
        if let Some(problem) = aftermath.bad_settings {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("{problem}; the earlier settings stay in force")
            );
        }
        let not_drawn = aftermath.not_drawn.map(str::to_owned);
        for reason in [not_drawn, aftermath.not_cut].into_iter().flatten() {
            gst::element_imp_warning!(self, gst::StreamError::Format, ("{reason}"));
        }
        if let Some(structure) = aftermath.detections {
            let message = gst::message::Element::builder(structure).src(&*element);
            let _ = element.post_message(message.build());
        }
        if let Some(late) = aftermath.late {
            let (processed, late_frames) = lock(&self.statistics).processed_and_late();
            let proportion = lock(&self.quality).proportion;
            let message = gst::message::Qos::builder(false)
                .running_time(facts.running_time)
                .stream_time(facts.stream_time)
                .timestamp(buffer.pts())
                .duration(buffer.duration())
                .values(late.nseconds() as i64, proportion, 1_000_000)
                .stats(
                    gst::format::Buffers::from_u64(processed),
                    gst::format::Buffers::from_u64(late_frames),
                );
            let _ = element.post_message(message.src(&*element).build());
        }
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, obj = pad, "{event:?}");
        let sends_apart = self.sends_apart();
        match event.view() {
            gst::EventView::Caps(caps) => {
                let Some(format) = Format::from_caps(caps.caps()) else {
                    gst::element_imp_error!(
                        self,
                        gst::CoreError::Negotiation,
                        ("frames of {} cannot be inspected", caps.caps())
                    );
                    return false;
                };
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.format = Some(format);
                    streaming.forget_past();
                }
            }
            gst::EventView::Segment(segment) => {
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.segment = segment.segment().clone().downcast().ok();
                    streaming.forget_past();
                }
            }
            gst::EventView::FlushStart(_) if sends_apart => self.lineup.begin_flush(),
            gst::EventView::FlushStop(_) => {
                *lock(&self.quality) = Quality::default();
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.segment = None;
                    streaming.forget_past();
                }
            }
            _ => {}
        }
        let kind = event.type_();
        if sends_apart && event.is_serialized() && kind != gst::EventType::FlushStop {
            return self.lineup.push_event(event);
        }
        let done = self.send_event(event);
        match kind {
            gst::EventType::FlushStart if sends_apart => {
                let _ = self.src_pad.pause_task();
            }
            gst::EventType::FlushStop if sends_apart => {
                self.lineup.end_flush();
                let _ = self.start_sending();
            }
            _ => {}
        }
        done
    }

    /// Passes an event on to all pads.
    fn send_event(&self, event: gst::Event) -> bool {
        self.outputs.event(&event);
        gst::Pad::event_default(&self.sink_pad, Some(&*self.obj()), event)
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, proportion, jitter, timestamp) = qos.get();
            lock(&self.quality).update(timestamp, jitter, proportion);
        }
        self.forward_upstream(pad, event)
    }

    /// Passes an event on upstream, a seek only once: it comes from every pad behind which there is a sink.
    pub(super) fn forward_upstream(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Reconfigure {
            self.lineup.relinked();
        }
        let seek = (event.type_() == gst::EventType::Seek).then(|| event.seqnum());
        if seek.is_some() && *lock(&self.latest_seek) == seek {
            return true;
        }
        let done = gst::Pad::event_default(pad, Some(&*self.obj()), event);
        if done && seek.is_some() {
            *lock(&self.latest_seek) = seek;
        }
        done
    }
}
