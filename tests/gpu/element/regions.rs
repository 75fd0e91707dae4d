//! Parts of frames on a GPU, and models whose input is open: what is found is where it is known to be.

use gst_video::VideoFormat;
use gstrsdetectnet::BoundingBox;

use crate::common::{GREEN, Picture, RED, assert_found};
use crate::media::{COLORS_SSD, ColorsModel, shared_cache};
use crate::stream::{inspect, uploads};

const FIXED: [u8; 12] = [0x0a, 2, 8, 3, 0x0a, 2, 8, 64, 0x0a, 2, 8, 64];
/// An axis with an empty name takes as many bytes as one of 64.
const OPEN: [u8; 12] = [0x0a, 2, 8, 3, 0x0a, 2, 0x12, 0, 0x0a, 2, 0x12, 0];

fn upstreams() -> Vec<String> {
    let mut upstreams = vec!["appsrc name=source".to_owned()];
    upstreams.extend(uploads(VideoFormat::Rgba));
    upstreams
}

fn block(x: f32, y: f32) -> BoundingBox {
    BoundingBox {
        x,
        y,
        width: 8.0,
        height: 8.0,
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn tiles_and_regions_find_on_a_gpu_what_they_find_on_the_cpu() {
    // Too small for the model, unless 64x64 pixels are all that it sees. The second lies in two tiles.
    let picture = Picture::grey(256, 192)
        .with_block(8, 16, 8, 8, RED)
        .with_block(48, 48, 8, 8, GREEN)
        .with_block(200, 152, 8, 8, RED);
    let all = [
        ("red", block(8.0, 16.0)),
        ("green", block(48.0, 48.0)),
        ("red", block(200.0, 152.0)),
    ];
    for (view, wanted) in [
        ("", &all[..0]),
        ("tiles=64x64 tile-overlap=0.25", &all[..]),
        ("inference-region=0,0,64,64", &all[..2]),
        ("inference-region=\"64,0,64,48; 192,128,64,64\"", &all[2..]),
        ("inference-region=\"0,0 64,0 0,64\"", &all[..1]),
    ] {
        let detector = format!("{} {view}", COLORS_SSD.detector(&shared_cache()));
        for upstream in upstreams() {
            let sample = picture.converted(VideoFormat::Rgba, None);
            let seen = inspect(&upstream, &detector, &[sample.clone(), sample]);
            println!("{upstream} {view}: {} found", seen[0].detections.len());
            for seen in &seen {
                assert_found(&seen.detections, wanted, 0.95, 0.9);
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn a_model_of_open_size_runs_at_the_size_that_is_set() {
    let mut bytes = COLORS_SSD.onnx.to_vec();
    let at = bytes.windows(12).position(|window| window == FIXED);
    let at = at.expect("the model has this input");
    bytes[at..at + 12].copy_from_slice(&OPEN);
    let model = ColorsModel {
        name: "colors-ssd-open",
        onnx: bytes.leak(),
        ..COLORS_SSD
    };
    let detector = format!("{} input-width=64", model.detector(&shared_cache()));
    let picture = Picture::grey(128, 64).with_cell(5, 2, RED);
    for upstream in upstreams() {
        let sample = picture.converted(VideoFormat::Rgba, None);
        let seen = inspect(&upstream, &detector, &[sample]);
        assert_found(
            &seen[0].detections,
            &[("red", picture.cell_box(5, 2))],
            0.95,
            0.9,
        );
    }
}
