//! A short H.264 clip.

use std::path::Path;

use gst_video::VideoFormat;

use crate::media::picture;
use crate::stream::{launch, play};

pub const FRAMES: usize = 5;

/// Writes a picture as a short H.264 stream, in a profile that every decoder here knows.
pub fn encode(name: &str, file: &Path) {
    let description = "appsrc name=source ! x264enc tune=zerolatency bitrate=8000 \
         ! video/x-h264,profile=constrained-baseline ! h264parse \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=sink sync=false";
    let sample = picture(name).converted(VideoFormat::I420, None);
    let samples = vec![sample; FRAMES];
    let encoded = play(&launch(description), description, &samples);
    let stream: Vec<u8> = encoded
        .iter()
        .flat_map(|sample| sample.buffer().unwrap().map_readable().unwrap().to_vec())
        .collect();
    std::fs::write(file, stream).unwrap();
}
