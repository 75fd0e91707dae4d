use std::collections::HashMap;
use std::path::Path;

use super::super::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use super::super::{ElementType, Model, element_type, node, tensor};
use super::operators::{self, Rule, rule};
use super::{Float16Options, Float16Outcome};

const BUNDLED: &str = "pipelines/models/ssd-mobilenet-v2.onnx";
const TINY: [&str; 7] = [
    "classifier",
    "colors-ssd",
    "colors-ssd-nhwc-uint8",
    "colors-yolov5",
    "nan-ssd",
    "slow-ssd",
    "two-inputs",
];

fn model(path: &str) -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Model::parse(std::fs::read(path).unwrap()).unwrap()
}

fn rewritten(path: &str, options: &Float16Options) -> GraphProto {
    let mut model = model(path);
    let outcome = model.to_float16(options).unwrap();
    assert!(matches!(outcome, Float16Outcome::Rewritten { .. }));
    Model::parse(model.to_bytes()).unwrap().proto.graph.unwrap()
}

fn float16_borders() -> Float16Options {
    Float16Options {
        float16_inputs_and_outputs: true,
        ..Default::default()
    }
}

/// The element type of every value, after a check that every node is given types that agree and that every output
/// of the graph is of the type that it is declared to be.
fn checked_types(graph: &GraphProto) -> HashMap<String, ElementType> {
    let mut types = HashMap::new();
    for input in &graph.input {
        types.insert(input.name().to_owned(), element_type(input));
    }
    for tensor in &graph.initializer {
        types.insert(tensor.name().to_owned(), tensor::element(tensor));
    }
    for node in &graph.node {
        check_node(node, &mut types);
    }
    for info in graph.output.iter().chain(&graph.value_info) {
        assert_eq!(types[info.name()], element_type(info), "{}", info.name());
    }
    types
}

fn check_node(node: &NodeProto, types: &mut HashMap<String, ElementType>) {
    let inputs: Vec<_> = node
        .input
        .iter()
        .map(|name| types.get(name).copied())
        .collect();
    let is_float =
        |element: &ElementType| matches!(element, ElementType::Float | ElementType::Float16);
    let of_operator = inputs
        .iter()
        .enumerate()
        .filter(|(at, _)| !operators::has_own_type(node, *at));
    let mut floats = of_operator
        .filter_map(|(_, element)| *element)
        .filter(is_float);
    if let Some(first) = floats.next() {
        let what = format!("{} reads {inputs:?}", node::describe(node));
        assert!(floats.all(|other| other == first), "{what}");
        let kept = rule(node) == Rule::Keep && node.op_type() != "Cast";
        assert!(!kept || first == ElementType::Float, "{what}");
    }
    for name in node::captured(node) {
        assert_ne!(types[name], ElementType::Float16, "a body reads '{name}'");
    }
    for (at, output) in node.output.iter().enumerate() {
        let element = operators::output_type(node, at, &inputs).unwrap();
        assert_eq!(
            types.insert(output.clone(), element),
            None,
            "'{output}' has two values"
        );
    }
}

fn element_types_of(graph: &GraphProto, operator: &str) -> Vec<ElementType> {
    let types = checked_types(graph);
    let nodes = graph.node.iter().filter(|node| node.op_type() == operator);
    nodes.map(|node| types[&node.output[0]]).collect()
}

#[test]
fn the_types_of_every_rewritten_graph_agree() {
    for name in TINY {
        let path = format!("tests/models/{name}.onnx");
        checked_types(&rewritten(&path, &Float16Options::default()));
        checked_types(&rewritten(&path, &float16_borders()));
    }
    checked_types(&rewritten(BUNDLED, &Float16Options::default()));
    checked_types(&rewritten(BUNDLED, &float16_borders()));
}

#[test]
fn every_convolution_of_the_bundled_model_is_float16_and_its_box_decoding_float32() {
    let graph = rewritten(BUNDLED, &Float16Options::default());
    let is = |operator: &str, element| {
        let types = element_types_of(&graph, operator);
        !types.is_empty() && types.iter().all(|found| *found == element)
    };
    assert!(is("Conv", ElementType::Float16));
    assert!(is("Clip", ElementType::Float16));
    assert!(is("Sigmoid", ElementType::Float));
    assert!(is("Exp", ElementType::Float));
    assert!(is("Concat", ElementType::Float));
}

#[test]
fn the_bundled_model_is_cast_at_its_input_and_its_twelve_heads_and_nowhere_else() {
    let casts = element_types_of(&rewritten(BUNDLED, &Float16Options::default()), "Cast");
    let count = |element| casts.iter().filter(|found| **found == element).count();
    assert_eq!(count(ElementType::Float16), 1);
    assert_eq!(count(ElementType::Float), 12);
    assert_eq!(casts.len(), 13);
}

