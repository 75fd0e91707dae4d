//! Detection on a GPU: one model there, for all the streams that use it.

mod bay;
mod forecast;
pub mod lane;
mod load;
mod painter;
mod tensors;
mod upload;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use self::bay::{Bay, Bays, Berth, new_bays};
use self::lane::{EngineLane, Job};
use self::load::{LoadedEngine, load_engine};
use self::painter::Painter;
use self::upload::{UploadSlot, Uploads};
use super::growth::Growth;
use super::recognized::Recognized;
use super::scheduler::{BATCHES_UNDER_WAY, MAX_BATCH, Scheduler, Seats, Ticket};
use super::sharing::Streams;
use super::{
    Attendant, CAT, DetectError, DetectorOptions, Doubt, Drawing, Duty, Frames, LoadError,
    LoadProgress, Timings,
};
use crate::cuda::context::Context;
use crate::cuda::{Kernels, SharedKernels};
use crate::decode::Selection;
use crate::detection::Detection;
use crate::engine::tensorrt::{Batches, size_after};
use crate::frame::{DeviceFrame, PendingStream};
use crate::region::Part;
use crate::{frame::planes, lock, profiler};

/// What all lanes of a model have in common.
#[derive(Clone)]
struct Commons {
    options: DetectorOptions,
    kernels: Arc<SharedKernels>,
    doubt: Doubt,
    streams: Streams,
}

/// A model on a GPU, with room for the batches that its streams need.
pub struct TensorRtModel {
    description: String,
    recognized: Recognized,
    inspection: Mutex<Option<Duration>>,
    /// Frames that all streams together may have under way.
    expected: AtomicUsize,
    commons: Commons,
    growth: Growth,
    scheduler: Arc<Scheduler<EngineLane>>,
    bays: Bays,
    context: Context,
}

impl TensorRtModel {
    /// Loads a model in a context, and builds its engine where none is kept.
    pub fn load(
        options: &DetectorOptions,
        context: Context,
        progress: &mut LoadProgress<'_>,
    ) -> Result<Self, LoadError> {
        let current = context.enter()?;
        current.check()?;
        let engine = load_engine(options, 1, &context, progress)?;
        let loaded = engine.describe(&context)?;
        let commons = Commons {
            options: options.clone(),
            kernels: Kernels::shared(&context)?,
            doubt: Doubt::default(),
            streams: Streams::default(),
        };
        let scheduler = Arc::default();
        let bays = new_bays(&context)?;
        let berths = berths(&bays, Use::Starting);
        add_lanes(&scheduler, &engine, &commons, &berths)?;
        let most = engine.max_batch();
        for size in Batches::UpTo(options.batch_size.min(MAX_BATCH as u32)).sizes() {
            if size > most && most == 1 {
                let engine = load_engine(options, size, &context, progress)?;
                add_lanes(&scheduler, &engine, &commons, &berths)?;
            }
        }
        Ok(Self {
            description: loaded.description,
            recognized: loaded.recognized,
            inspection: Mutex::default(),
            expected: AtomicUsize::new(0),
            commons,
            growth: Growth::new(most, size_after),
            scheduler,
            bays,
            context: context.clone(),
        })
    }

    pub(super) fn recognized(&self) -> &Recognized {
        &self.recognized
    }

    /// Engine, GPU and precision, for logs and `stats`.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The context in which frames must lie.
    pub fn context(&self) -> &Context {
        &self.context
    }

    pub fn gpu_id(&self) -> u32 {
        self.commons.options.gpu_id
    }

    /// What its outputs show to be wrong with it.
    pub fn doubt(&self) -> &Doubt {
        &self.commons.doubt
    }

    /// What one inspection takes, once it was measured.
    pub fn inspection(&self) -> &Mutex<Option<Duration>> {
        &self.inspection
    }

    /// The streams that share the model.
    pub fn streams(&self) -> &Streams {
        &self.commons.streams
    }

