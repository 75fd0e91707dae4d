//! One place to run batches on a GPU: preprocessing, network and decoding one after the other on one stream. The
//! host waits once for a batch.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cust::memory::DeviceBuffer;

use super::Commons;
use super::bay::Bay;
use super::forecast::Forecast;
use crate::cuda::SharedKernels;
use crate::cuda::context::{Context, InContext};
use crate::cuda::stream::{Event, Graph, Stream};
use crate::decode::cuda::{Decoder, ImageRules};
use crate::decode::{Filter, Layout, Selection, Signs};
use crate::detection::Detection;
use crate::detector::scheduler::Lane;
use crate::detector::{CAT, DetectError, Doubt, LoadError, Streams};
use crate::engine::tensorrt;
use crate::frame::texture::FrameTextures;
use crate::frame::{DeviceFrame, PendingStream, Rectangle};
use crate::preprocess::Placement;
use crate::preprocess::cuda::{Preprocessor, Slot};
use crate::printable::printable;

/// A frame, mapped until its request is done, and what is wanted of it.
pub struct Job {
    pub frame: DeviceFrame,
    /// What of the frame is inspected.
    pub part: Rectangle,
    pub pending: Option<PendingStream>,
    pub selection: Arc<Selection>,
}

/// For the images of a batch that are nobody's.
const NOTHING: ImageRules<'static> = ImageRules {
    placement: Placement::NONE,
    iou_threshold: 1.0,
    max_detections: 0,
    thresholds: &[],
    filter: Filter::NONE,
};

/// A host that spins for the end of a batch does so no longer than this.
const LONGEST_SPIN: Duration = Duration::from_micros(150);

/// How network and decoding run.
pub(super) enum Run {
    Captured(Graph),
    /// They cannot be captured and are enqueued piece by piece.
    Plain,
}

/// The parts on the GPU. They are used only while their context is current.
pub(super) struct Machine {
    pub preprocessor: Preprocessor,
    pub slots: Vec<Slot>,
    pub textures: FrameTextures,
    pub run: Run,
    pub work: Work,
    pub finished: Arc<Event>,
    pub produced: Event,
    pub stream: Stream,
    /// The inputs that are the same for every frame.
    pub _constants: Vec<DeviceBuffer<u8>>,
    /// Where all else lies that the network reads and writes.
    pub bay: Arc<Bay>,
}

/// Network and decoding.
pub(super) struct Work {
    /// Images that the network runs, whether there are as many or not.
    pub batch: usize,
    pub network: tensorrt::Context,
    pub decoder: Decoder,
    pub kernels: Arc<SharedKernels>,
    /// What is done beside the network.
    pub beside: Stream,
    pub forked: Event,
    pub joined: Event,
}

/// An execution context of an engine with all that it needs on one GPU.
pub struct EngineLane {
    machine: InContext<Machine>,
    layout: Layout,
    /// What the network's outputs have shown so far.
    signs: Signs,
    doubt: Doubt,
    /// Those that share the model.
    streams: Streams,
    launched: Instant,
    forecast: Forecast,
}

impl EngineLane {
    /// Has its parts made in `context`, and runs a batch.
    pub(super) fn new(
        context: &Context,
        layout: Layout,
        commons: &Commons,
        make: impl FnOnce() -> Result<Machine, LoadError>,
    ) -> Result<Self, LoadError> {
        let machine = InContext::make(context, || {
            let mut machine = make()?;
            machine.prepare()?;
            Ok::<_, LoadError>(machine)
        })?;
        Ok(Self {
            machine,
            layout,
            signs: Signs::default(),
            doubt: commons.doubt.clone(),
            streams: commons.streams.clone(),
            launched: Instant::now(),
            forecast: Forecast::default(),
        })
    }

    /// What one run of the network alone takes for a full batch, over `runs` of its CUDA graph in a row: the limit that
    /// everything else is compared with.
    pub fn network_alone(&mut self, runs: u32) -> Result<Duration, DetectError> {
        let (_current, machine) = self.machine.enter()?;
        let Machine {
            work,
            stream,
            finished,
            ..
        } = machine;
        // SAFETY: the lane owns all memory, and waits for the stream below.
        let mut enqueue =
            || Ok::<_, DetectError>(unsafe { work.network.enqueue(stream.raw().cast()) }?);
        enqueue()?;
        stream.finish(finished)?;
        let mut graph = stream.capture(enqueue)?;
        let start = Instant::now();
        for _ in 0..runs {
            // SAFETY: as above.
            unsafe { graph.launch(stream) }?;
        }
        stream.finish(finished)?;
        Ok(start.elapsed() / runs.max(1))
    }
}

impl Lane for EngineLane {
    type Job = Job;
    type Output = Vec<Detection>;
    type Error = DetectError;

    fn launch(&mut self, jobs: &[Job]) -> Result<(), DetectError> {
        let (_current, machine) = self.machine.enter()?;
        let bay = Arc::clone(&machine.bay);
        let mut turn = bay.enter();
        let launched = machine.launch(jobs);
        if launched.is_err() {
            // The next batch in the bay comes on another stream, and must not meet what is left of this one.
            let _ = machine.stream.finish(&machine.finished);
        }
        turn.end(&machine.finished);
        self.launched = Instant::now();
        launched
    }

