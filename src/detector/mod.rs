//! Preprocessing, engine and decoding put together: frames go in, their detections come out.

mod adapt;
mod attendance;
mod description;
mod doubt;
mod error;
mod growth;
mod host;
mod parts;
mod place;
mod pool;
mod recognized;
pub mod scheduler;
mod sharing;
mod tensorrt;

use std::ops::{AddAssign, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use once_cell::sync::Lazy;

use crate::cuda::context::Context;
use crate::decode::Selection;
use crate::detection::Detection;
use crate::frame::system::Plane;
use crate::frame::{Colorimetry, DeviceFrame, PendingStream, PixelFormat, SystemFrame};
use crate::model::{Labels, ModelInfoError, ModelSource};
use crate::overlay::Overlay;
use crate::preprocess::{InputGeometry, ResizeMode, Shrinking};
use crate::printable::printable;
use crate::region::View;
use crate::{lock, profiler};

pub use crate::engine::tensorrt::Precision;
pub use attendance::{Attendant, Duty};
pub use doubt::Doubt;
pub use error::{DetectError, LoadError};
pub use place::{Obstacle, Place};
pub use sharing::Streams;
pub use tensorrt::TensorRtModel;

use self::parts::{PartsOfFrames, detect_parts};
use self::pool::HostModel;
use self::recognized::Recognized;
use self::sharing::Shelf;
use self::tensorrt::{GpuRequest, GpuStream};

static CAT: Lazy<gst::DebugCategory> = Lazy::new(|| {
    gst::DebugCategory::new(
        "rsdetectnet-detector",
        gst::DebugColorFlags::empty(),
        Some("Loading models and running them for rsdetectnet"),
    )
});

/// Which engine runs the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// TensorRT where a GPU and TensorRT are, else ONNX Runtime.
    #[default]
    Auto,
    TensorRt,
    OnnxRuntime,
}

/// What a detector is made from; all of it is fixed once it is loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DetectorOptions {
    /// The name of a bundled model, or a file.
    pub model: String,
    /// A file with one label a line, or the name of a built-in list; else what the model itself or its folder says.
    pub labels: Option<PathBuf>,
    /// The family of the model's outputs, where it is not to be recognised.
    pub decoder: Option<String>,
    /// Width and height of the network's input, where the model leaves them open.
    pub input_size: Option<(usize, usize)>,
    pub backend: Backend,
    /// Threads of the CPU engine; 0 chooses by the machine.
    pub threads: usize,
    /// The GPU, counted from 0.
    pub gpu_id: u32,
    /// The deep learning accelerator of a Jetson to use instead of the GPU's own units.
    pub dla_core: Option<u32>,
    pub precision: Precision,
    /// Where built engines are kept; else the user's cache.
    pub engine_cache: Option<PathBuf>,
    /// Frames that the engine takes at once at most; 0 chooses.
    pub batch_size: u32,
    /// Most scratch memory that a layer of a built engine may need.
    pub workspace_bytes: Option<u64>,
    /// How frames larger than the network's input are sampled.
    pub shrinking: Shrinking,
    /// Only elements with the same text here share a model.
    pub instance: String,
}

/// How long the stages of one inspection took on the host. On a GPU the stages run without the host: `preprocess`
/// is the time to enqueue them all, `infer` the wait for the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    pub preprocess: Duration,
    pub infer: Duration,
    pub decode: Duration,
}

impl Timings {
    pub fn total(&self) -> Duration {
        self.preprocess + self.infer + self.decode
    }
}

impl AddAssign for Timings {
    fn add_assign(&mut self, other: Self) {
        self.preprocess += other.preprocess;
        self.infer += other.infer;
        self.decode += other.decode;
    }
}

/// The frames of one buffer.
#[derive(Clone, Copy, Debug)]
pub enum Frames<'a> {
    System(SystemFrame<'a>),
    /// In GPU memory, valid in the detector's context.
    Device {
        frames: &'a [DeviceFrame],
        /// The `CUstream` of that context on which the frames are still being written.
        pending: Option<PendingStream>,
    },
}

/// What is drawn into frames: for each of them, its detections.
pub struct Drawing<'a> {
    pub overlay: &'a mut Overlay,
    pub detections: &'a [Vec<Detection>],
}

/// What is looked for in frames, and where in them.
#[derive(Clone, Debug, Default)]
pub struct Search {
    pub selection: Arc<Selection>,
    pub view: Arc<View>,
}

/// Told of what takes long while a model is loaded: a text, and a percentage where it is known. A `Break` stops it.
pub type LoadProgress<'a> = dyn FnMut(&str, Option<u32>) -> ControlFlow<()> + Send + 'a;

/// Of the CPU; of GPUs.
static HOST_MODELS: Shelf<HostModel> = Shelf::new();
static GPU_MODELS: Shelf<TensorRtModel> = Shelf::new();

