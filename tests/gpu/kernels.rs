//! The kernels on a GPU: the cases of tests/kernels, results by way of pinned memory and CUDA graphs, and
//! how long it takes. Run with `cargo test --test gpu_kernels -- --ignored --nocapture --test-threads=1`.

#[macro_use]
#[path = "../kernels/cases.rs"]
mod cases;
#[path = "../kernels/crop_cases.rs"]
mod crop_cases;
#[path = "../kernels/decode_cases.rs"]
mod decode_cases;
#[path = "../kernels/draw_cases.rs"]
mod draw_cases;
#[path = "../kernels/family_cases.rs"]
mod family_cases;
#[allow(dead_code, reason = "some of it is for other tests")]
mod gpu;
#[path = "../kernels/machine.rs"]
mod machine;
#[path = "../decode/cases.rs"]
mod numpy_cases;
#[path = "../kernels/picture.rs"]
mod picture;
#[path = "../kernels/preprocess_cases.rs"]
mod preprocess_cases;
#[path = "../kernels/random.rs"]
mod random;
#[path = "../kernels/thumbnail_cases.rs"]
mod thumbnail_cases;

use std::cell::RefCell;

use gstrsdetectnet::crop::Rectangle;
use gstrsdetectnet::crop::cuda::{Cut, Jobs};
use gstrsdetectnet::crop::render::CropResize;
use gstrsdetectnet::decode::cuda::{Decoder, Found, ImageRules, OutputElement, Outputs};
use gstrsdetectnet::decode::{Family, Filter};
use gstrsdetectnet::frame::{Colorimetry, PixelFormat};
use gstrsdetectnet::overlay::draw::{Ink, Painter, Primitive};
use gstrsdetectnet::preprocess::cuda::{Element, InputTensor, Preprocessor, Slot};
use gstrsdetectnet::preprocess::{
    Anchor, ChannelOrder, InputGeometry, Preparation, ResizeMode, Shrinking, TensorLayout,
};
use gstrsdetectnet::thumbnail::Area;
use gstrsdetectnet::thumbnail::cuda::Batch as ThumbnailBatch;

use decode_cases::{Rules, clustered_box, outputs, ssd_outputs, yolov5_outputs, yolov5_values};
use gpu::{Gpu, Graph};
use machine::Machine;
use picture::Picture;
use random::Random;

/// One test for each case.
macro_rules! on_gpu {
    ($($module:ident: $($case:ident,)*;)*) => {
        $($(
            #[test]
            #[ignore = "needs an NVIDIA GPU"]
            fn $case() {
                $module::$case(&Gpu::new());
            }
        )*)*
    };
}

cases!(on_gpu);

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn a_captured_decoder_follows_the_rules_that_are_set_when_it_runs() {
    let gpu = Gpu::new();
    let classes = 20;
    let values = yolov5_values(2, 800, classes, 12);
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let outputs = yolov5_outputs(OutputElement::F32, gpu.upload(&bytes), 800, classes);
    let mut decoder = Decoder::new(outputs, 2, 100).unwrap();
    let direct = |decoder: &mut Decoder, rules: &Rules| {
        for image in 0..2 {
            decoder.set_rules(image, &rules.borrowed());
        }
        // SAFETY: everything lives until the wait in `finish`.
        unsafe { decoder.enqueue_rules(gpu.stream(), 2) }.unwrap();
        // SAFETY: as above.
        unsafe { decoder.enqueue(gpu.kernels(), gpu.stream(), 2) }.unwrap();
        gpu.finish();
        let found = |image| decoder.found(image).collect::<Vec<Found>>();
        [found(0), found(1)]
    };
    let (loose, strict) = (Rules::hd(0.5, classes), Rules::hd(0.9, classes));
    let expected = [direct(&mut decoder, &loose), direct(&mut decoder, &strict)];
    assert!(expected[0][1].len() > expected[1][1].len());
    assert!(!expected[1][1].is_empty());

    let graph = Graph::capture(&gpu, || {
        // SAFETY: the graph goes before the decoder does.
        unsafe { decoder.enqueue_rules(gpu.stream(), 2) }.unwrap();
        // SAFETY: as above.
        unsafe { decoder.enqueue(gpu.kernels(), gpu.stream(), 2) }.unwrap();
    });
    for (rules, expected) in [&loose, &strict].into_iter().zip(expected) {
        for image in 0..2 {
            decoder.set_rules(image, &rules.borrowed());
        }
        graph.launch(&gpu);
        gpu.finish();
        let found = |image| decoder.found(image).collect::<Vec<Found>>();
        assert_eq!([found(0), found(1)], expected);
    }
}

