//! How the element comes by its model, and by the CUDA context that it shares with its neighbours.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{CAT, RsDetectNet};
use super::loader::Loader;
use super::memory::Format;
use super::punctuality::Punctuality;
use super::quality::Quality;
use super::statistics::Statistics;
use super::streaming::Streaming;
use crate::cuda::context::Context;
use crate::cuda::seats::Seat;
use crate::detector::{Detector, LoadError, Obstacle, Place};
use crate::frame::context_offer::ContextOffer;
use crate::frame::gstcuda::CudaContext;
use crate::lock;
use crate::model::ModelError;
use crate::printable::printable;

/// The code of the progress messages while a model is loaded.
const LOAD_PROGRESS: &str = "load-model";

impl RsDetectNet {
    /// What shares the CUDA context of the GPU that is set.
    pub(super) fn offer(&self) -> Arc<ContextOffer> {
        let gpu_id = u32::try_from(lock(&self.settings).gpu.id).ok();
        let mut offer = lock(&self.offer);
        if offer.gpu_id() != gpu_id {
            *offer = Arc::new(ContextOffer::new(gpu_id));
        }
        Arc::clone(&offer)
    }

    /// Agrees with the elements around on one CUDA context, before decoders make their own, and so on a GPU.
    pub(super) fn share_context(&self) {
        let offer = self.offer();
        if !Place::of(&lock(&self.settings).detector_options(0)).is_gpu() {
            return;
        }
        let mut seat = offer.gpu_id().map(Seat::on);
        let choose = || {
            let chosen = seat
                .get_or_insert_with(|| Seat::where_there_is_room().unwrap_or_else(|_| Seat::on(0)));
            chosen.gpu_id()
        };
        match offer.ensure(self.obj().upcast_ref(), choose) {
            Ok(context) => {
                seat.get_or_insert_with(|| Seat::on(context.gpu_id()));
            }
            Err(error) => gst::info!(CAT, imp = self, "no CUDA context is shared: {error}"),
        }
        let seat = seat.or_else(|| Seat::where_there_is_room().ok());
        *lock(&self.seat) = seat;
    }

    /// The GPU that the element has agreed on.
    fn gpu_id(&self) -> u32 {
        lock(&self.seat).as_ref().map_or(0, Seat::gpu_id)
    }

    /// The shared context of another GPU, where the element may move to it.
    pub(super) fn context_of_gpu(&self, gpu_id: u32) -> Option<CudaContext> {
        let may_move = lock(&self.settings).gpu.id < 0;
        may_move.then(|| CudaContext::shared(gpu_id).ok()).flatten()
    }

    pub(super) fn cancel_loading(&self) {
        let loader = lock(&self.loader).clone();
        if let Some(loader) = loader {
            loader.cancel();
        }
    }