/// One stream's way to a loaded model, which all streams with the same options share.
pub struct Detector {
    engine: Engine,
    inspection: Duration,
}

enum Engine {
    Host(Arc<HostModel>),
    Gpu(Box<GpuStream>),
}

/// A frame, or a batch of frames, that is being inspected.
pub struct Request {
    stage: Stage,
    /// Where frames are inspected in parts.
    parts: Option<PartsOfFrames>,
}

enum Stage {
    Done(Timings, Vec<Vec<Detection>>),
    UnderWay(GpuRequest),
}

impl Detector {
    /// Joins those who use the model, or loads it; on a GPU in `context`, or else in the GPU's primary one.
    pub fn load(
        options: &DetectorOptions,
        context: Option<Context>,
        progress: &mut LoadProgress<'_>,
    ) -> Result<Self, LoadError> {
        if let Err(error) = profiler::attach() {
            gst::warning!(CAT, "no profiler: {}", printable(error));
        }
        let _range = profiler::range(c"load");
        let place = Place::of(options);
        let engine = if place.is_gpu() {
            // What is wrong with the model itself is found before a GPU is.
            ModelSource::resolve(&options.model)?;
            let context = match context {
                Some(context) => context,
                None => Context::primary(options.gpu_id)?,
            };
            let handle = context.handle().addr();
            let model = GPU_MODELS.get(options, handle, progress, |progress| {
                TensorRtModel::load(options, context, progress)
            })?;
            Engine::Gpu(Box::new(GpuStream::new(model)))
        } else {
            let model = HOST_MODELS.get(options, 0, progress, |_| HostModel::load(options));
            let model = model.map_err(|error| match (error, place) {
                (LoadError::OnnxRuntime(cpu), Place::CpuBecause(obstacle))
                    if cpu.is_absent() && obstacle.is_news() =>
                {
                    let gpu = obstacle.to_string();
                    LoadError::NoBackend { cpu, gpu }
                }
                (error, _) => error,
            })?;
            model.join();
            Engine::Host(model)
        };
        let mut detector = Self {
            engine,
            inspection: Duration::ZERO,
        };
        detector.inspection = detector.measure()?;
        Ok(detector)
    }

    pub fn labels(&self) -> &Labels {
        &self.recognized().labels
    }

    /// Writes all that is known of the model into a `.modelinfo` that is not there yet.
    pub fn write_modelinfo(&self, path: &Path) -> Result<(), ModelInfoError> {
        self.recognized().write(path)
    }

    fn recognized(&self) -> &Recognized {
        match &self.engine {
            Engine::Host(model) => model.recognized(),
            Engine::Gpu(stream) => stream.model().recognized(),
        }
    }

    /// The engine and where it runs, for logs and `stats`.
    pub fn description(&self) -> &str {
        match &self.engine {
            Engine::Host(model) => model.description(),
            Engine::Gpu(stream) => stream.model().description(),
        }
    }

    /// What speaks against the model, as soon as a frame has shown it.
    pub fn doubt(&self) -> Option<&str> {
        match &self.engine {
            Engine::Host(model) => model.doubt().get(),
            Engine::Gpu(stream) => stream.model().doubt().get(),
        }
    }

    /// The streams that share the model.
    pub fn streams(&self) -> &Streams {
        match &self.engine {
            Engine::Host(model) => model.streams(),
            Engine::Gpu(stream) => stream.model().streams(),
        }
    }

    /// The context in which frames in GPU memory must lie.
    pub fn context(&self) -> Option<&Context> {
        match &self.engine {
            Engine::Host(_) => None,
            Engine::Gpu(stream) => Some(stream.model().context()),
        }
    }

    /// The GPU that frames in GPU memory must be on.
    pub fn gpu_id(&self) -> u32 {
        match &self.engine {
            Engine::Host(_) => 0,
            Engine::Gpu(stream) => stream.model().gpu_id(),
        }
    }

    /// What one inspection takes when there is no other.
    pub fn inspection(&self) -> Duration {
        self.inspection
    }

    /// So many frames of this stream may be under way at once.
    pub fn expect(&self, frames: usize) {
        if let Engine::Gpu(stream) = &self.engine {
            stream.expect(frames);
        }
    }

    /// Has this one told of the results of all requests from now on, which it need not wait for then, if it does the
    /// duty that is returned. On the CPU requests are done when they are made.
    pub fn attended_by(&self, attendant: Arc<dyn Attendant>) -> Option<Arc<dyn Duty>> {
        match &self.engine {
            Engine::Gpu(stream) => Some(stream.attended_by(attendant)),
            Engine::Host(_) => None,
        }
    }

