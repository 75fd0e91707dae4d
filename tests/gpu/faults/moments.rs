//! Faults at every moment, on frames in CUDA memory: states, flushes, links, pads, properties and caps change at random
//! while frames come, and every frame is counted.

use std::time::{Duration, Instant};

use gst::prelude::*;
use gstrsdetectnet::cuda::context::Context;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::chaos::{Chaos, fakesink};
use crate::common::pads::{threads, wait_for_threads};
use crate::common::{RED, init};
use crate::media::{COLORS_SSD, shared_cache};
use crate::memory::free_memory;
use crate::playing::{assert_colorful, attempt, colorful_frames, uploaded, with_cell};
use crate::process::alone;

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn five_hundred_rounds_of_random_faults_on_frames_of_the_gpu_lose_count_of_none() {
    let test = "moments::\
        five_hundred_rounds_of_random_faults_on_frames_of_the_gpu_lose_count_of_none";
    alone(test, 160, || {
        const ROUNDS: usize = 500;
        const TIME: Duration = Duration::from_secs(100);
        init();
        let sizes = [(256, 256), (640, 480)];
        let samples = sizes.map(|size| with_cell(size, (3, 2), RED).0);
        let frames = uploaded(&samples).unwrap_or(samples.to_vec());
        let detector = COLORS_SSD.detector(&shared_cache());
        // Models that somebody has start at once, so that more moments are met; the last hundred rounds load it.
        let mut keeper = Some(gst::parse::launch(&detector).unwrap());
        let kept = keeper.as_ref().unwrap();
        kept.set_state(gst::State::Paused).unwrap();
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[11; 32]);
        let context = Context::primary(0).unwrap();
        let begin = Instant::now();
        let (mut rounds, mut came, mut settled) = (0, 0, (0, 0));
        while rounds < ROUNDS && begin.elapsed() < TIME {
            let in_flight = [1, 2, 4][random.next_u32() as usize % 3];
            let element = gst::parse::launch(&format!("{detector} max-in-flight={in_flight}"));
            let mut chaos = Chaos::new(random, element.unwrap(), fakesink(), 4000);
            // Each other frame is of another size.
            let feed = |source: &gst_app::AppSrc, number| {
                let _ = source.push_sample(&frames[number % frames.len()]);
            };
            chaos.round(feed, None);
            let (next, taken) = chaos.dispose();
            (random, came) = (next, came + taken);
            rounds += 1;
            if rounds == ROUNDS - 100 {
                let kept = keeper.take().unwrap();
                kept.set_state(gst::State::Null).unwrap();
            }
            if rounds % 50 == 0 {
                let played = attempt(&detector, &colorful_frames(3));
                assert_colorful(&played.unwrap_or_else(|error| panic!("{rounds}: {error}")));
            }
            if rounds == 50 {
                settled = (threads(), free_memory(&context));
            }
        }
        if let Some(kept) = keeper {
            kept.set_state(gst::State::Null).unwrap();
        }
        println!(
            "{rounds} rounds with {came} frames in {:?}",
            begin.elapsed()
        );
        assert!(rounds >= 100);
        wait_for_threads(settled.0);
        let left = settled.1.saturating_sub(free_memory(&context));
        println!(
            "{} KiB of the GPU less free than after 50 rounds",
            left >> 10
        );
        // Of each start TensorRT-RTX 1.4 keeps some.
        assert!(left <= 128 << 20);
        let again = attempt(&detector, &colorful_frames(5)).unwrap();
        assert_colorful(&again);
    });
}
