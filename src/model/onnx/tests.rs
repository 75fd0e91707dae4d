use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::proto::StringStringEntryProto;
use super::proto::tensor_proto::DataLocation;
use super::*;

fn bytes(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    std::fs::read(folder.join(name)).unwrap()
}

fn model(name: &str) -> Model {
    Model::parse(bytes(name)).unwrap()
}

#[test]
fn a_file_survives_being_read_and_written() {
    for name in ["colors-yolov5.onnx", "slow-ssd.onnx", "two-inputs.onnx"] {
        let model = model(name);
        assert!(Model::parse(model.to_bytes()).unwrap() == model);
        // Nothing was left out: the same fields take the same bytes.
        assert_eq!(model.to_bytes().len(), bytes(name).len());
    }
}

#[test]
fn inputs_outputs_and_metadata_are_those_of_the_file() {
    let model = model("colors-yolov5.onnx");
    let batch = Dimension::Dynamic("batch".into());
    let shape = |rest: &[usize]| {
        let rest = rest.iter().map(|&size| Dimension::Fixed(size));
        Some(std::iter::once(batch.clone()).chain(rest).collect())
    };
    let float = |name: &str, shape| TensorInfo {
        name: name.into(),
        element_type: ElementType::Float,
        shape,
    };
    assert_eq!(model.inputs(), [float("images", shape(&[3, 64, 64]))]);
    assert_eq!(model.outputs(), [float("output", shape(&[64, 8]))]);
    let names = model.metadata().find(|(key, _)| *key == "names");
    assert_eq!(names.unwrap().1, "{0: 'red', 1: 'green', 2: 'blue'}");
}

#[test]
fn an_initialiser_that_is_listed_as_an_input_need_not_be_fed() {
    let mut model = model("colors-ssd.onnx");
    let graph = model.proto.graph.as_mut().unwrap();
    let name = graph.initializer[0].name.clone();
    graph.input.push(ValueInfoProto {
        name,
        ..Default::default()
    });
    let inputs: Vec<_> = model.inputs().into_iter().map(|input| input.name).collect();
    assert_eq!(inputs, ["input"]);
}

#[test]
fn what_is_not_a_model_is_named_so() {
    for bytes in [bytes("broken.onnx"), vec![], b"ELF or whatever".to_vec()] {
        let error = Model::parse(bytes).unwrap_err();
        assert!(matches!(error, OnnxError::Malformed(_)), "{error}");
    }
}

#[test]
fn a_tensor_shorter_than_its_shape_is_refused() {
    let mut model = model("colors-ssd.onnx");
    let graph = model.proto.graph.as_mut().unwrap();
    graph.initializer[0].dims = vec![1 << 20, 1 << 20];
    assert!(Model::parse(model.to_bytes()).is_err());
}

#[test]
fn graphs_nested_as_deep_as_is_allowed_do_not_overflow_the_stack() {
    let mut deepest = None;
    for depth in 0..40 {
        let mut model = model("colors-ssd.onnx");
        let graph = model.proto.graph.as_mut().unwrap();
        let mut body = GraphProto::default();
        for _ in 0..depth {
            let attribute = proto::AttributeProto {
                g: Some(body.into()),
                ..Default::default()
            };
            let node = NodeProto {
                attribute: vec![attribute],
                ..Default::default()
            };
            body = GraphProto {
                node: vec![node],
                ..Default::default()
            };
        }
        graph.node.extend(body.node);
        if let Ok(mut model) = Model::parse(model.to_bytes()) {
            model.to_float16(&Float16Options::default()).unwrap();
            model.make_batch_dynamic().unwrap();
            deepest = Some(depth);
        }
    }
    assert!(
        deepest.is_some_and(|depth| (25..40).contains(&depth)),
        "{deepest:?}"
    );
}

/// A folder with weights, and a model whose first tensor is 8 bytes at an offset of one of them.
fn with_external_data(location: &str, offset: &str) -> (tempfile::TempDir, PathBuf, Model) {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("model");
    std::fs::create_dir_all(folder.join("weights")).unwrap();
    std::fs::write(
        folder.join("weights/all.bin"),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    )
    .unwrap();
    std::fs::write(outer.path().join("secret.bin"), [0; 64]).unwrap();
    symlink(outer.path().join("secret.bin"), folder.join("link.bin")).unwrap();
    let mut model = model("colors-ssd.onnx");
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value.into()),
    };
    model.proto.graph.as_mut().unwrap().initializer[0] = TensorProto {
        name: Some("outside".into()),
        dims: vec![2],
        data_type: Some(ElementType::Float.into()),
        data_location: Some(DataLocation::External.into()),
        external_data: vec![entry("location", location), entry("offset", offset)],
        ..Default::default()
    };
    (outer, folder, model)
}

#[test]
fn weights_beside_the_model_are_found_and_taken_in() {
    let (_outer, folder, mut model) = with_external_data("weights/all.bin", "2");
    let file = folder.canonicalize().unwrap().join("weights/all.bin");
    assert_eq!(model.external_data_paths(&folder).unwrap(), [file]);
    model.embed_external_data(&folder).unwrap();
    let tensor = &model.proto.graph.as_ref().unwrap().initializer[0];
    assert_eq!(tensor.raw_data(), [2, 3, 4, 5, 6, 7, 8, 9]);
    assert!(model.external_data_paths(&folder).unwrap().is_empty());
}

#[test]
fn weights_outside_of_the_folder_or_beyond_the_end_of_their_file_are_refused() {
    for (location, offset) in [
        ("../secret.bin", "0"),
        ("weights/../../secret.bin", "0"),
        ("/etc/passwd", "0"),
        ("link.bin", "0"),
        ("missing.bin", "0"),
        ("weights", "0"),
        ("", "0"),
        ("weights/all.bin", "3"),
        ("weights/all.bin", "18446744073709551615"),
        ("weights/all.bin", "-1"),
    ] {
        let (_outer, folder, mut model) = with_external_data(location, offset);
        let error = model.external_data_paths(&folder).unwrap_err();
        assert!(matches!(error, OnnxError::ExternalData { .. }), "{error}");
        assert!(model.embed_external_data(&folder).is_err());
    }
}

/// All that can be done with a model from outside.
fn use_all_of(bytes: Vec<u8>) {
    let Ok(model) = Model::parse(bytes) else {
        return;
    };
    model.metadata().for_each(drop);
    let _ = (model.inputs(), model.outputs(), model.to_bytes());
    let _ = model.external_data_paths(Path::new("/nonexistent"));
    let _ = model.clone().make_batch_dynamic();
    let _ = model.clone().open_image_size();
    let _ = model.clone().to_float16(&Float16Options::default());
}

proptest! {
    #[test]
    fn a_truncated_file_never_panics(end in 0_usize..3283) {
        use_all_of(bytes("slow-ssd.onnx")[..end].to_vec());
    }

    #[test]
    fn a_damaged_file_never_panics(
        changes in prop::collection::vec((0_usize..3283, any::<u8>()), 1..8)
    ) {
        let mut bytes = bytes("slow-ssd.onnx");
        for (at, value) in changes {
            bytes[at] = value;
        }
        use_all_of(bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        use_all_of(bytes);
    }
}
