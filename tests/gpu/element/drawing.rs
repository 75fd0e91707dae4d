//! The overlay in frames in GPU memory: to the byte what the CPU draws, and for nobody else to see.

use std::sync::{Arc, Mutex};

use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};

use crate::common::assert_found;
use crate::media::{COLORS_SSD, shared_cache};
use crate::pixels::Pixels;
use crate::stream::{EVERY_KIND, colorful, has, inspect, launch, play, uploads};

fn drawing_detector() -> String {
    format!(
        "{} overlay=fill+box+label+confidence+track tracker=bytetrack",
        COLORS_SSD.detector(&shared_cache())
    )
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn the_overlay_is_drawn_in_place_as_the_cpu_draws_it() {
    let (picture, wanted) = colorful();
    for format in EVERY_KIND {
        for upstream in uploads(format) {
            let samples = vec![picture.converted(format, None); 3];
            for seen in inspect(&upstream, &drawing_detector(), &samples) {
                assert_found(&seen.detections, &wanted, 0.99, 0.9);
                assert!(seen.same_memory, "{upstream}");
                let expected = seen
                    .before
                    .clone()
                    .drawn(&seen.detections, &COLORS_SSD.labels());
                assert!(expected != seen.before, "{upstream}");
                seen.after.assert_same(&expected, &upstream);
            }
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn behind_a_tee_the_other_branch_keeps_its_pixels_in_cuda_memory() {
    if !has("cudaupload") {
        return;
    }
    let (picture, wanted) = colorful();
    let description = format!(
        "appsrc name=source ! cudaupload ! video/x-raw(memory:CUDAMemory) ! tee name=tee \
         tee. ! queue ! {} ! appsink name=sink sync=false \
         tee. ! queue ! appsink name=other sync=false",
        drawing_detector()
    );
    let pipeline = launch(&description);
    let sample = picture.converted(VideoFormat::Nv12, None);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let other = pipeline.by_name("other").and_downcast::<gst_app::AppSink>();
    other.unwrap().set_callbacks(
        gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                keep.lock().unwrap().push(sample);
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    let drawn = play(&pipeline, &description, &vec![sample.clone(); 3]);
    assert_eq!(drawn.len(), 3);
    let original = Pixels::of_sample(&sample);
    for sample in &drawn {
        let detections = gstrsdetectnet::detections(sample.buffer().unwrap());
        assert_found(&detections, &wanted, 0.99, 0.9);
        let expected = original.clone().drawn(&detections, &COLORS_SSD.labels());
        Pixels::of_sample(sample).assert_same(&expected, "drawn");
        let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        let in_system_memory = Pixels::of_system(&sample.buffer_owned().unwrap(), &info);
        in_system_memory.assert_same(&expected, "drawn and read in system memory");
    }
    let kept = kept.lock().unwrap();
    assert_eq!(kept.len(), 3);
    for sample in kept.iter() {
        Pixels::of_sample(sample).assert_same(&original, "the other branch");
    }
}