    /// So many frames may come at once from now on: larger batches are prepared on another thread, unless the batch
    /// size was set, or is the model's own.
    fn expect(&self, frames: usize) {
        if self.commons.options.batch_size != 0 {
            return;
        }
        self.growth.expect(frames.min(MAX_BATCH) as u32, || {
            let (commons, context) = (self.commons.clone(), self.context.clone());
            let scheduler = Arc::clone(&self.scheduler);
            let berths = berths(&self.bays, Use::Running);
            move |size, progress: &mut LoadProgress<'_>| {
                let _current = context.enter()?;
                let engine = load_engine(&commons.options, size, &context, progress)?;
                let grows = engine.max_batch() == size;
                if grows {
                    add_lanes(&scheduler, &engine, &commons, &berths)?;
                }
                Ok(grows)
            }
        });
    }

    /// What the network alone takes for a batch of this size, over `runs` of its CUDA graph in a row: the limit that
    /// everything else is compared with. In memory of its own.
    pub fn network_alone(&self, batch: u32, runs: u32) -> Result<Duration, LoadError> {
        let _current = self.context.enter()?;
        let progress: &mut LoadProgress<'_> = &mut |_, _| std::ops::ControlFlow::Continue(());
        let engine = load_engine(&self.commons.options, batch, &self.context, progress)?;
        let berth = Berth {
            bay: Arc::new(Bay::new(&self.context)?),
            starts_apart: false,
        };
        let mut lane = engine.new_lane(batch, &self.commons, &berth)?;
        Ok(lane.network_alone(runs)?)
    }
}

/// Whether batches may come while lanes are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Starting,
    Running,
}

/// For a lane in each bay. What is compiled and loaded for the first of a size, the others have.
fn berths(bays: &Bays, bays_are: Use) -> [Berth; BATCHES_UNDER_WAY] {
    std::array::from_fn(|number| Berth {
        bay: Arc::clone(&bays[number]),
        starts_apart: number == 0 && bays_are == Use::Running,
    })
}

/// Adds as many lanes as batches of an engine can be under way.
fn add_lanes(
    scheduler: &Scheduler<EngineLane>,
    engine: &LoadedEngine,
    commons: &Commons,
    berths: &[Berth],
) -> Result<(), LoadError> {
    let start = Instant::now();
    for batch in engine.sizes() {
        for (bay, berth) in berths.iter().enumerate() {
            let lane = engine.new_lane(batch, commons, berth)?;
            scheduler.add(lane, batch as usize, bay);
        }
    }
    engine.keep_kernels();
    gst::info!(
        CAT,
        "batches of up to {} took {:?} to prepare, and all batches have {} MiB for tensors and activations",
        engine.max_batch(),
        start.elapsed(),
        berths
            .iter()
            .map(|berth| berth.bay.enter().size())
            .sum::<usize>()
            >> 20
    );
    Ok(())
}

/// What one stream has of its own on the GPU; nothing until it needs it.
pub struct GpuStream {
    model: Arc<TensorRtModel>,
    seats: Arc<Seats<EngineLane>>,
    uploads: Arc<Uploads>,
    painter: Mutex<Option<Painter>>,
    expected: AtomicUsize,
}

/// A frame or a batch of frames on its way.
pub struct GpuRequest {
    ticket: Option<Ticket<EngineLane>>,
    scheduler: Arc<Scheduler<EngineLane>>,
    upload: Option<(Arc<Uploads>, UploadSlot)>,
}

impl GpuStream {
    pub fn new(model: Arc<TensorRtModel>) -> Self {
        model.streams().join();
        Self {
            uploads: Arc::new(Uploads::new(model.context.clone())),
            seats: Arc::default(),
            painter: Mutex::default(),
            expected: AtomicUsize::new(0),
            model,
        }
    }

    pub fn model(&self) -> &TensorRtModel {
        &self.model
    }

    /// Has this one told of the results of all requests from now on.
    pub fn attended_by(&self, attendant: Arc<dyn Attendant>) -> Arc<dyn Duty> {
        self.seats.attended_by(attendant);
        Arc::clone(&self.model.scheduler) as Arc<dyn Duty>
    }

    /// So many frames of this stream may be under way at once.
    pub fn expect(&self, frames: usize) {
        let before = self.expected.swap(frames, Ordering::AcqRel);
        let all = &self.model.expected;
        all.fetch_sub(before, Ordering::AcqRel);
        let all = all.fetch_add(frames, Ordering::AcqRel) + frames;
        // Two batches are under way at once.
        self.model.expect(all.div_ceil(BATCHES_UNDER_WAY));
    }

