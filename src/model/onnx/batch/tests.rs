use std::collections::HashMap;
use std::path::Path;

use super::super::proto::{AttributeProto, GraphProto, NodeProto};
use super::super::{Dimension, Model, TensorInfo, node, tensor};
use super::{Axes, operators};

fn model(name: &str) -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    Model::parse(std::fs::read(folder.join(name)).unwrap()).unwrap()
}

fn graph(model: &mut Model) -> &mut GraphProto {
    model.proto.graph.as_mut().unwrap()
}

fn first_node<'a>(model: &'a mut Model, operator: &str) -> &'a mut NodeProto {
    let mut nodes = graph(model).node.iter_mut();
    nodes.find(|node| node.op_type() == operator).unwrap()
}

/// What keeps a model at one picture.
fn refusal(model: &mut Model) -> String {
    let before = model.clone();
    let error = model.make_batch_dynamic().unwrap_err().to_string();
    assert!(*model == before, "a refused model was changed");
    error
}

#[test]
fn every_input_and_output_of_a_model_for_one_picture_takes_several() {
    let mut model = model("colors-ssd-nhwc-uint8.onnx");
    model.make_batch_dynamic().unwrap();
    let first_axis = |info: TensorInfo| info.shape.unwrap()[0].clone();
    let infos = model.inputs().into_iter().chain(model.outputs());
    let axes: Vec<_> = infos.map(first_axis).collect();
    assert_eq!(axes, vec![Dimension::Dynamic("batch".into()); 3]);
}

#[test]
fn a_model_that_takes_several_already_is_left_as_it_is() {
    let mut model = model("colors-ssd.onnx");
    let before = model.clone();
    model.make_batch_dynamic().unwrap();
    assert!(model == before);
}

#[test]
fn the_written_1_of_a_reshape_becomes_what_it_was_meant_to_be() {
    for (written, meant) in [
        ([1, 3, 64], [-1, 3, 64]),
        ([1, 3, -1], [0, 3, -1]),
        ([-1, 3, 64], [-1, 3, 64]),
        ([0, 3, 64], [0, 3, 64]),
    ] {
        let mut model = model("colors-ssd-nhwc-uint8.onnx");
        let target = first_node(&mut model, "Reshape").input[1].clone();
        let tensors = &mut graph(&mut model).initializer;
        let shape = tensors.iter_mut().find(|t| t.name() == target).unwrap();
        *shape = tensor::from_integers(target, vec![3], &written);
        // After [-1, ...] rows are pictures only as far as can be told: an output must not depend on it.
        let result = model.make_batch_dynamic();
        assert_eq!(result.is_ok(), written[0] != -1);
        if result.is_ok() {
            let name = first_node(&mut model, "Reshape").input[1].clone();
            let tensors = &graph(&mut model).initializer;
            let shape = tensors.iter().find(|t| t.name() == name).unwrap();
            assert_eq!(tensor::integers(shape).unwrap(), meant);
        }
    }
}

#[test]
fn a_stated_shape_tells_that_rows_are_pictures() {
    let mut model = model("colors-ssd-nhwc-uint8.onnx");
    let reshape = first_node(&mut model, "Reshape").clone();
    let graph = graph(&mut model);
    let tensors = &mut graph.initializer;
    let shape = tensors
        .iter_mut()
        .find(|t| t.name() == reshape.input[1])
        .unwrap();
    *shape = tensor::from_integers(reshape.input[1].clone(), vec![3], &[-1, 3, 64]);
    let mut info = graph.output[0].clone();
    info.name = Some(reshape.output[0].clone());
    graph.value_info.push(info);
    model.make_batch_dynamic().unwrap();
}

#[test]
fn an_operator_that_mixes_pictures_is_named() {
    let mut model = model("colors-ssd-nhwc-uint8.onnx");
    let concat = first_node(&mut model, "Concat");
    concat.attribute[0].i = Some(0);
    let refusal = refusal(&mut model);
    assert!(refusal.contains("Concat_scores"), "{refusal}");
}

#[test]
fn a_product_that_would_align_pictures_with_cells_is_refused() {
    // boxes [1,64,4] times scale [1,4]: for N pictures [N,64,4] times [N,4] is something else.
    let refusal = refusal(&mut model("two-inputs.onnx"));
    assert!(refusal.contains("Mul_boxes"), "{refusal}");
}

