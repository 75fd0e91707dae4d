//! Detection on a GPU: preprocessing, TensorRT and decoding one after the other on one stream, for frames that lie
//! in GPU memory already, and for frames of system memory on their way there. The host waits once for a batch.

mod load;

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use cust::memory::DeviceBuffer;

use super::{CAT, DetectError, DetectorOptions, Drawing, Frames, LoadError, LoadProgress, Timings};
use crate::cuda::context::Context;
use crate::cuda::stream::{Event, Graph, Stream};
use crate::cuda::texture::PointTexture;
use crate::cuda::upload::Upload;
use crate::cuda::{CudaError, Kernels};
use crate::decode::cuda::{Decoder, ImageRules};
use crate::decode::{Layout, Selection};
use crate::detection::Detection;
use crate::engine::tensorrt::{self, EngineCache, KeptEngine};
use crate::frame::{DeviceFrame, DeviceStorage};
use crate::model::Labels;
use crate::overlay::cuda::DeviceOverlay;
use crate::preprocess::cuda::{Preprocessor, Slot};

/// A loaded model with all that it needs on one GPU.
pub struct TensorRtDetector {
    description: String,
    layout: Layout,
    labels: Labels,
    /// Everything that lies on the GPU, freed while the context is current.
    machine: ManuallyDrop<Machine>,
    context: Context,
}

/// What is known of a batch size.
enum Batch {
    /// It has not run yet: the network still has to prepare for it.
    New,
    Captured(Graph),
    /// It cannot be captured and is enqueued piece by piece.
    Plain,
}

/// The parts on the GPU. They are used only while their context is current.
struct Machine {
    gpu_id: u32,
    preprocessor: Preprocessor,
    upload: Upload,
    slots: Vec<Slot>,
    textures: Vec<PointTexture>,
    /// By size: that of one image first.
    batches: Vec<Batch>,
    decoder: Decoder,
    /// Made for the first frame that is drawn into.
    overlay: Option<DeviceOverlay>,
    network: tensorrt::Context,
    kernels: Kernels,
    finished: Event,
    produced: Event,
    stream: Stream,
    /// The network's inputs and outputs.
    _tensors: Vec<DeviceBuffer<u8>>,
    /// Where the engine is kept, unless the model is an engine file.
    kept: Option<(EngineCache, KeptEngine)>,
}

