//! The element's class, pads, events, queries and states.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use once_cell::sync::Lazy;

use super::loader::{self, Loaded, Loader};
use super::memory::{self, Format};
use super::outputs::{Outputs, Overflows};
use super::producer::Produced;
use super::quality::Quality;
use super::settings::Settings;
use super::statistics::{Fate, Statistics};
use super::streaming::{InspectError, Streaming};
use super::{crops_pad, detections_pad, request_pad};
use crate::cuda::context::Context;
use crate::detector::{self, LoadError};
use crate::frame::context_offer::ContextOffer;
use crate::frame::gstcuda::CudaContext;
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
    not_drawn: Option<&'static str>,
    not_cut: Option<&'static str>,
    /// What the request pads get.
    produced: Produced,
    overflows: Overflows,
}

pub struct RsDetectNet {
    pub(super) sink_pad: gst::Pad,
    src_pad: gst::Pad,
    pub(super) outputs: Outputs,
    /// The latest seek that went upstream: it comes again from every pad behind which there is a sink.
    latest_seek: Mutex<Option<gst::Seqnum>>,
    settings: Mutex<Settings>,
    /// Set when `settings` changed and the streaming thread has not taken them over yet.
    settings_changed: AtomicBool,
    streaming: Mutex<Option<Streaming>>,
    /// A model whose engine is being built while the element waits for its first frame.
    loader: Mutex<Option<Arc<Loader>>>,
    /// The CUDA context shared with the elements around, for the GPU that is set.
    offer: Mutex<Arc<ContextOffer>>,
    /// Whether frames in GPU memory are welcome.
    on_gpu: AtomicBool,
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
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.query(pad, query))
            })
            .iterate_internal_links_function(|_, parent| {
                request_pad::links(parent, |this| &this.src_pad)
            })
            .flags(proxied)
            .build();
        let src_pad = pad("src")
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
            offer: Mutex::new(Arc::new(ContextOffer::new(0))),
            on_gpu: AtomicBool::new(true),
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
        }
        if transition == gst::StateChange::ReadyToNull {
            self.offer().clear();
        }
        success
    }
}

impl RsDetectNet {
    /// What shares the CUDA context of the GPU that is set.
    fn offer(&self) -> Arc<ContextOffer> {
        let gpu_id = lock(&self.settings).gpu_id;
        let mut offer = lock(&self.offer);
        if offer.gpu_id() != gpu_id {
            *offer = Arc::new(ContextOffer::new(gpu_id));
        }
        Arc::clone(&offer)
    }

    /// Agrees with the elements around on one CUDA context, before decoders make their own.
    fn share_context(&self) {
        let options = lock(&self.settings).detector_options();
        if !detector::wants_gpu(&options) {
            return;
        }
        if let Err(error) = self.offer().ensure(self.obj().upcast_ref()) {
            gst::info!(CAT, imp = self, "no CUDA context is shared: {error}");
        }
    }

    fn cancel_loading(&self) {
        let loader = lock(&self.loader).clone();
        if let Some(loader) = loader {
            loader.cancel();
        }
    }

