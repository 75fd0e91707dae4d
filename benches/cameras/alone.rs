//! The engines by themselves, on the same machine in the same run: the limit of what the element can do.

use std::error::Error;
use std::ops::ControlFlow;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::detector::{Place, TensorRtModel};
use gstrsdetectnet::engine::onnxruntime::{Model, Session, threads};
use gstrsdetectnet::model::ModelSource;

use crate::options::Options;

/// Runs of a batch are measured about so long.
const MEASURED: Duration = Duration::from_secs(1);

/// Prints what TensorRT alone does at each batch size; returns images a second at the largest.
pub fn tensorrt(options: &Options) -> Result<Option<f64>, Box<dyn Error>> {
    let detector = options.detector();
    if !Place::of(&detector).is_gpu() {
        return Ok(None);
    }
    let context = Context::primary(detector.gpu_id)?;
    let model = TensorRtModel::load(&detector, context, &mut |_, _| ControlFlow::Continue(()))?;
    println!("{}: {}", options.model, model.description());
    println!("{:>6} {:>14} {:>12}", "batch", "TensorRT alone", "images/s");
    let mut largest = None;
    for &batch in &options.alone {
        let once = model.network_alone(batch, 20)?;
        let runs = (MEASURED.as_secs_f64() / once.as_secs_f64()).clamp(20.0, 10_000.0);
        let once = model.network_alone(batch, runs as u32)?;
        let images = f64::from(batch) / once.as_secs_f64();
        println!("{batch:>6} {once:>14.1?} {images:>12.0}");
        largest = Some(images);
    }
    Ok(largest)
}

/// ONNX Runtime by itself, loaded twice: on all threads, and with one session for each thread.
pub struct OnnxRuntime {
    one: Session,
    several: Vec<Session>,
}

/// Images a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnnxRuntimeAlone {
    pub on_all_threads: f64,
    pub side_by_side: f64,
}

impl OnnxRuntimeAlone {
    pub fn better(&self) -> f64 {
        self.on_all_threads.max(self.side_by_side)
    }
}

impl OnnxRuntime {
    /// None where the model does not run on the CPU.
    pub fn load(options: &Options) -> Result<Option<Self>, Box<dyn Error>> {
        if Place::of(&options.detector()).is_gpu() {
            return Ok(None);
        }
        let source = ModelSource::resolve(&options.model)?;
        let model = match &source {
            ModelSource::Bundled(bundled) => Model::Bytes(bundled.onnx),
            ModelSource::File(path) => Model::File(path),
            ModelSource::Engine(_) => return Ok(None),
        };
        let threads = threads(options.threads as usize);
        let several = (0..threads).map(|_| Session::load(model, 1));
        Ok(Some(Self {
            one: Session::load(model, threads)?,
            several: several.collect::<Result<_, _>>()?,
        }))
    }

    pub fn threads(&self) -> usize {
        self.several.len()
    }

    /// Measures each way so many seconds.
    pub fn measure(&mut self, seconds: f64) -> Result<OnnxRuntimeAlone, Box<dyn Error>> {
        let start = Barrier::new(self.several.len());
        let runs = std::thread::scope(|scope| {
            let running: Vec<_> = self
                .several
                .iter_mut()
                .map(|session| {
                    let start = &start;
                    scope.spawn(move || {
                        start.wait();
                        run(session, seconds).map_err(|error| error.to_string())
                    })
                })
                .collect();
            let rates = running.into_iter().map(|thread| match thread.join() {
                Ok(rate) => rate,
                Err(_) => Err("a session panicked".into()),
            });
            rates.sum::<Result<f64, String>>()
        })?;
        Ok(OnnxRuntimeAlone {
            on_all_threads: run(&mut self.one, seconds)?,
            side_by_side: runs,
        })
    }
}

/// Runs for each second.
fn run(session: &mut Session, seconds: f64) -> Result<f64, Box<dyn Error>> {
    let (start, mut runs) = (Instant::now(), 0u32);
    while start.elapsed().as_secs_f64() < seconds {
        session.run(|outputs| std::hint::black_box(outputs.len()))?;
        runs += 1;
    }
    Ok(f64::from(runs) / start.elapsed().as_secs_f64())
}