impl TensorRtDetector {
    /// Loads a model in a context, and builds its engine where none is kept.
    pub fn load(
        options: &DetectorOptions,
        context: Context,
        progress: &mut LoadProgress<'_>,
    ) -> Result<Self, LoadError> {
        let _current = context.enter()?;
        let loaded = load::load(options, &context, progress)?;
        let mut detector = Self {
            description: loaded.description,
            layout: loaded.layout,
            labels: loaded.labels,
            machine: ManuallyDrop::new(loaded.machine),
            context: context.clone(),
        };
        let start = Instant::now();
        detector.machine.prepare(1)?;
        gst::info!(CAT, "first run took {:?}", start.elapsed());
        detector.machine.keep_kernels();
        Ok(detector)
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Engine, GPU and precision, for logs and `stats`.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The context in which frames must lie.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// What one run of the network alone takes, over `runs` of its CUDA graph in a row: the limit that everything else
    /// is compared with.
    pub fn network_alone(&mut self, runs: u32) -> Result<Duration, DetectError> {
        let _current = self.context.enter()?;
        let Machine {
            network,
            stream,
            finished,
            ..
        } = &mut *self.machine;
        network.set_batch(1)?;
        // SAFETY: the detector owns all memory, and waits for the stream below.
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

    /// Replaces `detections` by what the network finds in each frame.
    pub fn detect(
        &mut self,
        frames: Frames<'_>,
        selection: &Selection,
        detections: &mut Vec<Vec<Detection>>,
    ) -> Result<Timings, DetectError> {
        let _current = self.context.enter()?;
        self.machine.detect(frames, selection, detections)
    }

    /// Draws into frames of this context that are mapped for it; they are finished when this returns.
    pub fn draw(
        &mut self,
        frames: &[DeviceFrame],
        pending: Option<*mut c_void>,
        drawing: Drawing<'_>,
    ) -> Result<(), DetectError> {
        let _current = self.context.enter()?;
        let labels = self.labels.as_slice();
        self.machine.draw(frames, pending, drawing, labels)
    }
}

impl Drop for TensorRtDetector {
    fn drop(&mut self) {
        // Without its context, there is no memory left to free, and the driver only returns errors.
        let _current = self.context.enter();
        let machine = &mut self.machine;
        let _ = machine.stream.finish(&machine.finished);
        // SAFETY: the machine is not used again.
        unsafe { ManuallyDrop::drop(&mut self.machine) };
    }
}

impl Machine {
    fn detect(
        &mut self,
        frames: Frames<'_>,
        selection: &Selection,
        detections: &mut Vec<Vec<Detection>>,
    ) -> Result<Timings, DetectError> {
        let (frames, pending) = match frames {
            Frames::System(frame) => {
                detections.resize_with(1, Vec::new);
                let start = Instant::now();
                // SAFETY: the context is current, and the stream was waited for at the end of the last detection.
                let uploaded =
                    unsafe { self.upload.enqueue(&frame, self.gpu_id, self.stream.raw()) }?;
                let mut timings = self.detect_batch(&[uploaded], selection, detections)?;
                timings.preprocess = start.elapsed() - timings.infer - timings.decode;
                return Ok(timings);
            }
            Frames::Device { frames, pending } => (frames, pending),
        };
        if let Some(stream) = pending {
            // SAFETY: the stream is the one on which the frames' own context writes them.
            unsafe { self.stream.follow(stream, &self.produced) }?;
        }
        detections.resize_with(frames.len(), Vec::new);
        let largest = self.batches.len();
        let mut timings = Timings::default();
        for (frames, detections) in frames.chunks(largest).zip(detections.chunks_mut(largest)) {
            timings += self.detect_batch(frames, selection, detections)?;
        }
        Ok(timings)
    }

    /// As many frames as there are entries in `detections`, at most the largest batch.
    fn detect_batch(
        &mut self,
        frames: &[DeviceFrame],
        selection: &Selection,
        detections: &mut [Vec<Detection>],
    ) -> Result<Timings, DetectError> {
        let start = Instant::now();
        self.slots.clear();
        for (index, frame) in frames.iter().enumerate() {
            let frame = self.readable(frame)?;
            self.slots.push(Slot { frame, index });
            self.decoder.set_rules(
                index,
                &ImageRules {
                    placement: self.preprocessor.placement(frame.width, frame.height),
                    iou_threshold: selection.iou_threshold,
                    max_detections: selection.max_detections,
                    thresholds: &selection.thresholds,
                },
            );
        }
        let launch = self.preprocessor.batch(&self.slots)?;
        // SAFETY: the context is current; frames, tensors and stream live until the wait below.
        unsafe { launch.launch(&self.kernels, self.stream.raw()) }?;
        self.run(frames.len())?;
        let enqueued = Instant::now();
        self.stream.finish(&self.finished)?;
        let finished = Instant::now();
        self.textures.clear();
        for (index, detections) in detections.iter_mut().enumerate() {
            detections.clear();
            let found = self.decoder.found(index).map(|found| found.detection);
            detections.extend(found.filter(|found| found.bounding_box.area() > 0.0));
        }
        Ok(Timings {
            preprocess: enqueued - start,
            infer: finished - enqueued,
            decode: finished.elapsed(),
        })
    }

    fn draw(
        &mut self,
        frames: &[DeviceFrame],
        pending: Option<*mut c_void>,
        drawing: Drawing<'_>,
        labels: &[String],
    ) -> Result<(), DetectError> {
        let Self {
            overlay,
            kernels,
            stream,
            finished,
            produced,
            ..
        } = self;
        let device = match overlay {
            Some(device) => device,
            None => overlay.insert(DeviceOverlay::new()?),
        };
        if let Some(pending) = pending {
            // SAFETY: the stream is the one on which the frames' own context writes them.
            unsafe { stream.follow(pending, produced) }?;
        }
        let mut enqueued = Ok(());
        for (frame, detections) in frames.iter().zip(drawing.detections) {
            let (width, height) = (frame.width, frame.height);
            let picture = drawing.overlay.picture(detections, labels, width, height);
            // SAFETY: the context is current, and the frames are mapped until the wait below.
            enqueued = unsafe { device.enqueue(picture, frame, kernels, stream, finished) };
            if enqueued.is_err() {
                break;
            }
        }
        device.finish(stream, finished)?;
        Ok(enqueued?)
    }

    /// The frame as kernels can read it: arrays through textures, which live until the batch is done.
    fn readable(&mut self, frame: &DeviceFrame) -> Result<DeviceFrame, CudaError> {
        let mut frame = *frame;
        if frame.storage == DeviceStorage::BlockLinear {
            for plane in frame.planes.iter_mut().take(frame.format.planes()) {
                // SAFETY: the array belongs to the frame, which is borrowed until the batch is done.
                let texture = unsafe { PointTexture::new(plane.pointer as _) }?;
                plane.pointer = texture.object();
                self.textures.push(texture);
            }
            frame.storage = DeviceStorage::Texture;
        }
        Ok(frame)
    }

    /// Enqueues network and decoding for so many images.
    fn run(&mut self, images: usize) -> Result<(), DetectError> {
        if matches!(self.batches[images - 1], Batch::New) {
            // What preprocessing has written is still there for the run that counts.
            self.prepare(images)?;
        }
        // SAFETY: the detector owns all memory and waits for the stream before it uses or frees any of it.
        unsafe {
            match &mut self.batches[images - 1] {
                Batch::Captured(graph) => graph.launch(&self.stream)?,
                _ => {
                    self.network.set_batch(images as u32)?;
                    enqueue(
                        &mut self.network,
                        &mut self.decoder,
                        &self.kernels,
                        &self.stream,
                        images,
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Runs a batch size once, as the network's own preparations for it cannot be captured, then captures it.
    fn prepare(&mut self, images: usize) -> Result<(), DetectError> {
        let Self {
            network,
            decoder,
            kernels,
            stream,
            finished,
            ..
        } = self;
        network.set_batch(images as u32)?;
        // SAFETY: as in `run`.
        unsafe { enqueue(network, decoder, kernels, stream, images) }?;
        stream.finish(finished)?;
        // SAFETY: as in `run`; captured work does not run here.
        let captured =
            stream.capture(|| unsafe { enqueue(network, decoder, kernels, stream, images) });
        self.batches[images - 1] = match captured {
            Ok(graph) => Batch::Captured(graph),
            Err(error) => {
                gst::info!(
                    super::CAT,
                    "batches of {images} run without a CUDA graph: {error}"
                );
                Batch::Plain
            }
        };
        Ok(())
    }

    /// Keeps what TensorRT-RTX compiled, for the next start.
    fn keep_kernels(&self) {
        if let Some((cache, kept)) = &self.kept
            && let Err(error) = cache.keep_kernels(kept)
        {
            gst::warning!(CAT, "compiled kernels are not kept: {error}");
        }
    }
}

/// Puts network and decoding of the first `images` images on the stream.
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