    /// Loads the model. Where its engine has to be built, that goes on after this returns.
    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        self.outputs.reset();
        self.post_progress(
            gst::ProgressType::Start,
            &format!("Loading {}", settings.model),
        );
        let options = settings.detector_options();
        let on_gpu = detector::wants_gpu(&options);
        self.on_gpu.store(on_gpu, Ordering::Release);
        let context = match self.offer().context().filter(|_| on_gpu) {
            Some(context) => Some(context_of(context).map_err(|e| load_error(&e))?),
            None => None,
        };
        let element = self.obj().downgrade();
        let report = move |phase: &str, percent: Option<u32>| {
            if let Some(element) = element.upgrade() {
                let percent = percent.map_or_else(String::new, |percent| format!(" {percent}%"));
                let text = format!("Building an engine for this GPU: {phase}{percent}");
                element
                    .imp()
                    .post_progress(gst::ProgressType::Continue, &text);
            }
        };
        let loader = Loader::start(options, context, report).map_err(|error| {
            gst::error_msg!(
                gst::CoreError::Thread,
                ("no thread to load the model: {}", error)
            )
        })?;
        match loader.wait_unless_long() {
            Some(outcome) => self.finish_loading(outcome),
            None => {
                *lock(&self.loader) = Some(Arc::new(loader));
                Ok(())
            }
        }
    }

    /// Takes over a loaded model, or says why there is none.
    fn finish_loading(&self, outcome: Result<Loaded, LoadError>) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        self.settings_changed.store(false, Ordering::Release);
        let loaded = outcome.map_err(|error| load_error(&error));
        let made = loaded.and_then(|(detector, inspection)| {
            let backend = detector.description().to_owned();
            let streaming = Streaming::new(detector, &settings)
                .map_err(|e| gst::error_msg!(gst::ResourceError::Settings, ("{}", e)))?;
            Ok((streaming, inspection, backend))
        });
        let (mut streaming, inspection, backend) = made.inspect_err(|_| {
            let text = format!("{} was not loaded", settings.model);
            self.post_progress(gst::ProgressType::Error, &text);
        })?;
        gst::info!(
            CAT,
            imp = self,
            "{}: {backend}, one inspection takes {inspection:?}",
            settings.model
        );
        let text = format!("{} runs on {backend}", settings.model);
        self.post_progress(gst::ProgressType::Complete, &text);
        streaming.producer.element_name = self.obj().name().into();
        streaming.format = self
            .sink_pad
            .current_caps()
            .and_then(|caps| Format::from_caps(&caps));
        streaming.segment = self
            .sink_pad
            .sticky_event::<gst::event::Segment>(0)
            .and_then(|segment| segment.segment().clone().downcast().ok());
        *lock(&self.statistics) = Statistics::new(backend);
        *lock(&self.quality) = Quality::default();
        *lock(&self.streaming) = Some(streaming);
        let latency = gst::ClockTime::try_from(inspection).unwrap_or_default();
        if self.latency.swap(latency.nseconds(), Ordering::AcqRel) != latency.nseconds() {
            let message = gst::message::Latency::builder().src(&*self.obj());
            let _ = self.obj().post_message(message.build());
        }
        Ok(())
    }

    fn post_progress(&self, kind: gst::ProgressType, text: &str) {
        let message = gst::message::Progress::builder(kind, LOAD_PROGRESS, text);
        let _ = self.obj().post_message(message.src(&*self.obj()).build());
    }

    /// Waits for a model that is still being loaded.
    fn wait_for_model(&self) -> Result<(), gst::FlowError> {
        let Some(loader) = lock(&self.loader).clone() else {
            return Ok(());
        };
        let outcome = loader.wait_to_the_end().ok_or(gst::FlowError::Flushing)?;
        lock(&self.loader).take();
        self.finish_loading(outcome).map_err(|error| {
            self.post_error_message(error);
            gst::FlowError::Error
        })
    }

    /// Loads the model anew in the CUDA context of the frames, which is not the one that was offered.
    fn adopt(&self, context: CudaContext) -> Result<(), gst::FlowError> {
        gst::info!(CAT, imp = self, "moving to the frames' own CUDA context");
        let options = lock(&self.settings).detector_options();
        self.offer().adopt(context.clone());
        let loaded = context_of(context).and_then(|context| {
            loader::load(&options, Some(context), &mut |_, _| {
                ControlFlow::Continue(())
            })
        });
        let (detector, _) = loaded.map_err(|error| {
            self.post_error_message(load_error(&error));
            gst::FlowError::Error
        })?;
        if let Some(streaming) = lock(&self.streaming).as_mut() {
            streaming.replace_detector(detector);
        }
        Ok(())
    }

    fn sink_chain(
        &self,
        _pad: &gst::Pad,
        mut buffer: gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.wait_for_model()?;
        let mut inspected = self.inspect_locked(&mut buffer)?;
        if let Err(InspectError::OtherContext(context)) = inspected {
            self.adopt(context)?;
            inspected = self.inspect_locked(&mut buffer)?;
        }
        match inspected {
            Ok(Some(mut aftermath)) => {
                let produced = std::mem::take(&mut aftermath.produced);
                self.outputs.send(&buffer, produced, aftermath.overflows);
                self.tell(&buffer, aftermath);
            }
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
                    InspectError::Detect(_)
                    | InspectError::Thumbnail(_)
                    | InspectError::OtherContext(_) => {
                        gst::element_imp_error!(self, gst::LibraryError::Failed, ("{}", error))
                    }
                    _ => gst::element_imp_error!(self, gst::StreamError::Format, ("{}", error)),
                }
                return Err(gst::FlowError::Error);
            }
        }
        match self.src_pad.push(buffer) {
            Err(gst::FlowError::NotLinked) if self.outputs.linked() => Ok(gst::FlowSuccess::Ok),
            flow => flow,
        }
    }

    fn inspect_locked(
        &self,
        buffer: &mut gst::Buffer,
    ) -> Result<Result<Option<Aftermath>, InspectError>, gst::FlowError> {
        let mut streaming = lock(&self.streaming);
        let streaming = streaming.as_mut().ok_or(gst::FlowError::Flushing)?;
        Ok(self.inspect(streaming, buffer))
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
        let Some(format) = streaming.format.clone() else {
            return Ok(None);
        };
        aftermath.running_time = streaming.running_time(buffer);
        aftermath.overflows = streaming.producer.overflows();
        streaming.producer.wanted = self.outputs.wanted(aftermath.overflows);
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
                    let inspected = streaming.inspect(&format, buffer)?;
                    aftermath.detections = inspected.message;
                    aftermath.not_drawn = inspected.not_drawn;
                    aftermath.produced = streaming.producer.take();
                    aftermath.not_cut = aftermath.produced.not_cut;
                    inspected.fate
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
        for reason in [aftermath.not_drawn, aftermath.not_cut]
            .into_iter()
            .flatten()
        {
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
            gst::EventView::FlushStop(_) => {
                *lock(&self.quality) = Quality::default();
                if let Some(streaming) = lock(&self.streaming).as_mut() {
                    streaming.segment = None;
                    streaming.forget_past();
                }
            }
            _ => {}
        }
        self.outputs.event(&event);
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
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

    pub(super) fn query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            gst::QueryViewMut::Latency(latency) if *pad != self.sink_pad => {
                self.query_latency(latency)
            }
            gst::QueryViewMut::Context(_) => {
                self.offer().answer(self.obj().upcast_ref(), query)
                    || gst::Pad::query_default(pad, Some(&*self.obj()), query)
            }
            gst::QueryViewMut::Caps(_) if [&self.sink_pad, &self.src_pad].contains(&pad) => {
                self.query_caps(pad, query)
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }

    /// What the other side of the element can take or give, without GPU memory where there is no GPU.
    fn query_caps(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        let answered = gst::Pad::query_default(pad, Some(&*self.obj()), query);
        if answered
            && !self.on_gpu.load(Ordering::Acquire)
            && let gst::QueryViewMut::Caps(caps) = query.view_mut()
            && let Some(result) = caps.result_owned()
        {
            let possible =
                result.intersect_with_mode(&memory::system_caps(), gst::CapsIntersectMode::First);
            caps.set_result(&possible);
        }
        answered
    }

    fn query_latency(&self, latency: &mut gst::query::Latency) -> bool {
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

/// A context of GStreamer as one to work in.
fn context_of(context: CudaContext) -> Result<Context, LoadError> {
    let handle = context.handle();
    // SAFETY: the GstCudaContext keeps its CUcontext alive.
    Ok(unsafe { Context::foreign(handle, Arc::new(context)) }?)
}

/// Why a model could not be loaded, in GStreamer's domains.
fn load_error(error: &LoadError) -> gst::ErrorMessage {
    match error {
        LoadError::Model(_) | LoadError::Labels(_) => {
            gst::error_msg!(gst::ResourceError::NotFound, ("{}", error))
        }
        LoadError::Layout(_) | LoadError::Input { .. } | LoadError::OpenShape { .. } => {
            gst::error_msg!(gst::ResourceError::Settings, ("{}", error))
        }
        _ => gst::error_msg!(gst::LibraryError::Init, ("{}", error)),
    }
}