    fn wait(&mut self, alone: bool) -> Result<(), DetectError> {
        let (_current, machine) = self.machine.enter()?;
        // Where there are many streams, one of them has a frame soon, and the host other things to do than to spin.
        if alone && self.streams.count() <= 1 {
            machine.wait_awake(self.launched, &mut self.forecast)?;
        } else {
            machine.finished.wait()?;
        }
        machine.textures.clear();
        Ok(())
    }

    fn collect(&mut self, index: usize, detections: &mut Vec<Detection>) {
        detections.clear();
        let decoder = &self.machine.work.decoder;
        self.signs.join(decoder.signs(index));
        if let Some(diagnosis) = self.signs.diagnosis(&self.layout) {
            self.doubt.raise(diagnosis);
        }
        let found = decoder.found(index).map(|found| found.detection);
        detections.extend(found.filter(|found| found.bounding_box.area() > 0.0));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What is under way uses what goes now.
        let _ = self.stream.finish(&self.finished);
    }
}

impl Machine {
    /// Enqueues everything for a batch, and a mark at its end.
    fn launch(&mut self, jobs: &[Job]) -> Result<(), DetectError> {
        self.slots.clear();
        let mut followed = None;
        for (index, job) in jobs.iter().enumerate() {
            if let Some(pending) = job.pending
                && followed != Some(pending)
            {
                // SAFETY: the stream is the one on which the frame's own context writes it.
                unsafe { self.stream.follow(pending.0, &self.produced) }?;
                followed = Some(pending);
            }
            let planes = job.frame.format.planes();
            // SAFETY: the arrays belong to the frame, which is mapped until the batch is done.
            let frame = unsafe { self.textures.readable(&job.frame, planes) }?;
            let part = job.part;
            self.slots.push(Slot { frame, part, index });
            self.work.decoder.set_rules(
                index,
                &ImageRules {
                    placement: self.preprocessor.placement(part.width, part.height),
                    iou_threshold: job.selection.iou_threshold,
                    max_detections: job.selection.max_detections,
                    thresholds: &job.selection.thresholds,
                    filter: job.selection.filter,
                },
            );
        }
        for index in jobs.len()..self.work.batch {
            self.work.decoder.set_rules(index, &NOTHING);
        }
        let launch = self.preprocessor.batch(&self.slots)?;
        // SAFETY: the context is current; frames, tensors and stream live until the batch has been waited for.
        unsafe { launch.launch(&self.work.kernels, self.stream.raw()) }?;
        // SAFETY: the lane owns all memory and waits for the stream before it uses or frees any of it.
        unsafe {
            match &mut self.run {
                Run::Captured(graph) => graph.launch(&self.stream)?,
                Run::Plain => self.work.enqueue(&self.stream)?,
            }
        }
        Ok(self.stream.mark(&self.finished)?)
    }

    /// Sleeps until shortly before the end, and has the host awake then: to be woken takes as long as the decoding.
    fn wait_awake(&self, launched: Instant, forecast: &mut Forecast) -> Result<(), DetectError> {
        let nap = forecast.nap(launched.elapsed());
        if let Some(nap) = nap.filter(|nap| !nap.is_zero()) {
            let start = Instant::now();
            thread::sleep(nap);
            forecast.napped(nap, start.elapsed());
        }
        if self.finished.has_passed()? {
            forecast.was_done(launched.elapsed());
            return Ok(());
        }
        let start = Instant::now();
        let mut is_done = false;
        while !is_done && nap.is_some() && start.elapsed() < LONGEST_SPIN {
            std::hint::spin_loop();
            is_done = self.finished.has_passed()?;
        }
        if !is_done {
            self.finished.wait()?;
        }
        forecast.took(launched.elapsed());
        Ok(())
    }

    /// Runs the network once, as its own preparations cannot be captured, then captures it. During that run batches of
    /// others in the bay wait.
    fn prepare(&mut self) -> Result<(), DetectError> {
        let Self { work, stream, .. } = self;
        {
            let turn = self.bay.enter();
            turn.wait()?;
            // SAFETY: as in `launch`.
            let enqueued = unsafe { work.enqueue(stream) };
            stream.finish(&self.finished)?;
            enqueued?;
        }
        // SAFETY: as in `launch`; captured work does not run here.
        let captured = stream.capture(|| unsafe { work.enqueue(stream) });
        self.run = match captured {
            Ok(graph) => Run::Captured(graph),
            Err(error) => {
                let batch = work.batch;
                let error = printable(error);
                gst::info!(CAT, "batches of {batch} run without a CUDA graph: {error}");
                Run::Plain
            }
        };
        Ok(())
    }
}

impl Work {
    /// Puts network and decoding on the stream.
    ///
    /// # Safety
    /// The current context is that of everything here and of the stream, and nothing of this is used or freed until the
    /// stream has passed the work.
    unsafe fn enqueue(&mut self, stream: &Stream) -> Result<(), DetectError> {
        // SAFETY: the caller vouches for context and lives; the stream waits for what is done beside.
        unsafe {
            self.beside.follow(stream.raw().cast(), &self.forked)?;
            self.decoder.enqueue_rules(self.beside.raw(), self.batch)?;
            self.network.enqueue(stream.raw().cast())?;
            stream.follow(self.beside.raw().cast(), &self.joined)?;
            self.decoder
                .enqueue(&self.kernels, stream.raw(), self.batch)?;
        }
        Ok(())
    }
}
