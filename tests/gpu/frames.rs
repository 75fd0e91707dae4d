//! Frames that the GPU decoded, borrowed where they lie: they hold the pixels that a decoder in system
//! memory makes of the same stream.

use std::ffi::{c_int, c_uint, c_void};
use std::path::Path;
use std::ptr;

use gst::prelude::*;
use gst_video::prelude::*;
use gst_video::{VideoFrameRef, VideoInfo};
use gstrsdetectnet::cuda::context::Context;
use gstrsdetectnet::frame::buffer::FrameShape;
use gstrsdetectnet::frame::context_offer::ContextOffer;
use gstrsdetectnet::frame::cuda::CudaFrame;
use gstrsdetectnet::frame::gstcuda::{CONTEXT_TYPE, CudaContext};
use gstrsdetectnet::frame::nvmm::NvmmBuffer;
use gstrsdetectnet::frame::{Colorimetry, DeviceFrame, DeviceStorage, PixelFormat, video_info};

const FRAMES: usize = 3;
const WIDTH: usize = 1280;
const HEIGHT: usize = 720;

/// Luma, and chroma as NV12 has it.
struct Picture {
    luma: Vec<u8>,
    chroma: Vec<u8>,
    colorimetry: Colorimetry,
}

fn run(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let message = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(20),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null).unwrap();
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Eos(_)) => (),
        Some(gst::MessageView::Error(error)) => panic!("{}: {:?}", error.error(), error.debug()),
        _ => panic!("the pipeline did not finish"),
    }
}

fn launch(description: &str) -> gst::Pipeline {
    gst::parse::launch(description)
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap()
}

/// Encodes a moving picture, in a profile that every decoder here knows.
fn encode(file: &Path) {
    gst::init().unwrap();
    run(&launch(&format!(
        "videotestsrc num-buffers={FRAMES} pattern=zone-plate kx2=20 ky2=20 kt=1 \
         ! video/x-raw,format=NV12,width={WIDTH},height={HEIGHT},framerate=30/1 \
         ! x264enc tune=zerolatency bitrate=8000 ! video/x-h264,profile=constrained-baseline \
         ! h264parse ! video/x-h264,stream-format=byte-stream,alignment=au ! filesink location={}",
        file.display()
    )));
}

fn decoding(file: &Path, decoder: &str) -> gst::Pipeline {
    launch(&format!(
        "filesrc location={} ! h264parse ! {decoder} ! appsink name=sink sync=false",
        file.display()
    ))
}

/// Runs a decoder and sees each of its buffers.
fn decode<T>(
    pipeline: &gst::Pipeline,
    mut see: impl FnMut(&gst::Buffer, &VideoInfo) -> T,
) -> Vec<T> {
    let sink = pipeline
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut seen = Vec::new();
    while let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_seconds(20)) {
        let info = VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
        seen.push(see(&sample.buffer_owned().unwrap(), &info));
    }
    let error = pipeline
        .bus()
        .unwrap()
        .pop_filtered(&[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(error.is_none(), "{error:?}");
    assert_eq!(seen.len(), FRAMES);
    seen
}

/// The stream as a decoder in system memory sees it.
fn reference(file: &Path) -> Vec<Picture> {
    let pipeline = decoding(file, "openh264dec ! video/x-raw,format=I420");
    decode(&pipeline, |buffer, info| {
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
        let plane = |plane: u32, width: usize, height: usize| -> Vec<u8> {
            let stride = frame.plane_stride()[plane as usize] as usize;
            let rows = frame.plane_data(plane).unwrap().chunks(stride).take(height);
            rows.flat_map(|row| row[..width].iter().copied()).collect()
        };
        let (u, v) = (
            plane(1, WIDTH / 2, HEIGHT / 2),
            plane(2, WIDTH / 2, HEIGHT / 2),
        );
        Picture {
            luma: plane(0, WIDTH, HEIGHT),
            chroma: u.into_iter().zip(v).flat_map(|(u, v)| [u, v]).collect(),
            colorimetry: video_info::colorimetry(info),
        }
    })
}

/// `CUDA_MEMCPY2D` (cuda.h).
#[repr(C)]
struct Memcpy2D {
    source_x: usize,
    source_y: usize,
    source_type: c_uint,
    source_host: *const c_void,
    source_device: u64,
    source_array: *mut c_void,
    source_pitch: usize,
    target_x: usize,
    target_y: usize,
    target_type: c_uint,
    target_host: *mut c_void,
    target_device: u64,
    target_array: *mut c_void,
    target_pitch: usize,
    width: usize,
    height: usize,
}

const _: () = assert!(size_of::<Memcpy2D>() == 128);

/// Copies a plane of a frame to the host, in the context that is current.
fn download(frame: &DeviceFrame, plane: usize) -> Vec<u8> {
    type Copy = unsafe extern "C" fn(*const Memcpy2D) -> c_int;
    let (width, height) = frame.format.plane_size(plane, frame.width, frame.height);
    let mut target = vec![0; width * height];
    let copy = Memcpy2D {
        source_x: 0,
        source_y: 0,
        source_type: 2,
        source_host: ptr::null(),
        source_device: frame.planes[plane].pointer,
        source_array: ptr::null_mut(),
        source_pitch: frame.planes[plane].pitch,
        target_x: 0,
        target_y: 0,
        target_type: 1,
        target_host: target.as_mut_ptr().cast(),
        target_device: 0,
        target_array: ptr::null_mut(),
        target_pitch: width,
        width,
        height,
    };
    let result = unsafe {
        let library = libloading::Library::new("libcuda.so.1").unwrap();
        library.get::<Copy>("cuMemcpy2D_v2").unwrap()(&copy)
    };
    assert_eq!(result, 0, "cuMemcpy2D");
    target
}

/// What the GPU holds, read back.
fn picture(frame: &DeviceFrame) -> Picture {
    assert_eq!(frame.format, PixelFormat::Nv12);
    assert_eq!(frame.storage, DeviceStorage::Pitch);
    assert_eq!((frame.width, frame.height), (WIDTH, HEIGHT));
    Picture {
        luma: download(frame, 0),
        chroma: download(frame, 1),
        colorimetry: frame.colorimetry,
    }
}

fn mean_absolute_difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let sum: u64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.len() as f64
}

