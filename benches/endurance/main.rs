//! Many cameras for a long time, which come and go, fail, stall and change at random: nothing may grow, no result may
//! be lost or be another camera's, and every frame is accounted for.
//!
//!     cargo bench --bench endurance -- --cameras 8 --minutes 20
//!     cargo bench --bench endurance -- --cameras 32 --minutes 8 --before "cudaupload ! "
//!
//! Each camera shows an object of its own, in a colour and at a place that no other has. `--before` are elements
//! between the camera and the detector, for example those that bring its frames onto a GPU. Every `--every` seconds all
//! cameras come back, and a line tells how things are; the last lines say whether they stayed so, as does the exit
//! status.

mod camera;
mod growth;
#[path = "../../tests/common/heap.rs"]
mod heap;
#[path = "../cameras/usage.rs"]
mod usage;

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::camera::{Camera, Tally};
use crate::growth::{Growth, Reading};
use crate::usage::Gpu;

pub struct Options {
    cameras: usize,
    minutes: f64,
    every: u64,
    seed: u8,
    pub rate: u64,
    pub before: String,
}

impl Options {
    fn from_arguments() -> Result<Self, Box<dyn Error>> {
        let mut options = Self {
            cameras: 8,
            minutes: 20.0,
            every: 30,
            seed: 1,
            rate: 30,
            before: String::new(),
        };
        let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or("every option takes a value")?;
            match name.as_str() {
                "--cameras" => options.cameras = value.parse()?,
                "--minutes" => options.minutes = value.parse()?,
                "--every" => options.every = value.parse()?,
                "--seed" => options.seed = value.parse()?,
                "--rate" => options.rate = value.parse()?,
                "--before" => options.before = value,
                other => return Err(format!("unknown option {other}").into()),
            }
        }
        match options.cameras {
            1..=camera::MOST => Ok(options),
            _ => Err(format!("1 to {} cameras", camera::MOST).into()),
        }
    }
}

/// All cameras play undisturbed for as long before it is read what they hold.
const SETTLING: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool, Box<dyn Error>> {
    growth::use_one_heap();
    gst::init()?;
    gstrsdetectnet::plugin_register_static()?;
    let options = Options::from_arguments()?;
    let gpu = Gpu::open();
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[options.seed; 32]);
    let mut below = move |limit: usize| random.next_u32() as usize % limit;
    let mut cameras = (0..options.cameras)
        .map(|number| Camera::start(number, &options).map(Some))
        .collect::<Result<Vec<_>, _>>()?;
    let mut tally = Tally::default();
    let mut growth = Growth::new(options.cameras);
    println!(
        "   time cameras   frames  faults  heap MiB  RSS MiB  files  driver threads GPU MiB  p99 ms  SM % dec %"
    );
    let begin = Instant::now();
    let all = Duration::from_secs_f64(options.minutes * 60.0);
    let every = Duration::from_secs(options.every);
    let mut next_line = every;
    while begin.elapsed() < all {
        std::thread::sleep(Duration::from_millis(100 + below(1000) as u64));
        let which = below(cameras.len());
        let slot = &mut cameras[which];
        match (slot.take(), below(8)) {
            (None, _) => *slot = Some(Camera::start(which, &options)?),
            (Some(camera), 0) => tally.add(&camera.remove()?),
            (Some(camera), 1) => {
                tally.add(&camera.fail()?);
                *slot = Some(Camera::start(which, &options)?);
            }
            (Some(mut camera), what) => {
                match what {
                    2 => tally.add(&camera.restart()?),
                    3 => camera.change_size(below(4)),
                    4 => camera.listen()?,
                    5 => camera.stall(Duration::from_millis(below(1000) as u64)),
                    6 => camera.change_threshold(below(30)),
                    _ => {}
                }
                *slot = Some(camera);
            }
        }
        tally.faults += 1;
        if begin.elapsed() >= next_line {
            next_line += every;
            // With fewer cameras, less is held.
            for (number, slot) in cameras.iter_mut().enumerate().filter(|(_, s)| s.is_none()) {
                *slot = Some(Camera::start(number, &options)?);
            }
            // Each listener has a thread and files.
            for camera in cameras.iter_mut().flatten() {
                camera.stop_listening()?;
            }
            std::thread::sleep(SETTLING);
            let there = cameras.iter().flatten();
            let delay = there.clone().map(Camera::take_delay).max();
            let frames = there.clone().map(Camera::frames).sum::<u64>() + tally.frames;
            let reading = Reading::now(gpu.as_ref(), delay.unwrap_or_default())?;
            println!(
                "{:6} s {:7} {frames:8} {:7} {reading}",
                begin.elapsed().as_secs(),
                there.count(),
                tally.faults
            );
            growth.add(reading);
        }
    }
    for camera in cameras.into_iter().flatten() {
        tally.add(&camera.remove()?);
    }
    println!("{tally}");
    println!("{growth}");
    Ok(tally.is_right() && growth.is_none())
}
