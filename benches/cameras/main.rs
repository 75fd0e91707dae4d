//! Many cameras in one process: how many frames a second the elements inspect beside what the decoders decode, or
//! beside what the engine can do, and what that costs.
//!
//!     cargo bench --bench cameras [-- --clip FILE --source nvh264dec,memory --model FILE --labels FILE --plot FILE.png]
//!
//! `--help` lists all options. In the tables, `CPU s/k` are seconds of the processor for 1,000 frames, `decoding` those
//! of the same pipelines without the element, `µs/frame` the difference for one frame; `GPU MiB` what the elements
//! need besides the decoders, `MiB/more` for each further camera; `SM %` and `dec %` how busy NVML found the GPU;
//! `start ms` the longest start of an element but the first; `prep. s` how long larger batches took to be prepared
//! before anything was measured; `late` frames that could be fed only a period or more after their time, `missing`
//! those that were due but did not come out.

mod alone;
mod camera;
mod clip;
mod counters;
#[path = "../common/cpu_time.rs"]
mod cpu_time;
mod delay;
mod memory;
mod options;
mod plot;
mod prepared;
mod rows;
mod table;
mod usage;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use gstrsdetectnet::detector::Place;

use crate::alone::OnnxRuntime;
use crate::clip::Clip;
use crate::options::{Options, Source};
use crate::plot::Series;
use crate::rows::{Bench, Row, median};
use crate::usage::Gpu;

/// Decoded frames that take turns; decoders have no more to give at once.
const DIFFERENT_FRAMES: usize = 2;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    let options = Options::from_arguments()?;
    prepared::listen();
    let gpu = Gpu::open();
    let bench = Bench {
        options: &options,
        gpu: gpu.as_ref(),
        on_gpu: Place::of(&options.detector()).is_gpu(),
    };
    let clip = Arc::new(Clip::read(options.clip.as_deref())?);
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{}; {processors} processors; {} s for each row",
        clip.describe(),
        options.seconds
    );
    let engine = alone::tensorrt(&options)?;
    let mut all = Vec::new();
    for source in &options.sources {
        let series = match source {
            Source::Decoder(decoder) => from_decoder(&bench, &clip, decoder),
            Source::Memory(decoder) => from_memory(&bench, &clip, decoder.as_deref(), engine),
        };
        match series {
            Ok(series) => all.push(series),
            Err(error) => println!("left out: {error}"),
        }
    }
    if let Some(path) = options.plot.as_ref().filter(|_| !all.is_empty()) {
        let title = format!(
            "{}, {}",
            options.model.rsplit('/').next().unwrap_or_default(),
            clip.describe()
        );
        plot::write(path, &title, &all)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Rows of a table, as they are measured.
struct Rows<'a> {
    options: &'a Options,
    lone: Option<Row>,
    points: Vec<(usize, f64, f64)>,
}

impl<'a> Rows<'a> {
    fn new(options: &'a Options, limit: &str) -> Self {
        table::print_head(limit);
        Self {
            options,
            lone: None,
            points: Vec::new(),
        }
    }

    fn add(&mut self, row: Row) {
        if row.cameras == 1 {
            self.lone = Some(row.clone());
        }
        table::print(&row, self.lone.as_ref(), self.options.paced);
        let reached = row.window.frames_per_second();
        self.points.push((row.cameras, row.limit, reached));
    }
}

fn from_decoder(
    bench: &Bench<'_>,
    clip: &Arc<Clip>,
    decoder: &str,
) -> Result<Series, Box<dyn Error>> {
    println!("\nframes of {decoder}, beside decoding alone");
    let mut rows = Rows::new(bench.options, "decoded");
    for &cameras in &bench.options.cameras {
        let rounds =
            (0..bench.options.rounds.unwrap_or(1)).map(|_| bench.decoded(clip, decoder, cameras));
        match rounds.collect() {
            Ok(rounds) => rows.add(median(rounds).ok_or("no rounds")?),
            // More than this machine has decoders for, mostly: what was measured stays.
            Err(error) if !rows.points.is_empty() => {
                println!("left out: {cameras} cameras: {error}");
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Series {
        name: decoder.into(),
        limit: "decoding alone",
        points: rows.points,
    })
}

fn from_memory(
    bench: &Bench<'_>,
    clip: &Clip,
    decoder: Option<&str>,
    engine: Option<f64>,
) -> Result<Series, Box<dyn Error>> {
    let decoder = decoder.or_else(|| clip::any_decoder(bench.on_gpu));
    let decoder = decoder.ok_or("there is no H.264 decoder")?;
    let decoded = clip.decode(decoder, DIFFERENT_FRAMES)?;
    println!("\nframes of {decoder} that lie in memory, beside the engine alone");
    let mut onnxruntime = OnnxRuntime::load(bench.options)?;
    if let Some(engine) = &onnxruntime {
        println!(
            "ONNX Runtime alone: one session on {0} threads, or {0} on one each",
            engine.threads()
        );
    }
    let mut rows = Rows::new(bench.options, "alone");
    for &streams in &bench.options.cameras {
        let mut measured = Vec::new();
        let rounds = bench
            .options
            .rounds
            .unwrap_or(if bench.on_gpu { 1 } else { 3 });
        for _ in 0..rounds {
            measured.push(match (&mut onnxruntime, engine) {
                (Some(onnxruntime), _) => {
                    let (row, alone) = bench.in_memory_on_cpu(&decoded, onnxruntime, streams)?;
                    println!(
                        "        ONNX Runtime alone {:.1} on all threads, {:.1} side by side; {:.1} through {streams}: {:.3}",
                        alone.on_all_threads,
                        alone.side_by_side,
                        row.window.frames_per_second(),
                        row.ratio()
                    );
                    row
                }
                (None, Some(limit)) => bench.in_memory(&decoded, limit, streams)?,
                (None, None) => return Err("there is no engine to compare with".into()),
            });
        }
        rows.add(median(measured).ok_or("no rounds")?);
    }
    Ok(Series {
        name: format!("{decoder}, in memory"),
        limit: "engine alone",
        points: rows.points,
    })
}
