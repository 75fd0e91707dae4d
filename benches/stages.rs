//! Time and allocations of each stage of one inspection: `cargo bench --bench stages`.

use divan::Bencher;
use gstrsdetectnet::decode::{Evidence, HostDecoder, Layout, Selection};
use gstrsdetectnet::engine::onnxruntime::{InputMut, Model, Session};
use gstrsdetectnet::engine::{ElementType, Tensor};
use gstrsdetectnet::frame::system::Plane;
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, PixelFormat, SystemFrame};
use gstrsdetectnet::meta::roi;
use gstrsdetectnet::model::{Labels, ModelSource};
use gstrsdetectnet::preprocess::Shrinking;
use gstrsdetectnet::preprocess::cpu::Preprocessor;
use gstrsdetectnet::preprocess::{InputGeometry, Placement, ResizeMode, TensorLayout};
use gstrsdetectnet::{BoundingBox, Detection};

#[global_allocator]
static ALLOCATOR: divan::AllocProfiler = divan::AllocProfiler::system();

const WIDTH: usize = 1920;
const HEIGHT: usize = 1080;

fn main() {
    if let Err(error) = gst::init() {
        eprintln!("{error}");
        return;
    }
    divan::main();
}

fn session() -> Session {
    let ModelSource::Bundled(model) = ModelSource::resolve("ssd-mobilenet-v2").expect("bundled")
    else {
        unreachable!("the name is that of a bundled model")
    };
    Session::load(Model::Bytes(model.onnx), 2).expect("ONNX Runtime is installed")
}

#[divan::bench]
fn preprocess_1080p_nv12_to_ssd(bencher: Bencher) {
    let mut session = session();
    let evidence = Evidence::new(session.outputs(), session.geometry());
    let layout = Layout::recognize(&evidence).expect("an SSD");
    let preparation = layout.default_preparation(ElementType::Float32);
    let mut preprocessor = Preprocessor::new(session.geometry(), preparation, Shrinking::Bilinear);
    let pixels: Vec<u8> = (0..WIDTH * HEIGHT * 3 / 2)
        .map(|i| (i * 7 % 251) as u8)
        .collect();
    let (luma, chroma) = pixels.split_at(WIDTH * HEIGHT);
    let plane = |data| Plane {
        data,
        stride: WIDTH,
    };
    let colorimetry = Colorimetry {
        matrix: ColorMatrix::Bt709,
        full_range: false,
    };
    let planes = [plane(luma), plane(chroma), Plane::default()];
    let frame = SystemFrame::new(PixelFormat::Nv12, colorimetry, WIDTH, HEIGHT, planes)
        .expect("whole planes");
    bencher.bench_local(|| match session.input() {
        InputMut::Float32(tensor) => preprocessor.run(&frame, tensor),
        InputMut::Uint8(tensor) => preprocessor.run(&frame, tensor),
    });
}

#[divan::bench]
fn infer_ssd(bencher: Bencher) {
    let mut session = session();
    bencher.bench_local(|| session.run(|outputs| outputs.len()));
}

/// 25,200 candidates of 80 classes, of which a few hundred pass the threshold.
#[divan::bench]
fn decode_yolov5s(bencher: Bencher) {
    const ROWS: usize = 25_200;
    const COLUMNS: usize = 85;
    let spec = gstrsdetectnet::engine::TensorSpec {
        name: "output".into(),
        element: ElementType::Float32,
        shape: vec![1, ROWS as i64, COLUMNS as i64],
    };
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let data: Vec<f32> = (0..ROWS)
        .flat_map(|_| {
            let mut row = [0.0; COLUMNS];
            row.fill_with(&mut random);
            (row[0], row[1], row[2], row[3]) =
                (row[0] * 640.0, row[1] * 640.0, row[2] * 90.0, row[3] * 90.0);
            row[4] = if random() < 0.02 { row[4] } else { 0.01 };
            row
        })
        .collect();
    let input = InputGeometry {
        width: 640,
        height: 640,
        layout: TensorLayout::Nchw,
    };
    let specs = [spec];
    let layout = Layout::recognize(&Evidence::new(&specs, input)).expect("the layout of YOLOv5");
    let mut decoder = HostDecoder::new(layout, input, &specs);
    let placement = Placement::new(ResizeMode::Stretch, input, WIDTH, HEIGHT);
    let selection = Selection {
        thresholds: vec![0.25; 80],
        iou_threshold: 0.5,
        max_detections: 100,
        ..Selection::default()
    };
    let mut detections = Vec::new();
    let shape = [1, ROWS as i64, COLUMNS as i64];
    bencher.bench_local(|| {
        let output = [Tensor {
            shape: &shape,
            data: &data,
        }];
        decoder.decode(&output, &placement, &selection, &mut detections)
    });
}

#[divan::bench(args = [1, 10, 100])]
fn attach(bencher: Bencher, objects: usize) {
    let labels = Labels::from_lines("person");
    let bounding_box = BoundingBox {
        x: 10.0,
        y: 20.0,
        width: 100.0,
        height: 200.0,
    };
    let detection = Detection {
        class_id: 0,
        confidence: 0.9,
        bounding_box,
        object_id: None,
    };
    let detections = vec![detection; objects];
    bencher
        .with_inputs(gst::Buffer::new)
        .bench_local_values(|mut buffer| {
            roi::attach(
                buffer.make_mut(),
                (WIDTH as u32, HEIGHT as u32),
                None,
                &detections,
                &labels,
            );
            buffer
        });
}