    /// Has frames inspected. On the CPU that is done when this returns. Frames in GPU memory must stay mapped until the
    /// request has been waited for, or dropped. `outputs` are reused.
    pub fn submit(
        &self,
        frames: Frames<'_>,
        search: &Search,
        mut outputs: Vec<Vec<Detection>>,
    ) -> Result<Request, DetectError> {
        let parts = self.parts(frames, search)?;
        let by_frame = parts.as_ref().map(|parts| parts.by_frame.as_slice());
        let selection = &search.selection;
        let stage = match (&self.engine, frames) {
            (Engine::Gpu(stream), frames) => {
                Stage::UnderWay(stream.submit(frames, by_frame, selection, outputs)?)
            }
            (Engine::Host(model), Frames::System(frame)) => {
                let timings = match by_frame {
                    Some([parts]) => detect_parts(model, &frame, parts, selection, &mut outputs)?,
                    _ => {
                        outputs.resize_with(1, Vec::new);
                        model.detect(&frame, selection, &mut outputs[0])?
                    }
                };
                Stage::Done(timings, outputs)
            }
            (Engine::Host(_), Frames::Device { .. }) => return Err(DetectError::GpuFrameOnCpu),
        };
        Ok(Request { stage, parts })
    }

    /// The parts in which frames are to be inspected, unless it is as they are.
    fn parts(
        &self,
        frames: Frames<'_>,
        search: &Search,
    ) -> Result<Option<PartsOfFrames>, DetectError> {
        let crops = self.recognized().preparation.resize == ResizeMode::Crop;
        if search.view.is_whole() && !crops {
            return Ok(None);
        }
        let InputGeometry { width, height, .. } = self.recognized().geometry;
        let proportions = crops.then_some((width, height));
        let parts = |width, height| search.view.parts((width, height), proportions);
        let by_frame = match frames {
            Frames::System(frame) => vec![parts(frame.width, frame.height)?],
            Frames::Device { frames, .. } => {
                let parts = frames.iter().map(|frame| parts(frame.width, frame.height));
                parts.collect::<Result<_, _>>()?
            }
        };
        Ok(Some(PartsOfFrames {
            by_frame,
            selection: Arc::clone(&search.selection),
        }))
    }

    /// Draws into frames in GPU memory that are mapped for it, with the host's wait at the end. `pending` is as in
    /// [`Frames::Device`].
    pub fn draw(
        &self,
        frames: &[DeviceFrame],
        pending: Option<PendingStream>,
        drawing: Drawing<'_>,
    ) -> Result<(), DetectError> {
        match &self.engine {
            Engine::Gpu(stream) => stream.draw(frames, pending, drawing),
            Engine::Host(_) => Err(DetectError::GpuFrameOnCpu),
        }
    }

    /// Runs the network on an empty picture until it is warm, unless another stream has done so already.
    fn measure(&self) -> Result<Duration, DetectError> {
        let measured = match &self.engine {
            Engine::Host(model) => model.inspection(),
            Engine::Gpu(stream) => stream.model().inspection(),
        };
        let mut measured = lock(measured);
        if let Some(inspection) = *measured {
            return Ok(inspection);
        }
        let inspection = self.inspect_nothing()?;
        *measured = Some(inspection);
        Ok(inspection)
    }

    fn inspect_nothing(&self) -> Result<Duration, DetectError> {
        const SIDE: usize = 64;
        const RUNS: usize = 3;
        let pixels = [128; SIDE * SIDE];
        let luma = Plane {
            data: &pixels,
            stride: SIDE,
        };
        let frame = SystemFrame {
            format: PixelFormat::Gray8,
            colorimetry: Colorimetry::default(),
            width: SIDE,
            height: SIDE,
            planes: [luma, Plane::default(), Plane::default()],
        };
        let search = Search {
            selection: Arc::new(Selection {
                thresholds: vec![f32::INFINITY; self.recognized().layout.classes],
                iou_threshold: 1.0,
                max_detections: 1,
                ..Selection::default()
            }),
            ..Search::default()
        };
        let mut timings = Timings::default();
        for _ in 0..RUNS {
            let request = self.submit(Frames::System(frame), &search, Vec::new())?;
            timings = request.wait()?.0;
        }
        Ok(timings.total())
    }
}

impl Drop for Detector {
    fn drop(&mut self) {
        if let Engine::Host(model) = &self.engine {
            model.leave();
        }
    }
}

impl Request {
    /// Whether waiting for it takes no time. It becomes so by itself only where there is an [`Attendant`].
    pub fn is_done(&self) -> bool {
        match &self.stage {
            Stage::Done(..) => true,
            Stage::UnderWay(request) => request.is_done(),
        }
    }

    /// Waits for what the network finds in each frame, best first.
    pub fn wait(self) -> Result<(Timings, Vec<Vec<Detection>>), DetectError> {
        let (timings, mut found) = match self.stage {
            Stage::Done(timings, detections) => (timings, detections),
            Stage::UnderWay(request) => {
                let _range = profiler::range(c"wait");
                request.wait()?
            }
        };
        if let Some(parts) = self.parts {
            let _range = profiler::range(c"merge");
            parts.merge(&mut found);
        }
        Ok((timings, found))
    }
}
