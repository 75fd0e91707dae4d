//! One place to run batches on a GPU: preprocessing, network and decoding one after the other on one stream. The
//! host waits once for a batch.

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cust::memory::DeviceBuffer;

use crate::cuda::context::Context;
use crate::cuda::stream::{Event, Graph, Stream};
use crate::cuda::texture::PointTexture;
use crate::cuda::{CudaError, Kernels, SharedKernels};
use crate::decode::cuda::{Decoder, ImageRules};
use crate::decode::{Filter, Layout, Selection, Signs};
use crate::detection::Detection;
use crate::detector::scheduler::Lane;
use crate::detector::{CAT, DetectError};
use crate::engine::tensorrt;
use crate::frame::{DeviceFrame, DeviceStorage, PendingStream};
use crate::preprocess::Placement;
use crate::preprocess::cuda::{Preprocessor, Slot};

/// A frame, mapped until its request is done, and what is wanted of it.
pub struct Job {
    pub frame: DeviceFrame,
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
    pub textures: Vec<PointTexture>,
    /// Images that the network runs, whether there are as many or not.
    pub batch: usize,
    pub run: Run,
    pub decoder: Decoder,
    pub layout: Layout,
    /// What the network's outputs have shown so far.
    pub signs: Signs,
    pub network: tensorrt::Context,
    pub kernels: Arc<SharedKernels>,
    pub finished: Event,
    pub produced: Event,
    pub stream: Stream,
    /// The network's inputs and outputs.
    pub _tensors: Vec<DeviceBuffer<u8>>,
}

/// An execution context of an engine with all that it needs on one GPU.
pub struct EngineLane {
    /// Everything that lies on the GPU, freed while the context is current.
    machine: ManuallyDrop<Machine>,
    context: Context,
}

impl EngineLane {
    /// Takes over what was made in `context`, and runs a batch.
    pub(super) fn new(machine: Machine, context: Context) -> Result<Self, DetectError> {
        let mut lane = Self {
            machine: ManuallyDrop::new(machine),
            context,
        };
        let _current = lane.context.enter()?;
        lane.machine.prepare()?;
        Ok(lane)
    }