fn time_preprocessing(gpu: &Gpu, name: &str, element: Element, frames: usize, textures: bool) {
    let colorimetry = Colorimetry::default();
    let picture = Picture::noise(PixelFormat::Nv12, colorimetry, (1920, 1080), 128);
    let tensor = InputTensor {
        address: gpu.upload(&vec![0; frames * 3 * 640 * 640 * 4]),
        geometry: InputGeometry {
            width: 640,
            height: 640,
            layout: TensorLayout::Nchw,
        },
        element,
        slots: frames,
    };
    let preparation = Preparation {
        resize: ResizeMode::Letterbox {
            fill: 114,
            anchor: Anchor::Center,
        },
        order: ChannelOrder::Rgb,
        mean: [0.0; 3],
        scale: [1.0 / 255.0; 3],
    };
    let slots: Vec<Slot> = (0..frames)
        .map(|index| match textures {
            true => Slot::whole(picture.textures(gpu), index),
            false => Slot::whole(picture.linear(gpu), index),
        })
        .collect();
    let preprocessor = Preprocessor::new(tensor, preparation, Shrinking::Bilinear);
    let batch = preprocessor.batch(&slots).unwrap();
    gpu.time(name, || {
        // SAFETY: the machine keeps tensor and frames.
        unsafe { batch.launch(gpu.kernels(), gpu.stream()) }.unwrap();
    });
}

/// `passing` of the anchors score above the threshold.
fn yolov5_with_passing(anchors: usize, passing: usize) -> Vec<f32> {
    let mut random = Random::new(3);
    (0..anchors)
        .flat_map(|anchor| {
            let b = clustered_box(&mut random);
            let objectness = if anchor * passing % anchors < passing {
                1.0
            } else {
                0.01
            };
            let mut row = vec![b.x, b.y, b.width, b.height, objectness];
            row.extend((0..80).map(|_| 0.6 + 0.4 * random.unit()));
            row
        })
        .collect()
}

fn time_decoding(gpu: &Gpu, name: &str, passing: usize, images: usize, filter: Filter) {
    let anchors = 25_200;
    let mut values = Vec::new();
    for _ in 0..images {
        values.extend(yolov5_with_passing(anchors, passing));
    }
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_ne_bytes()).collect();
    let outputs = yolov5_outputs(OutputElement::F32, gpu.upload(&bytes), anchors, 80);
    let rules = Rules::hd(0.25, 80);
    let rules = ImageRules {
        filter,
        ..rules.borrowed()
    };
    time_decoder(gpu, name, outputs, images, &rules);
}

fn time_decoder(gpu: &Gpu, name: &str, outputs: Outputs, images: usize, rules: &ImageRules) {
    let mut decoder = Decoder::new(outputs, images, 100).unwrap();
    for image in 0..images {
        decoder.set_rules(image, rules);
    }
    let graph = Graph::capture(gpu, || {
        // SAFETY: the graph goes before the decoder does.
        unsafe { decoder.enqueue_rules(gpu.stream(), 2) }.unwrap();
        // SAFETY: as above.
        unsafe { decoder.enqueue(gpu.kernels(), gpu.stream(), images) }.unwrap();
    });
    gpu.time(name, || graph.launch(gpu));
    gpu.finish();
    println!("    {} detections", decoder.found(0).count());
}

/// 20 boxes with an outline, a plate and twelve glyphs each.
fn time_drawing(gpu: &Gpu) {
    let ink = Ink {
        values: [180, 90, 200],
        alpha: 255,
    };
    let mut primitives = Vec::new();
    for i in 0..20 {
        let (left, top) = (90 * i, 45 * i);
        for (x, y, width, height) in [
            (0, 0, 90, 3),
            (0, 100, 90, 3),
            (0, 0, 3, 100),
            (87, 0, 3, 100),
            (0, -20, 90, 20),
        ] {
            primitives.push(Primitive::fill(left + x, top + y, width, height, ink));
        }
        for glyph in 0..12 {
            primitives.push(Primitive::mask(
                (left + 7 * glyph, top - 18),
                0,
                (7, 13),
                1,
                ink,
            ));
        }
    }
    let picture = Picture::noise(PixelFormat::Nv12, Colorimetry::default(), (1920, 1080), 0);
    let frame = picture.linear(gpu);
    let painter = RefCell::new(Painter::new(1000, &[0x55; 13]).unwrap());
    gpu.time("20 boxes with text, drawn into NV12 1920x1080", || {
        let mut painter = painter.borrow_mut();
        painter.reuse();
        // SAFETY: the frame lives; the primitives are always the same, so that it is well to write them again.
        unsafe { painter.draw(gpu.kernels(), gpu.stream(), &frame, &primitives) }.unwrap();
    });
}

