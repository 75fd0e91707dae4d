//! Crops of pictures that were put into GPU memory, in every memory, many formats and sizes.

use std::collections::HashSet;

use gst_video::VideoFormat;
use gstrsdetectnet::crop::render::CropResize;

use crate::common::{BLUE, GREEN, Picture, RED};
use crate::cutting::{CUDA, Crop, NVMM, SYSTEM, crops, pipeline};
use crate::media::{COLORS_SSD, shared_cache};
use crate::pixels::Pixels;
use crate::stream::{FRAME, has, launch, play, play_each, upload, uploads};

fn detector() -> String {
    COLORS_SSD.detector(&shared_cache())
}

/// Three objects, and in them and around them pixels that differ.
fn picture(width: u32, height: u32) -> Picture {
    let mut picture = Picture::grey(width, height)
        .with_cell(1, 2, RED)
        .with_cell(4, 4, GREEN)
        .with_cell(7, 7, BLUE);
    for (index, value) in picture.rgb.iter_mut().enumerate() {
        let noise = (index as u32).wrapping_mul(2_654_435_761) >> 28;
        *value = value.saturating_add(noise as u8 % 5);
    }
    picture
}

/// The frame that the detector gets: an element that uploads may round an odd size up or down.
fn frames(upstream: &str, samples: &[gst::Sample]) -> Vec<Pixels> {
    let description = format!("{upstream} ! appsink name=sink sync=false");
    let frames = play(&launch(&description), &description, samples);
    frames.iter().map(Pixels::of_sample).collect()
}

/// What crops can be asked for on this machine, with what must come.
fn wishes(upstream: &str) -> Vec<(String, CropResize)> {
    let nvmm = upstream.contains("NVMM");
    let mut memories = vec![SYSTEM];
    if has("cudaupload") {
        memories.push(CUDA);
    }
    if nvmm {
        memories.push(NVMM);
    }
    let mut wishes = Vec::new();
    for memory in memories {
        for rest in [
            "",
            ",format=NV12",
            ",format=RGBA,width=224,height=224",
            ",format=RGB,width=65,height=33",
            ",format=I420,width=150,height=90",
            ",format=BGRx,width=24",
        ] {
            wishes.push((format!("{memory}{rest}"), CropResize::Letterbox));
        }
    }
    wishes.push((
        "video/x-raw,format=GRAY8,width=41,height=77".into(),
        CropResize::Stretch,
    ));
    wishes.push((
        "video/x-raw,format=P010_10LE,width=42,height=76".into(),
        CropResize::Stretch,
    ));
    wishes
}

fn check(upstream: &str, sample: &gst::Sample) {
    let samples = vec![sample.clone(); 4];
    let frames = frames(upstream, &samples);
    for (wish, resize) in wishes(upstream) {
        let nick = match resize {
            CropResize::Letterbox => "letterbox",
            CropResize::Stretch => "stretch",
        };
        let detector = format!("{} crop-resize={nick}", detector());
        let description = pipeline(upstream, &detector, &format!("{wish} ! identity"));
        let made = crops(&description, &samples);
        assert_eq!(made.len(), 12, "{description}");
        let wanted = wish.parse::<gst::Caps>().unwrap();
        for Crop { details, caps, .. } in &made {
            assert!(caps.is_subset(&wanted), "{description}: {caps}");
            let frame = &frames[details.frame as usize];
            let size = (details.frame_width as usize, details.frame_height as usize);
            assert_eq!(size, (frame.width, frame.height));
        }
        for crop in &made {
            let frame = &frames[crop.details.frame as usize];
            crop.assert_cut_out_of(frame, resize, &description);
            let number = crop.details.frame;
            assert_eq!(crop.times, (Some(FRAME * number), Some(FRAME)));
        }
        let mut labels: Vec<_> = made[..3].iter().map(|crop| &crop.details.label).collect();
        labels.sort();
        assert_eq!(labels, ["blue", "green", "red"]);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_in_every_memory_format_and_size_are_those_that_the_cpu_cuts() {
    for format in [
        VideoFormat::Nv12,
        VideoFormat::I420,
        VideoFormat::P01010le,
        VideoFormat::Yuy2,
        VideoFormat::Rgba,
        VideoFormat::Bgr,
    ] {
        for upstream in uploads(format) {
            check(&upstream, &picture(640, 360).converted(format, None));
        }
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_at_the_edge_of_an_odd_frame_are_whole() {
    for format in [VideoFormat::Nv12, VideoFormat::Nv21, VideoFormat::I420] {
        if !has("cudaupload") {
            return;
        }
        let Some(upstream) = upload("cudaupload", "memory:CUDAMemory", format) else {
            continue;
        };
        check(&upstream, &picture(321, 243).converted(format, None));
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn cudadownload_reads_what_was_cut_out() {
    if !has("cudaupload") {
        return;
    }
    let Some(upstream) = upload("cudaupload", "memory:CUDAMemory", VideoFormat::Nv12) else {
        return;
    };
    let sample = picture(640, 360).converted(VideoFormat::Nv12, None);
    let frame = Pixels::of_sample(&sample);
    for wish in ["", ",format=RGBA,width=100,height=100"] {
        let downstream = format!("{CUDA}{wish} ! cudadownload ! video/x-raw");
        let description = pipeline(&upstream, &detector(), &downstream);
        let made = crops(&description, &vec![sample.clone(); 3]);
        assert_eq!(made.len(), 9);
        for crop in made {
            crop.assert_cut_out_of(&frame, CropResize::Letterbox, &description);
        }
    }
}

/// How many crops come, in how many different memories.
fn crops_and_memories(upstream: &str, wish: &str, frames: usize) -> (usize, usize) {
    let description = pipeline(upstream, &detector(), wish);
    let sample = picture(640, 360).converted(VideoFormat::Nv12, None);
    let input = vec![sample; frames];
    let memories = play_each(&launch(&description), &description, &input, |sample| {
        sample.buffer().unwrap().peek_memory(0).as_ptr() as usize
    });
    let different: HashSet<_> = memories.iter().collect();
    (memories.len(), different.len())
}

#[test]
#[ignore = "needs an NVIDIA GPU and TensorRT"]
fn crops_of_one_size_take_turns_in_the_same_memory() {
    for upstream in uploads(VideoFormat::Nv12) {
        let memory = if upstream.contains("NVMM") {
            NVMM
        } else {
            CUDA
        };
        let wish = format!("{memory},format=RGBA,width=64,height=64");
        let (crops, memories) = crops_and_memories(&upstream, &wish, 200);
        println!("{crops} crops in {memories} pieces of memory: {upstream}");
        assert_eq!(crops, 600);
        // Those that wait, and those that are being cut.
        assert!(memories <= 100, "{memories}");
    }
}