    /// What one run of the network alone takes for a full batch, over `runs` of its CUDA graph in a row: the limit that
    /// everything else is compared with.
    pub fn network_alone(&mut self, runs: u32) -> Result<Duration, DetectError> {
        let _current = self.context.enter()?;
        let Machine {
            network,
            stream,
            finished,
            ..
        } = &mut *self.machine;
        // SAFETY: the lane owns all memory, and waits for the stream below.
        let mut enqueue = || Ok::<_, DetectError>(unsafe { network.enqueue(stream.raw().cast()) }?);
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

impl Drop for EngineLane {
    fn drop(&mut self) {
        // Without its context, there is no memory left to free, and the driver only returns errors.
        let _current = self.context.enter();
        let machine = &mut self.machine;
        let _ = machine.stream.finish(&machine.finished);
        // SAFETY: the machine is not used again.
        unsafe { ManuallyDrop::drop(&mut self.machine) };
    }
}

impl Lane for EngineLane {
    type Job = Job;
    type Output = Vec<Detection>;
    type Error = DetectError;

    fn launch(&mut self, jobs: &[Job]) -> Result<(), DetectError> {
        let _current = self.context.enter()?;
        self.machine.launch(jobs)
    }

    fn wait(&mut self) -> Result<(), DetectError> {
        let _current = self.context.enter()?;
        let machine = &mut *self.machine;
        machine.finished.wait()?;
        machine.textures.clear();
        Ok(())
    }

    fn collect(&mut self, index: usize, detections: &mut Vec<Detection>) {
        detections.clear();
        self.machine.watch(index);
        let found = self
            .machine
            .decoder
            .found(index)
            .map(|found| found.detection);
        detections.extend(found.filter(|found| found.bounding_box.area() > 0.0));
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
            let frame = self.readable(&job.frame)?;
            self.slots.push(Slot { frame, index });
            self.decoder.set_rules(
                index,
                &ImageRules {
                    placement: self.preprocessor.placement(frame.width, frame.height),
                    iou_threshold: job.selection.iou_threshold,
                    max_detections: job.selection.max_detections,
                    thresholds: &job.selection.thresholds,
                    filter: job.selection.filter,
                },
            );
        }
        for index in jobs.len()..self.batch {
            self.decoder.set_rules(index, &NOTHING);
        }
        let launch = self.preprocessor.batch(&self.slots)?;
        // SAFETY: the context is current; frames, tensors and stream live until the batch has been waited for.
        unsafe { launch.launch(&self.kernels, self.stream.raw()) }?;
        // SAFETY: the lane owns all memory and waits for the stream before it uses or frees any of it.
        unsafe {
            match &mut self.run {
                Run::Captured(graph) => graph.launch(&self.stream)?,
                Run::Plain => self.enqueue()?,
            }
        }
        Ok(self.stream.mark(&self.finished)?)
    }

    /// Looks whether what the network returned for an image can be true.
    fn watch(&mut self, index: usize) {
        self.signs.join(self.decoder.signs(index));
        if let Some(diagnosis) = self.signs.diagnosis(&self.layout) {
            gst::warning!(CAT, "{diagnosis}");
        }
    }

    /// The frame as kernels can read it: arrays through textures, which live until the batch is done.
    fn readable(&mut self, frame: &DeviceFrame) -> Result<DeviceFrame, CudaError> {
        let mut frame = *frame;
        if frame.storage == DeviceStorage::BlockLinear {
            for plane in frame.planes.iter_mut().take(frame.format.planes()) {
                // SAFETY: the array belongs to the frame, which is mapped until the batch is done.
                let texture = unsafe { PointTexture::new(plane.pointer as _) }?;
                plane.pointer = texture.object();
                self.textures.push(texture);
            }
            frame.storage = DeviceStorage::Texture;
        }
        Ok(frame)
    }

    /// Runs the network once, as its own preparations cannot be captured, then captures it.
    fn prepare(&mut self) -> Result<(), DetectError> {
        // SAFETY: as in `launch`.
        unsafe { self.enqueue() }?;
        self.stream.finish(&self.finished)?;
        let Self {
            network,
            decoder,
            kernels,
            stream,
            batch,
            ..
        } = self;
        // SAFETY: as in `launch`; captured work does not run here.
        let captured =
            stream.capture(|| unsafe { enqueue(network, decoder, kernels, stream, *batch) });
        self.run = match captured {
            Ok(graph) => Run::Captured(graph),
            Err(error) => {
                let batch = self.batch;
                gst::info!(CAT, "batches of {batch} run without a CUDA graph: {error}");
                Run::Plain
            }
        };
        Ok(())
    }

    /// # Safety
    /// The context is current, and nothing of this is used or freed until the stream has passed the work.
    unsafe fn enqueue(&mut self) -> Result<(), DetectError> {
        let Self {
            network,
            decoder,
            kernels,
            stream,
            batch,
            ..
        } = self;
        // SAFETY: the caller vouches for context and lives.
        unsafe { enqueue(network, decoder, kernels, stream, *batch) }
    }
}

/// Puts network and decoding on the stream.
///
/// # Safety
/// The current context is that of everything given, and all of it lives until the stream has passed the work.
unsafe fn enqueue(
    network: &mut tensorrt::Context,
    decoder: &mut Decoder,
    kernels: &Kernels,
    stream: &Stream,
    images: usize,
) -> Result<(), DetectError> {
    // SAFETY: the caller vouches for context and lives.
    unsafe {
        network.enqueue(stream.raw().cast())?;
        decoder.enqueue(kernels, stream.raw(), images)?;
    }
    Ok(())
}
