//! One stream on a GPU: what the element adds to TensorRT's own time, with frames that a GPU decoder made.
//!
//!     cargo bench --bench gpu [-- --clip FILE.mp4 --model FILE --labels FILE --precision fp16 --frames N
//!         --set hash-size=16 --crops no]
//!
//! For each decoder there is a row: TensorRT alone (its CUDA graph, launched again and again), the whole way of a
//! frame through the element (preprocessing, network, decoding, metadata) one at a time, and the host's CPU time. The
//! row below it has the medians of the stages, from `stats`: until the work is with the GPU, until its end, reading the
//! result, attaching it.
//! Then come the crops a second through the element, 32 of each frame, made 224x224 RGBA in each memory.

#[path = "common/cpu_time.rs"]
mod cpu_time;

use std::error::Error;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gst_check::Harness;
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::detector::{DetectorOptions, Precision, TensorRtModel};

use cpu_time::cpu_time;

const DECODERS: [(&str, &str); 2] = [
    ("nvh264dec", "video/x-raw(memory:CUDAMemory)"),
    ("nvv4l2decoder", "video/x-raw(memory:NVMM)"),
];
/// Decoded frames that take turns; decoders have no more to give at once.
const DIFFERENT_FRAMES: usize = 2;
const ROUNDS: usize = 5;
/// Of `stats`.
const STAGES: [&str; 4] = ["preprocess", "infer", "decode", "attach"];

struct Options {
    clip: String,
    model: String,
    labels: Option<String>,
    precision: String,
    frames: u32,
    crops: bool,
    /// Other properties of the element, and their values.
    properties: Vec<(String, String)>,
}

impl Options {
    fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            clip: "clip.mp4".into(),
            model: "ssd-mobilenet-v2".into(),
            labels: None,
            precision: "fp16".into(),
            frames: 2000,
            crops: true,
            properties: Vec::new(),
        };
        let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("every option takes a value")?;
            match name.as_str() {
                "--clip" => options.clip = value,
                "--model" => options.model = value,
                "--labels" => options.labels = Some(value),
                "--precision" => options.precision = value,
                "--frames" => options.frames = value.parse()?,
                "--crops" => options.crops = value != "no",
                "--set" => {
                    let (name, value) = value.split_once('=').ok_or("--set takes NAME=VALUE")?;
                    options.properties.push((name.into(), value.into()));
                }
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        Ok(options)
    }
}

/// The first frames of the clip, in GPU memory, with their caps and the pipeline that owns them.
fn decode(
    clip: &str,
    decoder: &str,
    caps: &str,
) -> Result<(gst::Pipeline, Vec<gst::Sample>), Box<dyn Error>> {
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={clip} ! qtdemux ! h264parse ! {decoder} ! {caps} ! \
         appsink name=frames sync=false max-buffers=1"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let sink = pipeline.by_name("frames").ok_or("no appsink")?;
    let sink = sink
        .downcast::<gst_app::AppSink>()
        .map_err(|_| "no appsink")?;
    pipeline.set_state(gst::State::Playing)?;
    let timeout = gst::ClockTime::from_seconds(20);
    let samples = (0..DIFFERENT_FRAMES)
        .map_while(|_| sink.try_pull_sample(timeout))
        .collect::<Vec<_>>();
    match samples.len() {
        DIFFERENT_FRAMES => Ok((pipeline, samples)),
        _ => Err(format!("{decoder} gave {} frames", samples.len()).into()),
    }
}

/// Frames that warm up.
const WARM_UP: u32 = 50;

/// Frames through the element, one after the other: for each the wall clock time and this thread's CPU time.
fn through_element(
    element: &gst::Element,
    samples: &[gst::Sample],
    frames: u32,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let mut harness = Harness::with_element(element, Some("sink"), Some("src"));
    harness.set_src_caps(samples[0].caps_owned().ok_or("no caps")?);
    harness.play();
    let buffers: Vec<_> = samples
        .iter()
        .filter_map(|sample| sample.buffer_owned())
        .collect();
    let mut pass = |count: u32| {
        for buffer in buffers.iter().cycle().take(count as usize) {
            harness.push_and_pull(buffer.copy())?;
        }
        Ok::<_, gst::glib::BoolError>(())
    };
    pass(WARM_UP)?;
    let (start, cpu) = (Instant::now(), cpu_time(libc::RUSAGE_THREAD));
    pass(frames)?;
    Ok((
        start.elapsed() / frames,
        (cpu_time(libc::RUSAGE_THREAD) - cpu) / frames,
    ))
}

/// Crops of a frame.
const CROPS: usize = 32;

