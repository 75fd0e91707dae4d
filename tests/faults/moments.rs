//! Faults at every moment: states, flushes, links, pads, properties and caps change at random while frames come.

use std::time::Instant;

use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::chaos::Chaos;
use crate::common::pads::*;
use crate::common::*;

/// RSDETECTNET_TEST_ROUNDS=10000 for the count that README states.
fn rounds() -> u32 {
    std::env::var("RSDETECTNET_TEST_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap())
}

/// Caps of frames of another size come before frames that are none.
fn tell_other_caps(chaos: &mut Chaos) {
    let picture = Picture::grey(16 + chaos.below(200), 16 + chaos.below(200));
    chaos
        .source
        .set_caps(Some(&picture.info().to_caps().unwrap()));
}

#[test]
fn after_random_faults_at_random_moments_a_new_stream_finds_what_it_should() {
    init();
    let seed = [7; 32];
    let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let begin = Instant::now();
    let mut threads_before = 0;
    for round in 0..rounds() {
        if std::env::var_os("RSDETECTNET_TEST_TRACE").is_some() {
            eprintln!("round {round}");
        }
        let element = colors_element("colors-ssd.onnx").build().unwrap();
        let sink = gst::ElementFactory::make("fakesink").property("sync", false);
        let mut chaos = Chaos::new(random, element, sink.build().unwrap(), 2000);
        chaos
            .source
            .set_caps(Some(&four_cells().info().to_caps().unwrap()));
        let feed = |source: &gst_app::AppSrc, _| {
            let _ = source.push_buffer(four_cells().buffer());
        };
        chaos.round(feed, Some(tell_other_caps));
        (random, _) = chaos.dispose();
        if round % 20 == 19 {
            let element = colors_element("colors-ssd.onnx").build().unwrap();
            let found = detect_one(&element, &sample_of(&four_cells()));
            assert_eq!(found.len(), 4, "after round {round}");
        }
        if round == 20 {
            threads_before = threads();
        }
    }
    wait_for_threads(threads_before);
    println!("{} rounds in {:?}", rounds(), begin.elapsed());
}

fn sample_of(picture: &Picture) -> gst::Sample {
    gst::Sample::builder()
        .buffer(&picture.buffer())
        .caps(&picture.info().to_caps().unwrap())
        .build()
}
