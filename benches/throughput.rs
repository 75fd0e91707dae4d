//! Frames per second of the element in a pipeline beside ONNX Runtime alone, in one run: the two take turns, so
//! that whatever else the machine does meets both.
//!
//!     cargo bench --bench throughput [-- --model FILE --labels FILE --threads N --rounds N]

#[path = "common/options.rs"]
mod options;

use std::error::Error;
use std::time::{Duration, Instant};

use gst::prelude::*;
use gstrsdetectnet::engine::onnxruntime::{Model, Session};
use gstrsdetectnet::model::ModelSource;

use options::Options;

const FRAMES: u32 = 150;

/// Runs of the network alone for each second.
fn engine_alone(session: &mut Session) -> Result<f64, Box<dyn Error>> {
    let start = Instant::now();
    for _ in 0..FRAMES {
        session.run(|outputs| std::hint::black_box(outputs.len()))?;
    }
    Ok(f64::from(FRAMES) / start.elapsed().as_secs_f64())
}

/// Frames through a pipeline for each second, from the first buffer that leaves to the last; and its stats.
fn pipeline(source: &str, options: &Options) -> Result<(f64, gst::Structure), Box<dyn Error>> {
    let pipeline = gst::parse::launch(&format!(
        "{source} ! rsdetectnet name=detector ! fakesink name=sink sync=false"
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let by_name = |name| pipeline.by_name(name).ok_or("no such element");
    let detector = by_name("detector")?;
    options.apply(&detector);
    if let Some(source) = pipeline.by_name("frames") {
        feed(
            &source
                .downcast::<gst_app::AppSrc>()
                .map_err(|_| "no appsrc")?,
        )?;
    }
    let bus = pipeline.bus().ok_or("no bus")?;
    pipeline.set_state(gst::State::Paused)?;
    pipeline.state(None).0?;
    let start = Instant::now();
    pipeline.set_state(gst::State::Playing)?;
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(None, &end).ok_or("no message")?;
    let elapsed = start.elapsed();
    if let gst::MessageView::Error(error) = message.view() {
        return Err(error.error().into());
    }
    let stats = detector.property::<gst::Structure>("stats");
    pipeline.set_state(gst::State::Null)?;
    // One frame was inspected to preroll.
    let frames = stats.get::<u64>("frames")? - 1;
    Ok((frames as f64 / elapsed.as_secs_f64(), stats))
}

/// Queues the same frame again and again: the source costs nothing.
fn feed(source: &gst_app::AppSrc) -> Result<(), Box<dyn Error>> {
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, 1920, 1080)
        .fps(gst::Fraction::new(30, 1))
        .build()?;
    source.set_caps(Some(&info.to_caps()?));
    source.set_max_buffers(0);
    source.set_max_bytes(0);
    let pixels: Vec<u8> = (0..info.size()).map(|i| (i * 7 % 251) as u8).collect();
    let frame = gst::Buffer::from_slice(pixels);
    for _ in 0..FRAMES {
        source.push_buffer(frame.copy())?;
    }
    source.end_of_stream()?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    let options = Options::from_arguments(7, |_, _| Ok(false))?;
    let source = ModelSource::resolve(&options.model)?;
    let model = match &source {
        ModelSource::Bundled(bundled) => Model::Bytes(bundled.onnx),
        ModelSource::File(path) => Model::File(path),
        ModelSource::Engine(_) => {
            return Err("an .onnx model is needed to compare on the CPU".into());
        }
    };
    let mut session = Session::load(model, options.threads as usize)?;
    engine_alone(&mut session)?;
    let fed = "appsrc name=frames format=time";
    let generated = format!(
        "videotestsrc num-buffers={FRAMES} ! video/x-raw,format=NV12,width=1920,height=1080,framerate=30/1"
    );
    let (mut alone, mut with_feed, mut with_source) = (vec![], vec![], vec![]);
    let mut stats = None;
    println!(
        "{}, 1920x1080 NV12, {} threads, frames per second",
        options.model, options.threads
    );
    println!(
        "{:>12} {:>12} {:>12} {:>14}",
        "engine alone", "appsrc", "ratio", "videotestsrc"
    );
    for _ in 0..options.rounds {
        let engine = engine_alone(&mut session)?;
        std::thread::sleep(Duration::from_millis(100));
        let (fed, fed_stats) = pipeline(fed, &options)?;
        let (generated, _) = pipeline(&generated, &options)?;
        println!(
            "{engine:12.1} {fed:12.1} {:12.3} {generated:14.1}",
            fed / engine
        );
        alone.push(engine);
        with_feed.push(fed);
        with_source.push(generated);
        stats = Some(fed_stats);
    }
    let (alone, fed, generated) = (median(alone), median(with_feed), median(with_source));
    println!(
        "{alone:12.1} {fed:12.1} {:12.3} {generated:14.1}  median",
        fed / alone
    );
    if let Some(stats) = stats {
        for stage in ["preprocess", "infer", "decode", "attach", "total"] {
            let time = |percentile| stats.get::<u32>(format!("{stage}-{percentile}-us"));
            println!(
                "{stage:>12}: median {:6} µs, 99% {:6} µs",
                time("p50")?,
                time("p99")?
            );
        }
    }
    Ok(())
}
