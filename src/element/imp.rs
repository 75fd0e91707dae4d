//! The element's class, pads, properties and states.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gst::glib;
use gst::prelude::*;
use gst::subclass::prelude::*;
use once_cell::sync::Lazy;

use super::ledger::Ledger;
use super::lineup::Lineup;
use super::loader::Loader;
use super::memory;
use super::outputs::Outputs;
use super::punctuality::Punctuality;
use super::quality::Quality;
use super::settings::Settings;
use super::statistics::Statistics;
use super::streaming::{Streaming, Transit};
use super::{crops_pad, detections_pad, request_pad};
use crate::cuda::seats::Seat;
use crate::frame::context_offer::ContextOffer;
use crate::lock;

pub(super) static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "rsdetectnet",
        gst::DebugColorFlags::empty(),
        Some("Object detection in place"),
    )
});

pub struct RsDetectNet {
    pub(super) sink_pad: gst::Pad,
    pub(super) src_pad: gst::Pad,
    pub(super) outputs: Outputs,
    /// The latest seek that went upstream: it comes again from every pad behind which there is a sink.
    pub(super) latest_seek: Mutex<Option<gst::Seqnum>>,
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
    pub(super) punctuality: Mutex<Punctuality>,
    pub(super) statistics: Mutex<Statistics>,
    pub(super) ledger: Arc<Ledger>,
    /// What one inspection takes, in nanoseconds, measured when the model was loaded.
    pub(super) latency: AtomicU64,
    /// More than one has frames and events sent on by the thread of the pad `src`.
    pub(super) max_in_flight: AtomicUsize,
    pub(super) lineup: Arc<Lineup<Transit>>,
    /// Frames before the next one were dropped.
    pub(super) discontinuous: AtomicBool,
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
            punctuality: Mutex::default(),
            statistics: Mutex::default(),
            ledger: Arc::default(),
            latency: AtomicU64::new(0),
            max_in_flight: AtomicUsize::new(1),
            lineup: Arc::default(),
            discontinuous: AtomicBool::new(false),
        }
    }
}

impl ObjectImpl for RsDetectNet {
    fn properties() -> &'static [glib::ParamSpec] {
        Settings::specs()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, spec: &glib::ParamSpec) {
        gst::debug!(CAT, imp = self, "{} = {value:?}", spec.name());
        lock(&self.settings).set(spec.name(), value);
        self.settings_changed.store(true, Ordering::Release);
    }

    fn property(&self, _id: usize, spec: &glib::ParamSpec) -> glib::Value {
        match lock(&self.settings).value(spec.name()) {
            Some(value) => value,
            None => {
                let mut stats = lock(&self.statistics).to_structure();
                self.ledger.add_statistics(&mut stats);
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
            self.lineup.share_duty(None);
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
