//! The element's class, pads, events, queries and states.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::VideoCapsBuilder;
use once_cell::sync::Lazy;

use super::quality::Quality;
use super::settings::Settings;
use super::statistics::{Fate, Statistics};
use super::streaming::{InspectError, Streaming};
use crate::detector::{Detector, LoadError};
use crate::frame::buffer::{FrameShape, SYSTEM_FORMATS};
use crate::lock;

pub(super) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "rsdetectnet",
        gst::DebugColorFlags::empty(),
        Some("Object detection in place"),
    )
});

/// The code of the progress messages while a model is loaded.
const LOAD_PROGRESS: &str = "load-model";

/// What must happen to a frame besides being passed on, once no lock is held.
#[derive(Default)]
struct Aftermath {
    detections: Option<gst::Structure>,
    /// The frame was late by this much.
    late: Option<gst::ClockTime>,
    running_time: Option<gst::ClockTime>,
    stream_time: Option<gst::ClockTime>,
    bad_settings: Option<String>,
}

pub struct RsDetectNet {
    sink_pad: gst::Pad,
    src_pad: gst::Pad,
    settings: Mutex<Settings>,
    /// Set when `settings` changed and the streaming thread has not taken them over yet.
    settings_changed: AtomicBool,
    streaming: Mutex<Option<Streaming>>,
    quality: Mutex<Quality>,
    statistics: Mutex<Statistics>,
    /// What one inspection takes, in nanoseconds, measured when the model was loaded.
    latency: AtomicU64,
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
            .chain_function(|pad, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.sink_chain(pad, buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
            })
            .flags(proxied)
            .build();
        let src_pad = pad("src")
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_query(pad, query))
            })
            .flags(proxied)
            .build();
        Self {
            sink_pad,
            src_pad,
            settings: Mutex::default(),
            settings_changed: AtomicBool::new(false),
            streaming: Mutex::default(),
            quality: Mutex::default(),
            statistics: Mutex::default(),
            latency: AtomicU64::new(0),
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
            None => lock(&self.statistics).to_structure().to_value(),
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
            let caps = VideoCapsBuilder::new().format_list(SYSTEM_FORMATS).build();
            [
                ("sink", gst::PadDirection::Sink),
                ("src", gst::PadDirection::Src),
            ]
            .into_iter()
            .filter_map(|(name, direction)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
            })
            .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::ReadyToPaused {
            self.start().map_err(|error| {
                self.post_error_message(error);
                gst::StateChangeError
            })?;
        }
        let success = self.parent_change_state(transition);
        let stopped = transition == gst::StateChange::PausedToReady;
        if stopped || (transition == gst::StateChange::ReadyToPaused && success.is_err()) {
            lock(&self.streaming).take();
        }
        success
    }
}