fn assert_same(decoded: &[Picture], reference: &[Picture]) {
    for (index, (decoded, reference)) in decoded.iter().zip(reference).enumerate() {
        let luma = mean_absolute_difference(&decoded.luma, &reference.luma);
        let chroma = mean_absolute_difference(&decoded.chroma, &reference.chroma);
        println!("frame {index}: luma differs by {luma:.4}, chroma by {chroma:.4}");
        assert!(luma < 1.0 && chroma < 1.0);
        assert_eq!(decoded.colorimetry, reference.colorimetry);
    }
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_frame_in_cuda_memory_holds_the_decoded_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.h264");
    encode(&file);
    let pipeline = decoding(
        &file,
        "nvh264dec ! video/x-raw(memory:CUDAMemory),format=NV12",
    );
    let decoded = decode(&pipeline, |buffer, info| {
        let mapped = CudaFrame::map(buffer, info).unwrap();
        println!(
            "{:?}, pending {:?}",
            mapped.frame(),
            mapped.pending_stream()
        );
        mapped.synchronize();
        assert_eq!(mapped.pending_stream(), None);
        let _current = mapped.context().push().unwrap();
        picture(&mapped.frame())
    });
    assert_same(&decoded, &reference(&file));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_frame_in_nvmm_memory_holds_the_decoded_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.h264");
    encode(&file);
    let pipeline = decoding(
        &file,
        "nvv4l2decoder ! video/x-raw(memory:NVMM),format=NV12",
    );
    let decoded = decode(&pipeline, |buffer, info| {
        let shape = FrameShape::new(info.clone()).unwrap();
        let mapped = NvmmBuffer::map(buffer, &shape).unwrap();
        assert_eq!(mapped.len(), 1);
        let frame = mapped.frame(0).unwrap();
        println!("{frame:?}");
        let context = Context::primary(mapped.gpu_id()).unwrap();
        let _current = context.enter().unwrap();
        picture(&frame)
    });
    assert_same(&decoded, &reference(&file));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn the_decoder_takes_the_context_that_is_offered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.h264");
    encode(&file);
    let shared = CudaContext::shared(0).unwrap();
    let primary = Context::primary(0).unwrap();
    assert_eq!(shared.handle(), primary.handle());
    assert_eq!(CudaContext::shared(0).unwrap(), shared);

    let pipeline = decoding(
        &file,
        "nvh264dec ! video/x-raw(memory:CUDAMemory),format=NV12",
    );
    pipeline.set_context(&shared.to_gst_context());
    let decoded = decode(&pipeline, |buffer, info| {
        let mapped = CudaFrame::map(buffer, info).unwrap();
        assert_eq!(mapped.context(), &shared);
        let _current = mapped.context().push().unwrap();
        picture(&mapped.frame())
    });
    assert_same(&decoded, &reference(&file));
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn an_offered_context_answers_queries_and_is_taken_from_the_answer() {
    gst::init().unwrap();
    let element = gst::ElementFactory::make("identity").build().unwrap();
    let giving = ContextOffer::new(Some(0));
    let context = giving.ensure(&element, || 0).unwrap();
    assert_eq!(giving.context().as_ref(), Some(&context));

    let mut query = gst::query::Context::new(CONTEXT_TYPE);
    assert!(giving.answer(&element, &mut query));
    let answer = query.context_owned().unwrap();
    let taking = ContextOffer::new(Some(0));
    taking.set_context(&element, &answer);
    assert_eq!(taking.context().as_ref(), Some(&context));

    let of_another_gpu = ContextOffer::new(Some(7));
    of_another_gpu.set_context(&element, &answer);
    assert_eq!(of_another_gpu.context(), None);

    assert!(!taking.adopt(context));
    taking.clear();
    assert_eq!(taking.context(), None);
}