    /// Has frames inspected, all of them or the parts of each. What is in GPU memory must stay mapped until the request
    /// has been waited for, or dropped; frames in system memory are free when this returns.
    pub fn submit(
        &self,
        frames: Frames<'_>,
        parts: Option<&[Arc<[Part]>]>,
        selection: &Arc<Selection>,
        outputs: Vec<Vec<Detection>>,
    ) -> Result<GpuRequest, DetectError> {
        let (scheduler, seats) = (&self.model.scheduler, &self.seats);
        let job = |frame: &DeviceFrame, part, pending| Job {
            frame: *frame,
            part,
            pending,
            selection: Arc::clone(selection),
        };
        let whole = |frame: &DeviceFrame, pending| job(frame, frame.whole(), pending);
        let divided = |frames: &[DeviceFrame], parts: &[Arc<[Part]>], pending| {
            let jobs = frames.iter().zip(parts).flat_map(|(frame, parts)| {
                let parts = parts.iter().map(|part| part.rectangle);
                parts.map(|part| job(frame, part, pending))
            });
            let jobs: Vec<_> = jobs.collect();
            self.model.expect(jobs.len());
            jobs.into_iter()
        };
        let (ticket, upload) = match frames {
            Frames::System(frame) => {
                let uploading = profiler::range(c"upload");
                let (uploaded, slot) = self.uploads.enqueue(&frame)?;
                drop(uploading);
                let pending = Some(slot.stream());
                let ticket = match parts {
                    None => {
                        scheduler.submit(seats, std::iter::once(whole(&uploaded, pending)), outputs)
                    }
                    Some(parts) => {
                        scheduler.submit(seats, divided(&[uploaded], parts, pending), outputs)
                    }
                };
                (ticket, Some((Arc::clone(&self.uploads), slot)))
            }
            Frames::Device { frames, pending } => {
                // One stream's bad frame must not fail the others in its batch.
                for frame in frames {
                    planes::check(frame).map_err(crate::preprocess::cuda::PreprocessError::from)?;
                }
                if frames.len() > 1 {
                    self.model.expect(frames.len());
                }
                let ticket = match parts {
                    None => {
                        let jobs = frames.iter().map(|frame| whole(frame, pending));
                        scheduler.submit(seats, jobs, outputs)
                    }
                    Some(parts) => {
                        scheduler.submit(seats, divided(frames, parts, pending), outputs)
                    }
                };
                (ticket, None)
            }
        };
        Ok(GpuRequest {
            ticket: Some(ticket),
            scheduler: Arc::clone(scheduler),
            upload,
        })
    }

    /// Draws into frames of the model's context that are mapped for it; they are finished when this returns.
    pub fn draw(
        &self,
        frames: &[DeviceFrame],
        pending: Option<PendingStream>,
        drawing: Drawing<'_>,
    ) -> Result<(), DetectError> {
        let mut painter = lock(&self.painter);
        let painter = match painter.take() {
            Some(made) => painter.insert(made),
            None => painter.insert(Painter::new(
                &self.model.context,
                &self.model.commons.kernels,
            )?),
        };
        painter.draw(
            frames,
            pending,
            drawing,
            self.model.recognized.labels.as_slice(),
        )
    }
}

impl Drop for GpuStream {
    fn drop(&mut self) {
        self.expect(0);
        self.model.streams().leave();
    }
}

impl GpuRequest {
    /// Whether waiting for it takes no time.
    pub fn is_done(&self) -> bool {
        self.ticket.as_ref().is_none_or(Ticket::is_done)
    }

    /// Waits for what was found, by frame.
    pub fn wait(mut self) -> Result<(Timings, Vec<Vec<Detection>>), DetectError> {
        let Some(ticket) = self.ticket.take() else {
            return Ok(Default::default());
        };
        let outcome = self.scheduler.wait(ticket);
        self.give_back();
        let timings = outcome.result.map_err(DetectError::Batch)?;
        Ok((timings, outcome.outputs))
    }

    fn give_back(&mut self) {
        if let Some((uploads, slot)) = self.upload.take() {
            uploads.give_back(slot);
        }
    }
}

impl Drop for GpuRequest {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.scheduler.wait(ticket);
            self.give_back();
        }
    }
}
