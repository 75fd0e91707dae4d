//! Rewritten graphs find what the originals find. Needs ONNX Runtime: `ORT_DYLIB_PATH` names its library.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gstrsdetectnet::detection::BoundingBox;
use gstrsdetectnet::model::onnx::{Float16Options, Float16Outcome, Model};
use ort::environment::Environment;
use ort::session::{Session, SessionInputValue};
use ort::value::Tensor;

/// Shape and values of a float32 tensor.
type Values = (Vec<i64>, Vec<f32>);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// ONNX Runtime, or none with a word why.
fn runtime() -> Option<&'static Environment> {
    static RUNTIME: OnceLock<Option<Environment>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let path = PathBuf::from(std::env::var_os("ORT_DYLIB_PATH")?);
        Some(ort::init_from(path).unwrap().build().unwrap())
    });
    if runtime.is_none() {
        eprintln!("skipped: ORT_DYLIB_PATH does not name ONNX Runtime's library");
    }
    runtime.as_ref()
}

fn tiny(name: &str) -> Vec<u8> {
    std::fs::read(root().join("tests/models").join(name)).unwrap()
}

fn float16(model: &[u8]) -> Vec<u8> {
    let mut model = Model::parse(model.to_vec()).unwrap();
    let outcome = model.to_float16(&Float16Options::default()).unwrap();
    assert!(matches!(outcome, Float16Outcome::Rewritten { .. }));
    model.to_bytes()
}

fn batched(model: &[u8]) -> Vec<u8> {
    let mut model = Model::parse(model.to_vec()).unwrap();
    model.make_batch_dynamic().unwrap();
    model.to_bytes()
}

/// All outputs of a model for one input.
fn run(
    runtime: &Environment,
    model: &[u8],
    input: impl Into<SessionInputValue<'static>>,
) -> Vec<Values> {
    let builder = Session::builder(runtime).unwrap();
    let mut session = builder
        .with_intra_threads(2)
        .unwrap()
        .commit_from_memory(model)
        .unwrap();
    let name = session.inputs()[0].name().to_owned();
    let outputs = session.run(vec![(name, input.into())]).unwrap();
    let values = outputs.values().map(|output| {
        let (shape, values) = output.try_extract_tensor::<f32>().unwrap();
        (shape.to_vec(), values.to_vec())
    });
    values.collect()
}

/// Grey with a red cell at 9, a green one at 30 and a blue one at 63: RGB pixels of 64x64.
fn blocks() -> Vec<[u8; 3]> {
    let mut pixels = vec![[114; 3]; 64 * 64];
    for (cell, colour) in [(9, [255, 0, 0]), (30, [0, 255, 0]), (63, [0, 0, 255])] {
        let (left, top) = (cell % 8 * 8, cell / 8 * 8);
        for y in top..top + 8 {
            pixels[y * 64 + left..][..8].fill(colour);
        }
    }
    pixels
}

fn planar(pixels: &[[u8; 3]], side: usize, to: impl Fn(f32) -> f32) -> Tensor<f32> {
    let channel = |channel: usize| pixels.iter().map(move |pixel| f32::from(pixel[channel]));
    let values: Vec<f32> = (0..3).flat_map(channel).map(to).collect();
    Tensor::from_array(([1, 3, side, side], values)).unwrap()
}

fn assert_close(found: &[Values], expected: &[Values], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for ((found_shape, found), (shape, expected)) in found.iter().zip(expected) {
        assert_eq!(found_shape, shape);
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= tolerance,
                "{found} instead of {expected}"
            );
        }
    }
}

#[test]
fn the_tiny_detectors_see_the_same_colours_in_float16() {
    let Some(runtime) = runtime() else { return };
    // On arm64 ONNX Runtime averages float16 by a sum in float16, to which the later pixels add nothing any more.
    let of_averages = match cfg!(target_arch = "aarch64") {
        true => 2e-2,
        false => 2e-3,
    };
    for (name, tolerance) in [
        ("colors-ssd.onnx", 2e-3),
        ("slow-ssd.onnx", 2e-3),
        ("classifier.onnx", of_averages),
    ] {
        let input = || planar(&blocks(), 64, |value| value / 127.5 - 1.0);
        let expected = run(runtime, &tiny(name), input());
        assert_close(
            &run(runtime, &float16(&tiny(name)), input()),
            &expected,
            tolerance,
        );
    }
    let input = || planar(&blocks(), 64, |value| value / 255.0);
    let model = tiny("colors-yolov5.onnx");
    let expected = run(runtime, &model, input());
    assert_eq!(expected[0].1[9 * 8 + 5], 1.0, "the red cell is red");
    assert_close(&run(runtime, &float16(&model), input()), &expected, 2e-3);
}

