//! Time and allocations of each stage of one inspection: `cargo bench --bench stages`.

use divan::Bencher;
use gstrsdetectnet::decode::{Evidence, Family, HostDecoder, Layout, Selection};
use gstrsdetectnet::engine::onnxruntime::{InputMut, Model, Session};
use gstrsdetectnet::engine::{ElementType, Tensor};
use gstrsdetectnet::frame::system::Plane;
use gstrsdetectnet::frame::{ColorMatrix, Colorimetry, PixelFormat, SystemFrame};
use gstrsdetectnet::meta::message::FrameFacts;
use gstrsdetectnet::meta::roi;
use gstrsdetectnet::model::{Labels, ModelSource};
use gstrsdetectnet::preprocess::Shrinking;
use gstrsdetectnet::preprocess::cpu::Preprocessor;
use gstrsdetectnet::preprocess::{InputGeometry, Placement, ResizeMode, TensorLayout};
use gstrsdetectnet::thumbnail::Area;
use gstrsdetectnet::thumbnail::cpu::Thumbnailer;
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
        InputMut::Int8(tensor) => preprocessor.run(&frame, tensor),
    });
}

#[divan::bench]
fn infer_ssd(bencher: Bencher) {
    let mut session = session();
    bencher.bench_local(|| session.run(|outputs| outputs.len()));
}

/// Outputs of a network of 640x640 with 80 classes and 25,200 candidates, of which some hundred pass the threshold:
/// with objectness; without, in rows; without, in planes.
#[divan::bench(args = ["yolov5", "yolov8 rows", "yolov8"])]
fn decode_25200_candidates(bencher: Bencher, layout: &str) {
    const CANDIDATES: usize = 25_200;
    let values = if layout == "yolov5" { 85 } else { 84 };
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let rows: Vec<Vec<f32>> = (0..CANDIDATES)
        .map(|_| {
            let mut row = vec![0.0; values];
            row.fill_with(|| 0.2 * random());
            (row[0], row[1]) = (random() * 640.0, random() * 640.0);
            (row[2], row[3]) = (random() * 90.0, random() * 90.0);
            let passes = random() < 0.02;
            if layout == "yolov5" {
                row[4] = if passes { 0.9 } else { 0.01 };
            }
            row[values - 1 - (random() * 79.0) as usize] = if passes { 0.9 } else { 0.1 };
            row
        })
        .collect();
    let planar = layout == "yolov8";
    let (shape, data): ([usize; 3], Vec<f32>) = match planar {
        false => ([1, CANDIDATES, values], rows.concat()),
        true => {
            let plane = |value: usize| rows.iter().map(move |row| row[value]);
            (
                [1, values, CANDIDATES],
                (0..values).flat_map(plane).collect(),
            )
        }
    };
    let shape = shape.map(|size| size as i64);
    let specs = [gstrsdetectnet::engine::TensorSpec {
        name: "output".into(),
        element: ElementType::Float32,
        shape: shape.to_vec(),
    }];
    let input = InputGeometry {
        width: 640,
        height: 640,
        layout: TensorLayout::Nchw,
    };
    let family = layout.split(' ').next().and_then(Family::from_name);
    let evidence = Evidence {
        decoder: family,
        ..Evidence::new(&specs, input)
    };
    let layout = Layout::recognize(&evidence).expect("a YOLO");
    let mut decoder = HostDecoder::new(layout, input, &specs);
    let placement = Placement::new(ResizeMode::Stretch, input, WIDTH, HEIGHT);
    let selection = Selection {
        thresholds: vec![0.25; 80],
        iou_threshold: 0.5,
        max_detections: 100,
        ..Selection::default()
    };
    let mut detections = Vec::new();
    let output = [Tensor {
        shape: &shape,
        data: &data,
    }];
    bencher.bench_local(|| decoder.decode(&output, &placement, &selection, &mut detections));
}

fn bench_thumbnails(bencher: Bencher, format: PixelFormat, side: usize, areas: &[Area]) {
    let (stride, rows) = format.plane_size(0, WIDTH, HEIGHT);
    let data: Vec<u8> = (0..stride * rows).map(|i| (i * 7 % 251) as u8).collect();
    // Chroma does not count.
    let planes = [Plane {
        data: &data,
        stride,
    }; 3];
    let colorimetry = Colorimetry {
        matrix: ColorMatrix::Bt709,
        full_range: false,
    };
    let frame = SystemFrame::new(format, colorimetry, WIDTH, HEIGHT, planes).expect("whole planes");
    let mut thumbnailer = Thumbnailer::default();
    let mut thumbnails = Vec::with_capacity(side * side * areas.len());
    bencher.bench_local(|| {
        thumbnails.clear();
        thumbnailer.append(divan::black_box(&frame), areas, side, &mut thumbnails);
    });
}

/// The thumbnail of a 1080p frame, which `skip-unchanged` compares.
#[divan::bench(args = [
    (PixelFormat::Nv12, 8), (PixelFormat::Nv12, 16), (PixelFormat::Nv12, 64), (PixelFormat::P010, 16),
    (PixelFormat::Yuy2, 16), (PixelFormat::Rgb, 16), (PixelFormat::Bgrx, 16), (PixelFormat::Rgba, 16),
])]
fn thumbnail(bencher: Bencher, (format, side): (PixelFormat, usize)) {
    bench_thumbnails(bencher, format, side, &[Area::whole(0, WIDTH, HEIGHT)]);
}

/// Those of objects of 100 x 200 pixels in it.
#[divan::bench(args = [1, 10, 100])]
fn thumbnails_of_objects(bencher: Bencher, objects: usize) {
    let area = |i: usize| {
        let mut area = Area::whole(0, 100, 200);
        (area.pixels.x, area.pixels.y) = (17 * i % 1800, 29 * i % 880);
        area
    };
    let areas: Vec<Area> = (0..objects).map(area).collect();
    bench_thumbnails(bencher, PixelFormat::Nv12, 16, &areas);
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
        oriented: None,
    };
    let detections = vec![detection; objects];
    let facts = FrameFacts {
        width: WIDTH as u32,
        height: HEIGHT as u32,
        ..FrameFacts::default()
    };
    let mut regions = roi::Regions::default();
    bencher
        .with_inputs(gst::Buffer::new)
        .bench_local_values(|mut buffer| {
            regions.attach(buffer.make_mut(), &facts, None, &detections, &labels);
            buffer
        });
}