/// Of a 1080p frame and, beside it, of this many boxes in it.
fn time_thumbnails(gpu: &Gpu, format: PixelFormat, side: usize, boxes: usize, textures: bool) {
    let colorimetry = Colorimetry::default();
    let picture = Picture::noise(format, colorimetry, (1920, 1080), 128);
    let frame = match textures {
        true => picture.textures(gpu),
        false => picture.linear(gpu),
    };
    let mut areas = vec![Area::whole(0, 1920, 1080)];
    areas.extend((0..boxes).map(|i| {
        let mut area = Area::whole(0, 100 + 2 * (i % 50), 200);
        (area.pixels.x, area.pixels.y) = (17 * i % 1700, 29 * i % 880);
        area
    }));
    let cells = areas.len() * side * side;
    let (sums, bytes) = (gpu.upload(&vec![0; 8 * cells]), gpu.upload(&vec![0; cells]));
    let (batch, taken) = ThumbnailBatch::new(&[frame], &areas, side, sums, bytes).unwrap();
    assert_eq!(taken, areas.len());
    let storage = if textures { ", textures" } else { "" };
    let name = format!("{format:?} {side}x{side}, the frame and {boxes} boxes{storage}");
    gpu.time(&name, || {
        // SAFETY: the machine keeps all of it.
        unsafe { batch.launch(gpu.kernels(), gpu.stream()) }.unwrap();
    });
}

/// 32 objects of different sizes in NV12 1920x1080, each made 224x224 RGBA.
fn time_cropping(gpu: &Gpu) {
    let source = Picture::noise(PixelFormat::Nv12, Colorimetry::default(), (1920, 1080), 128);
    let frame = source.linear(gpu);
    let crop = Picture::noise(PixelFormat::Rgba, Colorimetry::default(), (224, 224), 0);
    let mut jobs = Jobs::default();
    for i in 0..32 {
        let rectangle = Rectangle {
            x: i * 44,
            y: i * 12,
            width: 100 + i * 12,
            height: 120 + i * 14,
        };
        jobs.push(&Cut {
            source: frame,
            rectangle,
            target: crop.linear(gpu),
            resize: CropResize::Letterbox,
        })
        .unwrap();
    }
    let mut table = vec![0; jobs.size()];
    jobs.write(&mut table);
    let launch = jobs.launch(gpu.upload(&table));
    gpu.time("32 crops of 224x224 RGBA out of NV12 1920x1080", || {
        // SAFETY: the machine keeps table, frame and crops.
        unsafe { launch.launch(gpu.kernels(), gpu.stream()) }.unwrap();
    });
}

#[test]
#[ignore = "needs an NVIDIA GPU"]
fn timings() {
    let gpu = Gpu::new();
    println!("NV12 1920x1080 into 640x640, letterboxed:");
    time_preprocessing(&gpu, "float32", Element::F32, 1, false);
    time_preprocessing(&gpu, "float16", Element::F16, 1, false);
    time_preprocessing(&gpu, "float16, textures", Element::F16, 1, true);
    time_preprocessing(&gpu, "float16, 8 frames", Element::F16, 8, false);
    time_preprocessing(&gpu, "float16, 32 frames", Element::F16, 32, false);
    println!("YOLOv5, 25,200 anchors, 80 classes, with the copies, as a CUDA graph:");
    let (soft, few) = (
        Filter {
            soft_sigma: 0.5,
            ..Filter::NONE
        },
        Filter {
            most_of_class: 5,
            ..Filter::NONE
        },
    );
    time_decoding(&gpu, "100 pass", 100, 1, Filter::NONE);
    time_decoding(&gpu, "2,000 pass", 2_000, 1, Filter::NONE);
    time_decoding(&gpu, "4,096 pass", 4_096, 1, Filter::NONE);
    time_decoding(&gpu, "25,200 pass", 25_200, 1, Filter::NONE);
    time_decoding(&gpu, "100 pass, 8 images", 100, 8, Filter::NONE);
    time_decoding(&gpu, "100 pass, softly suppressed", 100, 1, soft);
    time_decoding(&gpu, "4,096 pass, softly suppressed", 4_096, 1, soft);
    time_decoding(&gpu, "4,096 pass, at most 5 of a class", 4_096, 1, few);
    time_drawing(&gpu);
    time_cropping(&gpu);
    println!("Thumbnails of 1920x1080:");
    for side in [1, 4, 8, 16, 32, 64] {
        time_thumbnails(&gpu, PixelFormat::Nv12, side, 0, false);
    }
    time_thumbnails(&gpu, PixelFormat::Nv12, 16, 0, true);
    time_thumbnails(&gpu, PixelFormat::P010, 16, 0, false);
    time_thumbnails(&gpu, PixelFormat::Rgba, 16, 0, false);
    time_thumbnails(&gpu, PixelFormat::Nv12, 16, 20, false);
    time_thumbnails(&gpu, PixelFormat::Nv12, 16, 100, false);
    time_thumbnails(&gpu, PixelFormat::Nv12, 64, 100, false);
    println!("SSD, 1,917 anchors, 91 classes, with the copies, as a CUDA graph:");
    let mut random = Random::new(4);
    let mut halves = |count: usize| -> Vec<u8> {
        let values = (0..count).map(|_| half::f16::from_f32(random.unit()));
        values.flat_map(|value| value.to_ne_bytes()).collect()
    };
    let (scores, boxes) = (
        gpu.upload(&halves(1917 * 91)),
        gpu.upload(&halves(1917 * 4)),
    );
    let outputs = ssd_outputs(OutputElement::F16, [scores, boxes], 1917, 91);
    time_decoder(&gpu, "1 image", outputs, 1, &Rules::hd(0.98, 91).borrowed());
    time_families(&gpu);
}