#[test]
fn positions_counted_through_all_pictures_are_refused() {
    let mut model = model("classifier.onnx");
    let pool = first_node(&mut model, "GlobalAveragePool");
    pool.op_type = Some("MaxPool".into());
    pool.output.push("positions".into());
    let refusal = refusal(&mut model);
    assert!(refusal.contains("MaxPool"), "{refusal}");
}

#[test]
fn an_operator_that_is_not_known_is_named() {
    let mut model = model("classifier.onnx");
    first_node(&mut model, "Softmax").op_type = Some("NonMaxSuppression".into());
    let refusal = refusal(&mut model);
    assert!(refusal.contains("NonMaxSuppression"), "{refusal}");
}

#[test]
fn a_model_for_a_fixed_number_of_pictures_is_refused() {
    let mut model = model("classifier.onnx");
    super::set_first_axis(&mut graph(&mut model).input[0], None);
    let shape = graph(&mut model).input[0].r#type.as_mut().unwrap();
    let Some(super::TypeValue::TensorType(tensor)) = &mut shape.value else {
        panic!("the input is a tensor");
    };
    let axis = &mut tensor.shape.as_mut().unwrap().dim[0];
    axis.value = Some(super::DimensionValue::DimValue(4));
    let refusal = refusal(&mut model);
    assert!(refusal.contains("'input' is 4"), "{refusal}");
}

#[test]
fn a_constant_along_the_axis_of_the_pictures_is_refused() {
    let mut model = model("colors-ssd-nhwc-uint8.onnx");
    let boxes = first_node(&mut model, "Div").input[1].clone();
    let tensors = &mut graph(&mut model).initializer;
    let white = tensors.iter_mut().find(|t| t.name() == boxes).unwrap();
    *white = tensor::from_floats(boxes, vec![2, 1, 1, 1], &[255.0, 255.0]);
    let refusal = refusal(&mut model);
    assert!(refusal.contains("Div_unit"), "{refusal}");
}

#[test]
fn the_shape_of_a_constant_is_known_through_what_exporters_put_before_it() {
    assert_eq!(super::unsqueezed(&[64], &[1, 2]), Some(vec![64, 1, 1]));
    assert_eq!(super::unsqueezed(&[64], &[-1, 0]), Some(vec![1, 64, 1]));
    assert_eq!(super::unsqueezed(&[64], &[0, 0]), None);
    assert_eq!(super::unsqueezed(&[64], &[i64::MIN, 7]), None);
}

#[test]
fn names_of_new_shapes_clash_with_none() {
    let mut model = model("colors-ssd-nhwc-uint8.onnx");
    let target = first_node(&mut model, "Reshape").input[1].clone();
    let taken = format!("{target}_batch");
    graph(&mut model)
        .initializer
        .push(tensor::from_integers(taken.clone(), vec![0], &[]));
    model.make_batch_dynamic().unwrap();
    let used = first_node(&mut model, "Reshape").input[1].clone();
    assert_ne!(used, taken);
    assert!(node::all_names(model.proto.graph.as_ref().unwrap()).contains(&used));
}

/// What becomes of pictures of four axes in an operator with these lists of integers as attributes, of which a list of
/// one is a number, and constants of these shapes as further inputs.
fn after(
    operator: &str,
    attributes: &[(&str, &[i64])],
    constants: &[&[i64]],
) -> Result<usize, String> {
    let attribute = |(name, integers): &(&str, &[i64])| AttributeProto {
        name: Some((*name).to_owned()),
        i: integers.first().copied(),
        ints: integers.to_vec(),
        ..AttributeProto::default()
    };
    let node = NodeProto {
        op_type: Some(operator.to_owned()),
        attribute: attributes.iter().map(attribute).collect(),
        ..NodeProto::default()
    };
    let pictures = Axes::PerPicture {
        rank: 4,
        single: true,
    };
    let constants: Vec<_> = constants
        .iter()
        .map(|shape| Axes::Shared(Some(shape.to_vec())))
        .collect();
    let inputs: Vec<_> = std::iter::once(&pictures)
        .chain(&constants)
        .map(Some)
        .collect();
    match operators::axes(&node, &inputs, &HashMap::new())? {
        Axes::PerPicture { rank, single: true } => Ok(rank),
        other => panic!("{operator}: {other:?}"),
    }
}

