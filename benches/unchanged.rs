//! What `skip-unchanged` saves for a camera that sees nothing move: CPU time and frames per second of the element in a
//! pipeline, with and without it, in turns.
//!
//!     cargo bench --bench unchanged [-- --model FILE --labels FILE --threads N --rounds N --frames N --limit X]
//!
//! The frames are 1080p NV12 of a picture with the noise of a sensor, other noise in each, from memory.

#[path = "common/cpu_time.rs"]
mod cpu_time;
#[path = "common/options.rs"]
mod options;

use std::error::Error;
use std::time::{Duration, Instant};

use gst::prelude::*;

use cpu_time::cpu_time;
use options::Options;

const WIDTH: u32 = 1920;
const HEIGHT: u32 = 1080;
/// Frames with noise of their own, which take turns.
const DIFFERENT_FRAMES: u32 = 16;
/// The standard deviation of the noise, about, in levels: that of a small sensor in a lit room.
const NOISE: f32 = 3.0;

/// What a number of frames took.
struct Measured {
    wall: Duration,
    cpu: Duration,
    stats: gst::Structure,
}

fn info() -> Result<gst_video::VideoInfo, Box<dyn Error>> {
    Ok(
        gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, WIDTH, HEIGHT)
            .fps(gst::Fraction::new(30, 1))
            .build()?,
    )
}

/// A picture of smooth hills with noise that is nearly normal: the sum of four uniform numbers.
fn noisy_frame(info: &gst_video::VideoInfo, number: u32) -> gst::Buffer {
    let mut state = number.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut uniform = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    // A uniform number of width 1 has a variance of 1/12.
    let scale = NOISE * (12.0f32 / 4.0).sqrt();
    let luma = (WIDTH * HEIGHT) as usize;
    let pixels: Vec<u8> = (0..info.size())
        .map(|i| {
            let (x, y) = (i as u32 % WIDTH, i as u32 / WIDTH);
            let picture = match i < luma {
                true => 120.0 + 60.0 * (x as f32 / 150.0).sin() * (y as f32 / 110.0).cos(),
                false => 128.0,
            };
            let noise = scale * (uniform() + uniform() + uniform() + uniform());
            (picture + noise).round().clamp(16.0, 235.0) as u8
        })
        .collect();
    gst::Buffer::from_mut_slice(pixels)
}

/// Sends so many frames, those given in turns.
fn measure(
    frames: &[gst::Buffer],
    count: u32,
    options: &Options,
    limit: f32,
) -> Result<Measured, Box<dyn Error>> {
    let pipeline = gst::parse::launch(
        "appsrc name=frames format=time max-buffers=0 max-bytes=0 ! rsdetectnet name=detector \
         backend=onnxruntime ! fakesink sync=false",
    )?
    .downcast::<gst::Pipeline>()
    .map_err(|_| "not a pipeline")?;
    let by_name = |name| pipeline.by_name(name).ok_or("no such element");
    let detector = by_name("detector")?;
    options.apply(&detector);
    detector.set_property("skip-unchanged", limit);
    let source = by_name("frames")?.downcast::<gst_app::AppSrc>();
    let source = source.map_err(|_| "no appsrc")?;
    source.set_caps(Some(&info()?.to_caps()?));
    let bus = pipeline.bus().ok_or("no bus")?;
    source.push_buffer(frames[0].copy())?;
    pipeline.set_state(gst::State::Paused)?;
    pipeline.state(None).0?;
    for frame in frames.iter().cycle().skip(1).take(count as usize) {
        source.push_buffer(frame.copy())?;
    }
    source.end_of_stream()?;
    let (start, cpu) = (Instant::now(), cpu_time(libc::RUSAGE_SELF));
    pipeline.set_state(gst::State::Playing)?;
    let end = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(None, &end).ok_or("no message")?;
    let measured = Measured {
        wall: start.elapsed(),
        cpu: cpu_time(libc::RUSAGE_SELF) - cpu,
        stats: detector.property("stats"),
    };
    pipeline.set_state(gst::State::Null)?;
    match message.view() {
        gst::MessageView::Error(error) => Err(error.error().into()),
        _ => Ok(measured),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    let (mut frames_a_row, mut limit) = (300, 0.5);
    let options = Options::from_arguments(3, |name, value| {
        match name {
            "--frames" => frames_a_row = value.parse()?,
            "--limit" => limit = value.parse()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let info = info()?;
    let frames: Vec<_> = (0..DIFFERENT_FRAMES)
        .map(|number| noisy_frame(&info, number))
        .collect();
    println!(
        "{}, 1920x1080 NV12 with noise of {NOISE} levels, {} threads, {} frames a row",
        options.model, options.threads, frames_a_row
    );
    println!(
        "{:>14} {:>10} {:>10} {:>16} {:>20} {:>12}",
        "skip-unchanged",
        "inspected",
        "unchanged",
        "frames a second",
        "CPU s / 1000 frames",
        "compare p50"
    );
    let mut best = [f64::INFINITY; 2];
    for _ in 0..options.rounds {
        for (limit, best) in [0.0, limit].into_iter().zip(&mut best) {
            let measured = measure(&frames, frames_a_row, &options, limit)?;
            let frames = f64::from(frames_a_row);
            let cpu = 1000.0 * measured.cpu.as_secs_f64() / frames;
            *best = best.min(cpu);
            let count = |name| measured.stats.get::<u64>(name);
            println!(
                "{limit:>14} {:>10} {:>10} {:>16.0} {cpu:>20.2} {:>9} µs",
                count("inspected")?,
                count("unchanged")?,
                frames / measured.wall.as_secs_f64(),
                measured.stats.get::<u32>("hash-p50-us")?
            );
        }
    }
    let [without, with] = best;
    println!(
        "least of each: {without:.2} and {with:.2} CPU seconds for 1000 frames: {:.1} % saved",
        100.0 * (1.0 - with / without)
    );
    Ok(())
}