/// Pixels of a picture stretched to 300x300, each that of the nearest.
fn picture(name: &str) -> Vec<[u8; 3]> {
    let file = std::fs::File::open(root().join("tests/media").join(name)).unwrap();
    let mut decoder = png::Decoder::new(std::io::BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!(info.color_type, png::ColorType::Rgb);
    let (width, height) = (info.width as usize, info.height as usize);
    let pixel = |x: usize, y: usize| {
        let at = (y * height / 300 * width + x * width / 300) * 3;
        [pixels[at], pixels[at + 1], pixels[at + 2]]
    };
    (0..300 * 300).map(|at| pixel(at % 300, at / 300)).collect()
}

/// Best class other than the background, its score, and the box of one anchor.
fn anchor(outputs: &[Values], index: usize) -> (usize, f32, BoundingBox) {
    let scores = &outputs[0].1[index * 24..][1..24];
    let best = (0..23)
        .max_by(|&a, &b| scores[a].total_cmp(&scores[b]))
        .unwrap();
    let corners = &outputs[1].1[index * 4..][..4];
    let found = BoundingBox::from_corners(corners[0], corners[1], corners[2], corners[3]);
    (best, scores[best], found)
}

#[test]
fn the_bundled_model_finds_the_same_in_float16() {
    let Some(runtime) = runtime() else { return };
    let model = std::fs::read(root().join("pipelines/models/ssd-mobilenet-v2.onnx")).unwrap();
    let half = float16(&model);
    for name in ["astronaut.png", "chelsea.png", "coffee.png"] {
        let input = || planar(&picture(name), 300, |value| value / 127.5 - 1.0);
        let expected = run(runtime, &model, input());
        let found = run(runtime, &half, input());
        let mut seen = 0;
        for index in 0..1917 {
            let (class, score, place) = anchor(&expected, index);
            let (half_class, half_score, half_place) = anchor(&found, index);
            assert!(
                (score - half_score).abs() <= 0.03,
                "{name}: {half_score}, not {score}"
            );
            if score >= 0.25 {
                seen += 1;
                assert_eq!(half_class, class, "{name}");
                assert!(
                    place.iou(&half_place) >= 0.95,
                    "{name}: {half_place:?}, not {place:?}"
                );
            }
        }
        assert!(seen > 0, "{name}: nothing was found");
    }
}

#[test]
fn a_model_that_casts_its_bytes_first_gives_exactly_what_it_gave() {
    let Some(runtime) = runtime() else { return };
    let original = tiny("colors-ssd-nhwc-uint8.onnx");
    let mut model = Model::parse(original.clone()).unwrap();
    model.cast_byte_inputs().unwrap();
    let cast_first = model.to_bytes();
    assert_ne!(cast_first, original);
    // Every byte there is, and the picture whose colours are known.
    let ramp: Vec<u8> = (0..64 * 64 * 3).map(|at| (at * 7 % 256) as u8).collect();
    for values in [ramp, blocks().as_flattened().to_vec()] {
        let input = || Tensor::from_array(([1, 64, 64, 3], values.clone())).unwrap();
        let expected = run(runtime, &original, input());
        assert_close(&run(runtime, &cast_first, input()), &expected, 0.0);
        let half = float16(&batched(&cast_first));
        assert_close(&run(runtime, &half, input()), &expected, 2e-3);
    }
}

#[test]
fn a_model_without_its_quantisation_gives_what_it_gave_but_for_the_rounding() {
    let Some(runtime) = runtime() else { return };
    let original = tiny("colors-ssd-int8.onnx");
    let mut model = Model::parse(original.clone()).unwrap();
    assert!(model.dequantize().unwrap());
    let whole = model.to_bytes();
    // Every level there is: half a step of 1/127 may be lost or won.
    let ramp: Vec<[u8; 3]> = (0..64 * 64)
        .map(|at| [at, at / 16, at / 7].map(|level| (level % 256) as u8))
        .collect();
    for (pixels, tolerance) in [(ramp, 0.01), (blocks(), 1e-6)] {
        let input = || planar(&pixels, 64, |value| value / 127.5 - 1.0);
        let expected = run(runtime, &original, input());
        assert_close(&run(runtime, &whole, input()), &expected, tolerance);
        let half = run(runtime, &float16(&whole), input());
        assert_close(&half, &expected, tolerance + 2e-3);
    }
}

#[test]
fn a_model_made_to_take_several_pictures_sees_each_on_its_own() {
    let Some(runtime) = runtime() else { return };
    let model = tiny("colors-ssd-nhwc-uint8.onnx");
    let blocks = blocks();
    let mirrored: Vec<_> = blocks.iter().rev().copied().collect();
    let bytes = |pictures: &[&[[u8; 3]]]| {
        let values: Vec<u8> = pictures
            .iter()
            .flat_map(|p| p.as_flattened())
            .copied()
            .collect();
        Tensor::from_array(([pictures.len(), 64, 64, 3], values)).unwrap()
    };
    let first = run(runtime, &model, bytes(&[&blocks]));
    let second = run(runtime, &model, bytes(&[&mirrored]));
    let joined: Vec<Values> = first
        .into_iter()
        .zip(second)
        .map(|((shape, a), (_, b))| ([&[2], &shape[1..]].concat(), [a, b].concat()))
        .collect();
    let both = bytes(&[&blocks, &mirrored]);
    assert_close(&run(runtime, &batched(&model), both), &joined, 0.0);
    let both = bytes(&[&blocks, &mirrored]);
    assert_close(
        &run(runtime, &float16(&batched(&model)), both),
        &joined,
        2e-3,
    );
}