#[test]
fn operators_that_leave_the_pictures_apart_are_known_with_the_axes_they_leave() {
    for (operator, attributes, constants, rank) in [
        ("Flatten", &[("axis", &[1][..])][..], &[][..], 2),
        ("Gather", &[("axis", &[1])], &[&[5][..]], 4),
        ("Gather", &[("axis", &[-1])], &[&[]], 3),
        ("Gemm", &[], &[&[8, 8], &[8]], 4),
        ("Gemm", &[], &[&[8, 8], &[1, 8]], 4),
        ("MatMul", &[], &[&[8, 8]], 4),
        ("MaxPool", &[], &[], 4),
        ("Pad", &[("pads", &[0, 0, 1, 1, 0, 0, 1, 1])], &[], 4),
        (
            "ReduceMean",
            &[("axes", &[2, 3]), ("keepdims", &[0])],
            &[],
            2,
        ),
        ("ReduceMean", &[("axes", &[-1])], &[], 4),
        ("ArgMax", &[("axis", &[1]), ("keepdims", &[0])], &[], 3),
        ("Resize", &[], &[&[0], &[4]], 4),
        ("Slice", &[("axes", &[2, -1])], &[], 4),
        ("Softmax", &[], &[], 4),
        ("Split", &[("axis", &[1])], &[], 4),
        ("Squeeze", &[("axes", &[-1, 2])], &[], 2),
        ("Transpose", &[("perm", &[0, 2, 3, 1])], &[], 4),
        ("Unsqueeze", &[("axes", &[1, -1])], &[], 6),
    ] {
        assert_eq!(
            after(operator, attributes, constants),
            Ok(rank),
            "{operator} {attributes:?}"
        );
    }
}

#[test]
fn operators_that_would_mix_pictures_are_refused_with_the_reason() {
    for (operator, attributes, constants, reason) in [
        ("ArgMax", &[][..], &[][..], "along the axis of the pictures"),
        ("Flatten", &[("axis", &[2][..])], &[], "folds other axes"),
        ("Gather", &[], &[&[5][..]], "along the axis of the pictures"),
        (
            "Gather",
            &[("axis", &[-4])],
            &[&[5]],
            "along the axis of the pictures",
        ),
        (
            "Gather",
            &[("axis", &[1])],
            &[],
            "indices that are computed",
        ),
        (
            "Gemm",
            &[("transA", &[1])],
            &[&[8, 8]],
            "transposes the pictures",
        ),
        ("Gemm", &[], &[&[8, 8], &[4, 8]], "constant along the axis"),
        ("MatMul", &[], &[&[2, 1, 8, 8]], "constant along the axis"),
        (
            "Pad",
            &[("pads", &[1, 0, 0, 0, 0, 0, 0, 0])],
            &[],
            "may pad",
        ),
        (
            "Pad",
            &[("pads", &[0, 0, 0, 0, 1, 0, 0, 0])],
            &[],
            "may pad",
        ),
        ("Pad", &[("pads", &[0, 0])], &[], "may pad"),
        ("Pad", &[], &[], "may pad"),
        ("ReduceMean", &[], &[], "reduces the axis"),
        ("ReduceMean", &[("axes", &[1, -4])], &[], "reduces the axis"),
        (
            "ReduceMean",
            &[("axes", &[1, 2, 3, 3, 3]), ("keepdims", &[0])],
            &[],
            "more axes than there are",
        ),
        ("Slice", &[("axes", &[0])], &[], "may cut pictures off"),
        ("Slice", &[], &[], "may cut pictures off"),
        ("Split", &[], &[], "along the axis of the pictures"),
        ("Squeeze", &[], &[], "removes the axis"),
        ("Squeeze", &[("axes", &[0])], &[], "removes the axis"),
        (
            "Transpose",
            &[("perm", &[1, 0, 2, 3])],
            &[],
            "moves the axis",
        ),
        ("Transpose", &[], &[], "moves the axis"),
        ("Unsqueeze", &[("axes", &[0])], &[], "moves the axis"),
    ] {
        let refused = after(operator, attributes, constants).unwrap_err();
        assert!(
            refused.contains(reason),
            "{operator} {attributes:?}: {refused}"
        );
    }
}