    /// Loads the model. Where its engine has to be built, that goes on after this returns.
    pub(super) fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        self.outputs.reset();
        // Frames that come before the model is there count as well.
        self.ledger.begin();
        *lock(&self.statistics) = Statistics::default();
        self.post_progress(
            gst::ProgressType::Start,
            &format!("Loading {}", settings.model),
        );
        let options = settings.detector_options(self.gpu_id());
        gst::info!(CAT, imp = self, "starting with {}", settings.told());
        let place = Place::of(&options);
        if let Place::CpuBecause(obstacle) = &place {
            self.tell_obstacle(obstacle);
        }
        let on_gpu = place.is_gpu();
        let max_in_flight = settings.sharing.max_in_flight(on_gpu);
        self.max_in_flight.store(max_in_flight, Ordering::Release);
        self.on_gpu.store(on_gpu, Ordering::Release);
        let context = match self.offer().context().filter(|_| on_gpu) {
            Some(context) => Some(context_of(context).map_err(|e| self.load_error(&e))?),
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

    /// Says why the CPU runs the model.
    fn tell_obstacle(&self, obstacle: &Obstacle) {
        let text = format!("Not on a GPU: {}", printable(obstacle));
        if obstacle.is_news() {
            gst::warning!(CAT, imp = self, "{text}");
            self.post_progress(gst::ProgressType::Continue, &text);
        } else {
            gst::info!(CAT, imp = self, "{text}");
        }
    }

    /// Takes over a loaded model, or says why there is none.
    fn finish_loading(
        &self,
        outcome: Result<Detector, LoadError>,
    ) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        self.settings_changed.store(false, Ordering::Release);
        let loaded = outcome.map_err(|error| self.load_error(&error));
        let made = loaded.and_then(|detector| {
            self.take_part(&detector);
            let inspection = detector.inspection();
            let backend = detector.description().to_owned();
            let streaming = Streaming::new(detector, &settings).map_err(|error| {
                let text = self.log_error(&error);
                gst::error_msg!(gst::ResourceError::Settings, ("{text}"))
            })?;
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
        if let Some(path) = settings.decoding.modelinfo_out() {
            match streaming.write_modelinfo(path) {
                Ok(()) => gst::info!(CAT, imp = self, "{} describes the model", path.display()),
                Err(error) => {
                    gst::element_imp_warning!(
                        self,
                        gst::ResourceError::OpenWrite,
                        ("{}", printable(error))
                    );
                }
            }
        }
        let text = format!("{} runs on {backend}", settings.model);
        self.post_progress(gst::ProgressType::Complete, &text);
        streaming.producer.element_name = self.obj().name().into();
        streaming.producer.share(self.offer().context());
        streaming.format = self
            .sink_pad
            .current_caps()
            .and_then(|caps| Format::from_caps(&caps));
        streaming.segment = self
            .sink_pad
            .sticky_event::<gst::event::Segment>(0)
            .and_then(|segment| segment.segment().clone().downcast().ok());
        lock(&self.statistics).begin(backend, streaming.streams());
        *lock(&self.quality) = Quality::default();
        *lock(&self.punctuality) = Punctuality::default();
        *lock(&self.streaming) = Some(streaming);
        let latency = gst::ClockTime::try_from(inspection).unwrap_or_default();
        if self.latency.swap(latency.nseconds(), Ordering::AcqRel) != latency.nseconds() {
            let message = gst::message::Latency::builder().src(&*self.obj());
            let _ = self.obj().post_message(message.build());
        }
        Ok(())
    }

    /// Tells a model what to expect of the element, which does its part in return.
    fn take_part(&self, detector: &Detector) {
        detector.expect(self.max_in_flight.load(Ordering::Acquire));
        if self.sends_apart() {
            self.lineup
                .share_duty(detector.attended_by(self.lineup.clone()));
        }
    }

    fn post_progress(&self, kind: gst::ProgressType, text: &str) {
        let message = gst::message::Progress::builder(kind, LOAD_PROGRESS, text);
        let _ = self.obj().post_message(message.src(&*self.obj()).build());
    }

    /// Waits for a model that is still being loaded.
    pub(super) fn wait_for_model(&self) -> Result<(), gst::FlowError> {
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
    pub(super) fn adopt(&self, context: CudaContext) -> Result<(), gst::FlowError> {
        gst::info!(CAT, imp = self, "moving to the frames' own CUDA context");
        let options = lock(&self.settings).detector_options(context.gpu_id());
        *lock(&self.seat) = Some(Seat::on(context.gpu_id()));
        self.offer().adopt(context.clone());
        let loaded = context_of(context).and_then(|context| {
            Detector::load(&options, Some(context), &mut |_, _| {
                ControlFlow::Continue(())
            })
        });
        let detector = loaded.map_err(|error| {
            self.post_error_message(self.load_error(&error));
            gst::FlowError::Error
        })?;
        self.take_part(&detector);
        lock(&self.statistics).share(Some(detector.streams().clone()));
        if let Some(streaming) = lock(&self.streaming).as_mut() {
            streaming.replace_detector(detector);
        }
        Ok(())
    }

    /// Why a model could not be loaded, in GStreamer's domains; it is logged as well.
    fn load_error(&self, error: &LoadError) -> gst::ErrorMessage {
        let text = self.log_error(error);
        match error {
            LoadError::Model(ModelError::Broken { .. }) => {
                gst::error_msg!(gst::LibraryError::Init, ("{text}"))
            }
            LoadError::Model(_) | LoadError::Labels(_) => {
                gst::error_msg!(gst::ResourceError::NotFound, ("{text}"))
            }
            LoadError::Layout(_)
            | LoadError::Input { .. }
            | LoadError::OpenShape { .. }
            | LoadError::OpenSize
            | LoadError::FixedSize { .. } => {
                gst::error_msg!(gst::ResourceError::Settings, ("{text}"))
            }
            _ => gst::error_msg!(gst::LibraryError::Init, ("{text}")),
        }
    }

    /// Logs an error, and returns it as messages should have it.
    pub(super) fn log_error(&self, error: &dyn std::error::Error) -> String {
        let text = printable(error);
        gst::error!(CAT, imp = self, "{text}");
        text
    }
}

/// A context of GStreamer as one to work in.
fn context_of(context: CudaContext) -> Result<Context, LoadError> {
    let handle = context.handle();
    // SAFETY: the GstCudaContext keeps its CUcontext alive.
    Ok(unsafe { Context::foreign(handle, Arc::new(context)) }?)
}