/// Each family at its usual size, 80 classes, with random values of which some hundred pass.
fn time_families(gpu: &Gpu) {
    println!("families at their usual sizes, float16, with the copies, as a CUDA graph:");
    let named = |shapes: &[(&'static str, &[i64])]| -> Vec<_> {
        shapes
            .iter()
            .map(|(name, shape)| (*name, shape.to_vec()))
            .collect()
    };
    let anchors = 9 * (6400 + 1600 + 400 + 100 + 25);
    let families = [
        (Family::Yolov8, 0.97, named(&[("output0", &[1, 84, 8400])])),
        (Family::Yolov8, 0.97, named(&[("output0", &[1, 8400, 84])])),
        (Family::YoloObb, 0.97, named(&[("output0", &[1, 20, 8400])])),
        (Family::Yolov10, 0.5, named(&[("output0", &[1, 300, 6])])),
        (Family::Yolox, 0.9, named(&[("output", &[1, 8400, 85])])),
        (
            Family::YoloNas,
            0.97,
            named(&[("904", &[1, 8400, 4]), ("913", &[1, 8400, 80])]),
        ),
        (
            Family::NanoDetPlus,
            0.97,
            named(&[("output", &[1, 8500, 112])]),
        ),
        (
            Family::RtDetrRaw,
            0.7,
            named(&[("logits", &[1, 300, 80]), ("pred_boxes", &[1, 300, 4])]),
        ),
        (
            Family::Detr,
            0.02,
            named(&[("logits", &[1, 100, 92]), ("pred_boxes", &[1, 100, 4])]),
        ),
        (
            Family::RetinaNet,
            0.998,
            named(&[
                ("classification", &[1, anchors, 80]),
                ("regression", &[1, anchors, 4]),
            ]),
        ),
        (
            Family::Yolov3,
            0.53,
            named(&[
                ("a", &[1, 255, 80, 80]),
                ("b", &[1, 255, 40, 40]),
                ("c", &[1, 255, 20, 20]),
            ]),
        ),
        (
            Family::DetectNetV2,
            0.97,
            named(&[
                ("output_cov", &[1, 3, 40, 40]),
                ("output_bbox", &[1, 12, 40, 40]),
            ]),
        ),
        (
            Family::CenterNet,
            0.73,
            named(&[
                ("hm", &[1, 80, 160, 160]),
                ("wh", &[1, 2, 160, 160]),
                ("reg", &[1, 2, 160, 160]),
            ]),
        ),
    ];
    let mut random = Random::new(17);
    for (family, threshold, shapes) in families {
        let addresses: Vec<u64> = shapes
            .iter()
            .map(|(_, shape)| {
                let values =
                    (0..shape.iter().product::<i64>()).map(|_| half::f16::from_f32(random.unit()));
                gpu.upload(
                    &values
                        .flat_map(|value| value.to_ne_bytes())
                        .collect::<Vec<u8>>(),
                )
            })
            .collect();
        let outputs = outputs(family, &shapes, OutputElement::F16, &addresses);
        let rules = Rules::hd(threshold, outputs.thresholds());
        let name = format!("{family}, {} candidates", outputs.candidates());
        time_decoder(gpu, &name, outputs, 1, &rules.borrowed());
    }
}
