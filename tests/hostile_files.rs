//! Files that mean harm are errors, soon, and without much memory.

mod common;
#[path = "common/onnx.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod onnx;

use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use gstrsdetectnet::model::onnx::{Float16Options, Model};

const SOON: Duration = Duration::from_secs(20);
/// In bytes.
const LITTLE: usize = 600 << 20;

/// The error with which a model does not start.
fn error_of(path: &Path) -> String {
    init();
    let element = gst::ElementFactory::make("rsdetectnet")
        .property("model", path.to_str().unwrap())
        .property_from_str("backend", "onnxruntime")
        .build()
        .unwrap();
    let start = Instant::now();
    let error = start_error(&element);
    let (took, held) = (start.elapsed(), peak_memory());
    assert!(
        took < SOON && held < LITTLE,
        "{path:?}: {took:?}, {held} bytes"
    );
    error
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn error(&self, bytes: &[u8]) -> String {
        let path = self.0.path().join("net.onnx");
        std::fs::write(&path, bytes).unwrap();
        error_of(&path)
    }
}

fn picture() -> Vec<u8> {
    onnx::value("picture", onnx::FLOAT, &[1, 3, 64, 64])
}

#[test]
fn truncated_models_are_errors_wherever_they_end() {
    let folder = Folder::new();
    let whole = std::fs::read(model("colors-ssd.onnx")).unwrap();
    for end in (1..whole.len() - 1).step_by(whole.len() / 40) {
        let error = folder.error(&whole[..end]);
        assert!(
            error.contains("net.onnx") && error.len() < 2000,
            "{end}: {error}"
        );
    }
}

#[test]
fn graphs_that_turn_in_circles_are_errors_and_no_rewrite_hangs() {
    let nodes = [
        onnx::node("Add", &["picture", "later"], "sooner", &[]),
        onnx::node("Relu", &["sooner"], "later", &[]),
        onnx::node("Identity", &["later"], "scores", &[]),
        onnx::node("Identity", &["later"], "boxes", &[]),
    ];
    let outputs = [
        onnx::value("scores", onnx::FLOAT, &[1, 64, 2]),
        onnx::value("boxes", onnx::FLOAT, &[1, 64, 4]),
    ];
    let bytes = onnx::model(&nodes, &[], &[picture()], &outputs);
    let error = Folder::new().error(&bytes);
    assert!(!error.is_empty(), "{error}");
    // Those that engines on a GPU need.
    let start = Instant::now();
    let mut model = Model::parse(bytes).unwrap();
    let _ = model.take_colors();
    model.fix_image_size(64, 64);
    let _ = model.cast_byte_inputs();
    let _ = model.dequantize();
    let _ = model.make_batch_dynamic();
    let _ = model.to_float16(&Float16Options::default());
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn sizes_beyond_all_memory_are_errors_wherever_they_stand() {
    let folder = Folder::new();
    const HUGE: i64 = 1 << 40;
    let scores = |dims: &[i64]| onnx::value("scores", onnx::FLOAT, dims);
    let boxes = |dims: &[i64]| onnx::value("boxes", onnx::FLOAT, dims);
    let model = |nodes: &[Vec<u8>], tensors: &[Vec<u8>], input: &[i64], count: i64| {
        let input = onnx::value("picture", onnx::FLOAT, input);
        let outputs = [scores(&[1, count, 2]), boxes(&[1, count, 4])];
        onnx::model(nodes, tensors, &[input], &outputs)
    };
    let through = |name: &str, output: &str| onnx::node("Identity", &[name], output, &[]);
    let usual = [through("some", "scores"), through("some", "boxes")];
    let some = onnx::floats("some", &[1, 1, 1], &[0.0]);
    // Of a constant, of the input, of outputs, and made by an operator.
    let huge = onnx::floats("some", &[HUGE, HUGE], &[0.0]);
    folder.error(&model(&usual, &[huge], &[1, 3, 64, 64], 64));
    let huge = onnx::floats("some", &[HUGE], &[0.0]);
    folder.error(&model(&usual, &[huge], &[1, 3, 64, 64], 64));
    folder.error(&model(
        &usual,
        std::slice::from_ref(&some),
        &[1, 3, HUGE, HUGE],
        64,
    ));
    folder.error(&model(&usual, &[some], &[1, 3, 64, 64], HUGE));
    let made = [
        onnx::node("ConstantOfShape", &["shape"], "some", &[]),
        through("some", "scores"),
        through("some", "boxes"),
    ];
    let shape = onnx::integers("shape", &[3], &[1, HUGE, 4]);
    folder.error(&model(&made, &[shape], &[1, 3, 64, 64], HUGE));
}

#[test]
fn weights_out_of_the_model_s_folder_are_refused_by_name() {
    let folder = Folder::new();
    std::os::unix::fs::symlink("/etc/passwd", folder.0.path().join("link")).unwrap();
    for location in [
        "/etc/passwd",
        "../../../../../etc/passwd",
        "link",
        "/dev/zero",
    ] {
        let weights = onnx::external("weights", &[1, 64, 2], location);
        let nodes = [onnx::node("Identity", &["weights"], "scores", &[])];
        let outputs = [onnx::value("scores", onnx::FLOAT, &[1, 64, 2])];
        let error = folder.error(&onnx::model(&nodes, &[weights], &[picture()], &outputs));
        assert!(
            error.contains(location) && error.contains("folder"),
            "{error}"
        );
    }
}

#[test]
fn descriptions_that_mean_harm_are_errors() {
    let folder = Folder::new();
    let network = std::fs::read(model("colors-ssd.onnx")).unwrap();
    let described = |description: &[u8]| {
        std::fs::write(folder.0.path().join("net.modelinfo"), description).unwrap();
        folder.error(&network)
    };
    for labels in ["/dev/zero", "/etc/passwd", "../labels.txt"] {
        let info = format!("[modelinfo]\nversion=1.0\nlabels={labels}\n");
        let error = described(info.as_bytes());
        assert!(
            error.contains(labels) && error.contains("beside"),
            "{error}"
        );
    }
    let error = described(&vec![b'x'; 2 << 20]);
    assert!(error.contains("it has 2097152 bytes"), "{error}");
    let error = described(b"[modelinfo]\nversion=1.0\nlabels=\xff\xfe\n");
    assert!(error.contains("net.modelinfo"), "{error}");
    let anchors = "1,".repeat(100_000) + "1";
    let error = described(
        format!("[modelinfo]\nversion=1.0\ndecoder=yolov3\nanchors={anchors}\n").as_bytes(),
    );
    assert!(!error.is_empty());
}
