//! A batch of frames in one NVMM buffer: each has its own detections.

use gst::prelude::*;
use gst_check::Harness;
use gst_video::VideoFormat;
use gstrsdetectnet::cuda::context::Context;

use crate::common::{BLUE, GREEN, Picture, RED, assert_found, init};
use crate::media::{COLORS_SSD, shared_cache};
use crate::pixels::Pixels;
use crate::surface::{SIDE, batch, caps, overwrite, upload};

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn each_frame_of_a_batch_gets_its_own_detections_and_overlay() {
    init();
    let context = Context::primary(0).unwrap();
    let _current = context.enter().unwrap();
    let cells = [
        ("red", (0, 0), RED),
        ("green", (3, 5), GREEN),
        ("blue", (6, 2), BLUE),
    ];
    let mut pictures = cells.map(|(label, (column, row), color)| {
        let picture = Picture::grey(SIDE, SIDE).with_cell(column, row, color);
        let wanted = vec![(label, picture.cell_box(column, row))];
        (picture, wanted)
    });
    // A frame without detections counts as well.
    pictures[1] = (Picture::grey(SIDE, SIDE), Vec::new());
    let originals = pictures
        .each_ref()
        .map(|(picture, _)| Pixels::of_sample(&picture.converted(VideoFormat::Nv12, None)));
    let frames = upload(&originals);
    let caps = caps();
    // Smaller batches of the engine than of the buffer: it runs twice.
    for batch_size in [2, 4] {
        let description = format!(
            "{} batch-size={batch_size} overlay=fill+box+label+confidence+track tracker=bytetrack",
            COLORS_SSD.detector(&shared_cache())
        );
        let element = gst::parse::launch(&description).unwrap();
        let mut harness = Harness::with_element(&element, Some("sink"), Some("src"));
        harness.set_src_caps(caps.clone());
        harness.play();
        for (frame, pixels) in frames.iter().zip(&originals) {
            overwrite(frame, pixels);
        }
        let buffer = harness.push_and_pull(batch(&frames)).unwrap();
        let found = gstrsdetectnet::detections(&buffer);
        let drawn = Pixels::of_batch(&buffer, &caps);
        for (index, ((_, wanted), original)) in pictures.iter().zip(&originals).enumerate() {
            let own = found.iter().filter(|f| f.batch_id == Some(index as u32));
            let own: Vec<_> = own.cloned().collect();
            assert_found(&own, wanted, 0.99, 0.9);
            let expected = original.clone().drawn(&own, &COLORS_SSD.labels());
            drawn[index].assert_same(&expected, &format!("frame {index}"));
        }
        drop(harness);
        element.set_state(gst::State::Null).unwrap();
    }
}
