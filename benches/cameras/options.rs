//! What the program is asked to do.

use std::error::Error;
use std::path::PathBuf;

use gst::prelude::*;
use gstrsdetectnet::detector::{Backend, DetectorOptions, Place, Precision};
use gstrsdetectnet::frame::gstcuda::CudaContext;

pub const USAGE: &str = "\
cargo bench --bench cameras [-- OPTIONS]
    --clip FILE          1080p H.264, as it is or in MP4; without it, one is made with x264enc or openh264enc
    --model M            a bundled name or a file (ssd-mobilenet-v2)
    --labels L           a file with one label a line
    --precision P        fp16, fp32 or auto, on a GPU (fp16)
    --backend B          auto, tensorrt or onnxruntime (auto)
    --threads N          threads of ONNX Runtime, 0 chooses (0)
    --engine-cache DIR   where built engines are kept
    --cameras N,N,…      rows of the table (1,4,16,32,64,128 on a GPU, 1,2,4 on the CPU)
    --source S,S,…       decoders, such as nvh264dec, nvv4l2decoder, avdec_h264 or openh264dec; memory: frames that
                         were decoded beforehand by the first of these that is there; memory:DECODER: by that one
    --seconds S          how long a row is measured (5)
    --warmup S           how long a row runs before, besides what larger batches take to be prepared (2)
    --patience S         how long that may take at most (240)
    --rounds N           measurements of each row, of which the median is shown (1, with memory on the CPU 3)
    --paced FPS          feed every camera by the clock instead of as fast as it goes
    --in-flight N        max-in-flight of the elements, 0 chooses (0)
    --batch-size N       batch-size of the elements, 0 chooses (0)
    --queue              a queue of two frames behind the decoder
    --own-contexts       decoding alone has a CUDA context for each pipeline, as GStreamer makes them, instead of the
                         one that the elements share with their decoders
    --alone N,N,…        batch sizes at which TensorRT alone is measured (1,2,4,8,16,32)
    --plot FILE.png      a plot of the rows";

/// Where the frames of a table come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Decoder(String),
    /// Frames that were decoded beforehand, by this or by any decoder.
    Memory(Option<String>),
}

pub struct Options {
    pub clip: Option<String>,
    pub model: String,
    pub labels: Option<String>,
    pub precision: String,
    pub backend: String,
    pub threads: u32,
    pub engine_cache: Option<String>,
    pub cameras: Vec<usize>,
    pub sources: Vec<Source>,
    pub seconds: f64,
    pub warmup: f64,
    pub patience: f64,
    pub rounds: Option<usize>,
    pub paced: Option<f64>,
    pub in_flight: u32,
    pub batch_size: u32,
    pub queue: bool,
    pub own_contexts: bool,
    pub alone: Vec<u32>,
    pub plot: Option<PathBuf>,
}

impl Options {
    pub fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            clip: None,
            model: "ssd-mobilenet-v2".into(),
            labels: None,
            precision: "fp16".into(),
            backend: "auto".into(),
            threads: 0,
            engine_cache: None,
            cameras: Vec::new(),
            sources: Vec::new(),
            seconds: 5.0,
            warmup: 2.0,
            patience: 240.0,
            rounds: None,
            paced: None,
            in_flight: 0,
            batch_size: 0,
            queue: false,
            own_contexts: false,
            alone: vec![1, 2, 4, 8, 16, 32],
            plot: None,
        };
        let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--queue" => options.queue = true,
                "--own-contexts" => options.own_contexts = true,
                "--help" => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                _ => {
                    let value = arguments.next();
                    let value = value.ok_or_else(|| format!("{name} takes a value\n{USAGE}"))?;
                    options.set(&name, value)?;
                }
            }
        }
        let on_gpu = Place::of(&options.detector()).is_gpu();
        if options.cameras.is_empty() {
            options.cameras = match on_gpu {
                true => vec![1, 4, 16, 32, 64, 128],
                false => vec![1, 2, 4],
            };
        }
        if options.sources.is_empty() {
            options.sources.push(Source::Memory(None));
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), Box<dyn Error>> {
        match name {
            "--clip" => self.clip = Some(value),
            "--model" => self.model = value,
            "--labels" => self.labels = Some(value),
            "--precision" => self.precision = value,
            "--backend" => self.backend = value,
            "--threads" => self.threads = value.parse()?,
            "--engine-cache" => self.engine_cache = Some(value),
            "--cameras" => self.cameras = numbers(&value)?,
            "--source" => self.sources = value.split(',').map(source).collect(),
            "--seconds" => self.seconds = value.parse()?,
            "--warmup" => self.warmup = value.parse()?,
            "--patience" => self.patience = value.parse()?,
            "--rounds" => self.rounds = Some(value.parse::<usize>()?.max(1)),
            "--paced" => self.paced = Some(value.parse()?),
            "--in-flight" => self.in_flight = value.parse()?,
            "--batch-size" => self.batch_size = value.parse()?,
            "--alone" => self.alone = numbers(&value)?,
            "--plot" => self.plot = Some(value.into()),
            other => return Err(format!("unknown option {other}\n{USAGE}").into()),
        }
        Ok(())
    }

    /// What the elements load, as the library takes it.
    pub fn detector(&self) -> DetectorOptions {
        DetectorOptions {
            model: self.model.clone(),
            labels: self.labels.as_ref().map(Into::into),
            backend: match self.backend.as_str() {
                "tensorrt" => Backend::TensorRt,
                "onnxruntime" => Backend::OnnxRuntime,
                _ => Backend::Auto,
            },
            threads: self.threads as usize,
            precision: match self.precision.as_str() {
                "fp32" => Precision::Fp32,
                "fp16" => Precision::Fp16,
                _ => Precision::Auto,
            },
            engine_cache: self.engine_cache.as_ref().map(Into::into),
            ..DetectorOptions::default()
        }
    }

    /// Sets an element up.
    pub fn apply(&self, element: &gst::Element) {
        element.set_property("model", &self.model);
        element.set_property("labels", &self.labels);
        element.set_property("threads", self.threads);
        element.set_property("engine-cache", &self.engine_cache);
        element.set_property("max-in-flight", self.in_flight);
        element.set_property("batch-size", self.batch_size);
        element.set_property_from_str("backend", &self.backend);
        element.set_property_from_str("precision", &self.precision);
    }

    /// The CUDA context that elements share with their decoders, for decoding alone. None where there is no GPU.
    pub fn shared_context(&self) -> Option<gst::Context> {
        if self.own_contexts {
            return None;
        }
        let shared = CudaContext::shared(self.detector().gpu_id).ok()?;
        Some(shared.to_gst_context())
    }

    /// Frames that all streams together may have under way, for so many cameras on a GPU.
    pub fn under_way(&self, cameras: usize) -> usize {
        /// What the element chooses on a GPU.
        const AUTOMATIC: u32 = 2;
        let each = match self.in_flight {
            0 => AUTOMATIC,
            number => number,
        };
        cameras * each as usize
    }
}

fn numbers<N: std::str::FromStr>(text: &str) -> Result<Vec<N>, N::Err> {
    text.split(',')
        .map(|number| number.trim().parse())
        .collect()
}

fn source(text: &str) -> Source {
    match text.split_once(':') {
        None if text == "memory" => Source::Memory(None),
        Some(("memory", decoder)) => Source::Memory(Some(decoder.into())),
        _ => Source::Decoder(text.into()),
    }
}