#[test]
fn weights_are_stored_in_one_precision_only() {
    let before = model(BUNDLED).to_bytes().len();
    let mut rewritten = model(BUNDLED);
    rewritten.to_float16(&Float16Options::default()).unwrap();
    let after = rewritten.to_bytes().len();
    assert!(after <= before, "{before} bytes became {after}");
}

#[test]
fn inputs_and_outputs_keep_their_types_unless_asked() {
    for (options, expected) in [
        (Float16Options::default(), ElementType::Float),
        (float16_borders(), ElementType::Float16),
    ] {
        let mut model = model("tests/models/colors-ssd.onnx");
        model.to_float16(&options).unwrap();
        let infos = model.inputs().into_iter().chain(model.outputs());
        let types: Vec<_> = infos.map(|info| info.element_type).collect();
        assert_eq!(types, [expected; 3]);
    }
}

#[test]
fn a_picture_of_bytes_stays_one() {
    let mut model = model("tests/models/colors-ssd-nhwc-uint8.onnx");
    model.to_float16(&float16_borders()).unwrap();
    assert_eq!(model.inputs()[0].element_type, ElementType::Uint8);
}

#[test]
fn operators_that_are_asked_for_stay_in_float32() {
    let mut options = Float16Options::default();
    options.keep_float32.insert("AveragePool".into());
    let mut model = model("tests/models/colors-ssd.onnx");
    assert_eq!(
        model.to_float16(&options).unwrap(),
        Float16Outcome::Unchanged
    );
}

#[test]
fn a_second_rewrite_changes_nothing() {
    let mut model = model("tests/models/colors-ssd.onnx");
    model.to_float16(&float16_borders()).unwrap();
    let once = model.clone();
    model.to_float16(&float16_borders()).unwrap();
    assert!(model == once);
}

/// The pooled picture of colors-ssd, read by a body within a body, as the first node of an If would be.
fn with_nested_reader(mut model: Model) -> Model {
    let graph = model.proto.graph.as_mut().unwrap();
    let if_node = |body: GraphProto, output: &str| NodeProto {
        op_type: Some("If".into()),
        input: vec!["condition".into()],
        output: vec![output.into()],
        attribute: vec![AttributeProto {
            name: Some("then_branch".into()),
            g: Some(body.into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let body = |node: NodeProto| {
        let mut output = graph.output[0].clone();
        output.name = Some(node.output[0].clone());
        GraphProto {
            node: vec![node],
            output: vec![output],
            ..Default::default()
        }
    };
    let reader = NodeProto {
        op_type: Some("Exp".into()),
        input: vec!["cells".into()],
        output: vec!["innermost".into()],
        ..Default::default()
    };
    let node = if_node(body(if_node(body(reader), "inner")), "outer");
    graph.node.push(node);
    graph.initializer.push(TensorProto {
        name: Some("condition".into()),
        data_type: Some(ElementType::Bool.into()),
        raw_data: Some(vec![1].into()),
        ..Default::default()
    });
    model
}

#[test]
fn a_body_within_a_body_reads_the_float32_copy_of_a_float16_value() {
    let mut model = with_nested_reader(model("tests/models/colors-ssd.onnx"));
    model.to_float16(&Float16Options::default()).unwrap();
    let graph = model.proto.graph.unwrap();
    let types = checked_types(&graph);
    assert_eq!(types["cells"], ElementType::Float16);
    let reader = graph
        .node
        .iter()
        .find(|node| node.op_type() == "If")
        .unwrap();
    let captured: Vec<_> = node::captured(reader).collect();
    assert_eq!(captured, ["condition", "cells_float32"]);
}

#[test]
fn a_name_with_two_values_is_refused() {
    let mut model = model("tests/models/colors-ssd.onnx");
    let graph = model.proto.graph.as_mut().unwrap();
    graph.node.push(graph.node[0].clone());
    let error = model.to_float16(&Float16Options::default()).unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn a_quantized_model_is_left_alone() {
    let mut model = model("tests/models/colors-ssd.onnx");
    let graph = model.proto.graph.as_mut().unwrap();
    graph.node[0].op_type = Some("DequantizeLinear".into());
    let before = model.clone();
    let outcome = model.to_float16(&Float16Options::default()).unwrap();
    assert_eq!(outcome, Float16Outcome::Quantized);
    assert!(model == before);
}

#[test]
fn a_graph_out_of_order_is_refused_and_left_as_it_was() {
    let mut model = model("tests/models/colors-ssd.onnx");
    model.proto.graph.as_mut().unwrap().node.reverse();
    let before = model.clone();
    assert!(model.to_float16(&Float16Options::default()).is_err());
    assert!(model == before);
}

#[test]
fn an_operator_set_too_old_is_named() {
    let mut model = model("tests/models/colors-ssd.onnx");
    model.proto.opset_import[0].version = Some(8);
    let error = model.to_float16(&Float16Options::default()).unwrap_err();
    assert!(error.to_string().contains("operator set 8"), "{error}");
}