impl RsDetectNet {
    /// Loads the model and measures what one inspection takes.
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        self.settings_changed.store(false, Ordering::Release);
        let progress = |kind, text: &str| {
            let message = gst::message::Progress::builder(kind, LOAD_PROGRESS, text);
            let _ = self.obj().post_message(message.src(&*self.obj()).build());
        };
        progress(
            gst::ProgressType::Start,
            &format!("Loading {}", settings.model),
        );
        let started = Instant::now();
        let (streaming, latency, backend) = self.load(&settings).inspect_err(|_| {
            progress(
                gst::ProgressType::Error,
                &format!("{} was not loaded", settings.model),
            );
        })?;
        gst::info!(
            CAT,
            imp = self,
            "{}: {backend}, loaded in {:?}, one inspection takes {latency}",
            settings.model,
            started.elapsed()
        );
        progress(
            gst::ProgressType::Complete,
            &format!("{} runs on {backend}", settings.model),
        );
        *lock(&self.statistics) = Statistics::new(backend);
        *lock(&self.quality) = Quality::default();
        *lock(&self.streaming) = Some(streaming);
        if self.latency.swap(latency.nseconds(), Ordering::AcqRel) != latency.nseconds() {
            let message = gst::message::Latency::builder().src(&*self.obj());
            let _ = self.obj().post_message(message.build());
        }
        Ok(())
    }

    fn load(
        &self,
        settings: &Settings,
    ) -> Result<(Streaming, gst::ClockTime, String), gst::ErrorMessage> {
        let wrong = |error: &dyn std::fmt::Display| {
            gst::error_msg!(gst::ResourceError::Settings, ("{}", error))
        };
        let mut detector =
            Detector::load(&settings.detector_options()).map_err(|error| match &error {
                LoadError::Model(_) | LoadError::Labels(_) => {
                    gst::error_msg!(gst::ResourceError::NotFound, ("{}", error))
                }
                LoadError::Engine(_) => gst::error_msg!(gst::LibraryError::Init, ("{}", error)),
                LoadError::Layout(_) => wrong(&error),
            })?;
        let inspection = detector
            .measure()
            .map_err(|error| gst::error_msg!(gst::LibraryError::Failed, ("{}", error)))?;
        let backend = detector.describe();
        let streaming = Streaming::new(detector, settings).map_err(|error| wrong(&error))?;
        let latency = gst::ClockTime::try_from(inspection).unwrap_or_default();
        Ok((streaming, latency, backend))
    }

    fn sink_chain(
        &self,
        _pad: &gst::Pad,
        mut buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let inspected = {
            let mut streaming = lock(&self.streaming);
            let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
            self.inspect(streaming, &mut buffer)
        };
        match inspected {
            Ok(Some(aftermath)) => self.tell(&buffer, aftermath),
            Ok(None) => {
                gst::element_imp_error!(
                    self,
                    gst::CoreError::Negotiation,
                    ("a frame came before its caps")
                );
                return Err(gst::FlowError::NotNegotiated);
            }
            Err(error) => {
                match &error {
                    InspectError::Frame(_) => {
                        gst::element_imp_error!(self, gst::StreamError::Format, ("{}", error))
                    }
                    InspectError::Detect(_) => {
                        gst::element_imp_error!(self, gst::LibraryError::Failed, ("{}", error))
                    }
                }
                return Err(gst::FlowError::Error);
            }
        }
        self.src_pad.push(buffer)
    }

    /// Decides on one frame and inspects it; None where its caps are not known.
    fn inspect(
        &self,
        streaming: &mut Streaming,
        buffer: &mut gst::Buffer,
    ) -> Result<Option<Aftermath>, InspectError> {
        let mut aftermath = Aftermath::default();
        if self.settings_changed.swap(false, Ordering::AcqRel) {
            let settings = lock(&self.settings).clone();
            aftermath.bad_settings = streaming.apply(&settings).err().map(|e| e.to_string());
        }
        let Some(shape) = streaming.shape.clone() else {
            return Ok(None);
        };
        aftermath.running_time = streaming.running_time(buffer);
        let fate = if streaming.skips(buffer) {
            Fate::Skipped
        } else {
            let lateness = match streaming.qos {
                true => lock(&self.quality).lateness(aftermath.running_time),
                false => None,
            };
            match lateness {
                Some(late) => {
                    aftermath.late = Some(late);
                    aftermath.stream_time = streaming.stream_time(buffer);
                    Fate::Late
                }
                None => {
                    let (fate, detections) = streaming.inspect(&shape, buffer)?;
                    aftermath.detections = detections;
                    fate
                }
            }
        };
        gst::trace!(CAT, imp = self, "{:?}: {fate:?}", buffer.pts());
        lock(&self.statistics).add(Instant::now(), fate);
        Ok(Some(aftermath))
    }

    /// Posts what is to be said of a frame.
    fn tell(&self, buffer: &gst::BufferRef, aftermath: Aftermath) {
        let element = self.obj();
        if let Some(problem) = aftermath.bad_settings {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("{problem}; the earlier settings stay in force")
            );
        }
        if let Some(structure) = aftermath.detections {
            let message = gst::message::Element::builder(structure).src(&*element);
            let _ = element.post_message(message.build());
        }
        if let Some(late) = aftermath.late {
            let (processed, late_frames) = lock(&self.statistics).processed_and_late();
            let proportion = lock(&self.quality).proportion;
            let message = gst::message::Qos::builder(false)
                .running_time(aftermath.running_time)
                .stream_time(aftermath.stream_time)
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
        match event.view() {
            gst::EventView::Caps(caps) => {
                let info = gst_video::VideoInfo::from_caps(caps.caps());
                let Some(shape) = info.ok().and_then(FrameShape::new) else {
                    gst::element_imp_error!(
                        self,
                        gst::CoreError::Negotiation,
                        ("frames of {} cannot be inspected", caps.caps())
                    );
                    return false;
                };
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.shape = Some(shape);
                    streaming.forget_past();
                }
            }
            gst::EventView::Segment(segment) => {
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.segment = segment.segment().clone().downcast().ok();
                    streaming.forget_past();
                }
            }
            gst::EventView::FlushStop(_) => {
                *lock(&self.quality) = Quality::default();
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.segment = None;
                    streaming.forget_past();
                }
            }
            _ => {}
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    fn src_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        if let gst::EventView::Qos(qos) = event.view() {
            let (_, proportion, jitter, timestamp) = qos.get();
            lock(&self.quality).update(timestamp, jitter, proportion);
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        let gst::QueryViewMut::Latency(latency) = query.view_mut() else {
            return gst::Pad::query_default(pad, Some(&*self.obj()), query);
        };
        let mut upstream = gst::query::Latency::new();
        if !self.sink_pad.peer_query(&mut upstream) {
            return false;
        }
        let (live, least, most) = upstream.result();
        let own = gst::ClockTime::from_nseconds(self.latency.load(Ordering::Acquire));
        latency.set(live, least + own, most.map(|most| most + own));
        true
    }
}