/// Crops through the element into a sink: for each frame how many, and the time.
fn crops_through_element(
    options: &Options,
    samples: &[gst::Sample],
    wanted: &str,
) -> Result<(f64, Duration), Box<dyn Error>> {
    let labels = options.labels.as_ref();
    let labels = labels.map_or_else(String::new, |labels| format!("labels={labels}"));
    let bin = gst::parse::bin_from_description(
        &format!(
            "rsdetectnet name=detector backend=tensorrt model={} {labels} precision={} threshold=0.0001 \
             iou-threshold=1 max-detections={CROPS} crop-overflow=block \
             detector.crops ! {wanted},format=RGBA,width=224,height=224 ! fakesink async=false",
            options.model, options.precision
        ),
        false,
    )?;
    let detector = bin.by_name("detector").ok_or("no detector")?;
    for name in ["sink", "src"] {
        let target = detector.static_pad(name).ok_or("no pad")?;
        let ghost = gst::GhostPad::builder_with_target(&target)?;
        bin.add_pad(&ghost.name(name).build())?;
    }
    let (time, _) = through_element(bin.upcast_ref(), samples, options.frames)?;
    let stats = detector.property::<gst::Structure>("stats");
    let crops = stats.get::<u64>("crops")? as f64 / f64::from(WARM_UP + options.frames);
    bin.set_state(gst::State::Null)?;
    Ok((crops, time))
}

/// A row for each memory that the crops can be in.
fn print_crops(options: &Options, samples: &[gst::Sample], own: &str) {
    let memories = [own, "video/x-raw(memory:CUDAMemory)", "video/x-raw"];
    let others = memories.iter().skip(1).filter(|memory| **memory != own);
    for memory in [&own].into_iter().chain(others) {
        match crops_through_element(options, samples, memory) {
            Ok((crops, time)) => println!(
                "{:>14} {memory}: {:.0} a second, {crops:.1} of a frame in {time:.1?}",
                "crops in",
                crops / time.as_secs_f64()
            ),
            Err(error) => println!("{:>14} {memory} left out: {error}", "crops in"),
        }
    }
}

fn median<T: Ord + Copy>(mut values: Vec<T>) -> T {
    values.sort();
    values[values.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    let options = Options::from_arguments()?;
    let detector_options = DetectorOptions {
        model: options.model.clone(),
        labels: options.labels.as_ref().map(Into::into),
        precision: match options.precision.as_str() {
            "fp32" => Precision::Fp32,
            _ => Precision::Fp16,
        },
        ..DetectorOptions::default()
    };
    let context = Context::primary(0)?;
    let alone = TensorRtModel::load(&detector_options, context, &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })?;
    println!("{}: {}", options.model, alone.description());
    println!(
        "{:>14} {:>16} {:>16} {:>7} {:>14}",
        "frames from", "TensorRT alone", "with element", "ratio", "host CPU"
    );
    for (decoder, caps) in DECODERS {
        let (pipeline, samples) = match decode(&options.clip, decoder, caps) {
            Ok(decoded) => decoded,
            Err(error) => {
                println!("{decoder:>14} left out: {error}");
                continue;
            }
        };
        let (mut network, mut element_time, mut cpu_time) = (vec![], vec![], vec![]);
        let mut stages = STAGES.map(|_| Vec::new());
        for _ in 0..ROUNDS {
            network.push(alone.network_alone(1, options.frames)?);
            let element = gst::ElementFactory::make("rsdetectnet")
                .property("model", &options.model)
                .property("labels", &options.labels)
                .property_from_str("backend", "tensorrt")
                .property_from_str("precision", &options.precision)
                .build()?;
            // One at a time, and pushed by the thread that brings it: the whole way of a frame.
            element.set_property("max-in-flight", 1u32);
            for (name, value) in &options.properties {
                element.set_property_from_str(name, value);
            }
            let (wall, cpu) = through_element(&element, &samples, options.frames)?;
            let stats = element.property::<gst::Structure>("stats");
            for (stage, times) in STAGES.iter().zip(&mut stages) {
                times.push(stats.get::<u32>(format!("{stage}-p50-us"))?);
            }
            element.set_state(gst::State::Null)?;
            element_time.push(wall);
            cpu_time.push(cpu);
        }
        let (network, element, cpu) = (median(network), median(element_time), median(cpu_time));
        println!(
            "{decoder:>14} {network:>16.1?} {element:>16.1?} {:>7.2} {cpu:>14.1?}",
            element.as_secs_f64() / network.as_secs_f64()
        );
        print!("{:>14}", "stages");
        for (stage, times) in STAGES.iter().zip(stages) {
            print!(" {stage} {} µs", median(times));
        }
        println!();
        if options.crops {
            print_crops(&options, &samples, caps);
        }
        drop(samples);
        pipeline.set_state(gst::State::Null)?;
    }
    Ok(())
}
