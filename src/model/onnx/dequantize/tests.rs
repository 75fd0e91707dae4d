use std::path::Path;

use super::super::{Float16Options, Float16Outcome};
use super::*;

/// One convolution of int8 by int8, with a scale for each of its three channels.
fn quantized() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/colors-ssd-int8.onnx");
    Model::parse(std::fs::read(path).unwrap()).unwrap()
}

fn graph(model: &mut Model) -> &mut GraphProto {
    model.proto.graph.as_mut().unwrap()
}

fn node<'a>(model: &'a mut Model, operator: &str) -> &'a mut NodeProto {
    let mut nodes = graph(model).node.iter_mut();
    nodes.find(|node| node.op_type() == operator).unwrap()
}

fn constant(model: &mut Model, name: &str) -> TensorProto {
    let mut constants = graph(model).initializer.iter();
    constants
        .find(|tensor| tensor.name() == name)
        .unwrap()
        .clone()
}

fn set_constant(model: &mut Model, tensor: TensorProto) {
    let constants = &mut graph(model).initializer;
    constants.retain(|known| known.name() != tensor.name());
    constants.push(tensor);
}

/// What keeps a model as it is.
fn refusal(mut model: Model) -> String {
    let before = model.clone();
    let error = model.dequantize().unwrap_err().to_string();
    assert!(model == before, "a refused model was changed");
    error
}

#[test]
fn weights_are_what_their_integers_stand_for_and_pictures_are_clipped_to_the_range() {
    let mut model = quantized();
    assert!(model.dequantize().unwrap());
    assert!(!graph(&mut model).node.iter().any(is_quantization));

    let conv = node(&mut model, "Conv").clone();
    let weights = constant(&mut model, &conv.input[1]);
    assert_eq!(weights.dims, [3, 3, 8, 8]);
    let values = tensor::floats(&weights).unwrap();
    let (same, other) = (values[0], values[64]);
    assert!((same - 1.0 / 64.0).abs() < 1e-9 && other == 0.0);

    let clip = node(&mut model, "Clip").clone();
    let bound = |model: &mut Model, at: usize| {
        tensor::floats(&constant(model, &clip.input[at])).unwrap()[0]
    };
    assert_eq!(bound(&mut model, 1), -128.0 / 127.0);
    assert_eq!(bound(&mut model, 2), 1.0);
    let identity = node(&mut model, "Identity");
    assert_eq!(
        (&identity.input, &identity.output),
        (&clip.output, &vec![conv.input[0].clone()])
    );

    let options = Float16Options::default();
    let outcome = model.to_float16(&options).unwrap();
    assert!(matches!(outcome, Float16Outcome::Rewritten { .. }));
}

#[test]
fn nothing_of_the_quantisation_stays_in_the_file() {
    let mut model = quantized();
    model.dequantize().unwrap();
    let bytes_left = graph(&mut model).initializer.iter();
    let mut integers = bytes_left.filter(|tensor| tensor::element(tensor) == ElementType::Int8);
    assert!(integers.next().is_none());
    assert!(!model.dequantize().unwrap());
}

#[test]
fn a_scale_belongs_to_its_axis_and_a_zero_moves_the_range() {
    let grid = Grid {
        element: ElementType::Uint8,
        scales: vec![1.0, 0.5],
        zeros: vec![128, 0],
        axis: -2,
    };
    let node = NodeProto::default();
    let value = |integer: i32, scale: f32, zero: i32| (integer - zero) as f32 * scale;
    let values = grid.map(&[2, 2, 1], [130, 130, 0, 255].into_iter(), value, &node);
    assert_eq!(values.unwrap(), [2.0, 65.0, -128.0, 127.5]);
    assert!(
        grid.map(&[2, 3, 1], [0; 6].into_iter(), value, &node)
            .is_err()
    );
    assert_eq!(grid.range(), (0.0, 255.0));
}

#[test]
fn weights_that_are_quantised_in_the_graph_lie_on_their_grid() {
    let mut model = quantized();
    // As a training framework exports them: float weights, QuantizeLinear, DequantizeLinear.
    let weights = node(&mut model, "Conv").input[1].clone();
    let nodes = &mut graph(&mut model).node;
    let at = nodes
        .iter()
        .position(|node| node.output[0] == weights)
        .unwrap();
    let mut quantize = nodes[at].clone();
    quantize.op_type = Some("QuantizeLinear".into());
    quantize.output = vec!["weights_on_grid".into()];
    quantize.input[0] = "weights_float".into();
    nodes[at].input[0] = "weights_on_grid".into();
    nodes.insert(at, quantize);
    let step = 1.0 / 4096.0;
    let wanted = [0.4, 0.6, 1000.0, -1000.0].map(|steps: f32| steps * step);
    let mut values = vec![0.0; 3 * 3 * 64];
    values[..4].copy_from_slice(&wanted);
    let float = tensor::from_floats("weights_float".into(), vec![3, 3, 8, 8], &values);
    set_constant(&mut model, float);
    assert!(model.dequantize().unwrap());
    // What was dequantised is the constant on the grid, through an Identity.
    let identity = graph(&mut model)
        .node
        .iter()
        .find(|node| node.output[0] == weights);
    let on_grid = identity.unwrap().input[0].clone();
    let values = tensor::floats(&constant(&mut model, &on_grid)).unwrap();
    let steps: Vec<f32> = values[..4].iter().map(|value| value / step).collect();
    assert_eq!(steps, [0.0, 1.0, 127.0, -128.0]);
}

#[test]
fn float8_stays() {
    let mut model = quantized();
    for name in ["middle", "weight_middles"] {
        let mut zero = constant(&mut model, name);
        zero.data_type = Some(ElementType::Float8e4m3fn.into());
        set_constant(&mut model, zero);
    }
    let before = model.clone();
    assert!(!model.dequantize().unwrap());
    assert!(model == before);
}

#[test]
fn what_computes_with_integers_is_named_and_the_model_left_as_it_is() {
    let mut computing = quantized();
    let picture = node(&mut computing, "QuantizeLinear").output[0].clone();
    node(&mut computing, "Conv").input[0] = picture;
    let mut integer = quantized();
    node(&mut integer, "Conv").op_type = Some("ConvInteger".into());
    let mut rescaled = quantized();
    let step = tensor::from_floats("other_step".into(), vec![], &[0.5]);
    set_constant(&mut rescaled, step);
    node(&mut rescaled, "DequantizeLinear").input[1] = "other_step".into();
    let mut computed_scale = quantized();
    node(&mut computed_scale, "QuantizeLinear").input[1] = "unit".into();
    for (model, reason) in [
        (computing, "Conv 'Conv_cells' computes with integers"),
        (integer, "ConvInteger 'Conv_cells' computes with integers"),
        (rescaled, "another scale than what it reads"),
        (computed_scale, "is no constant"),
    ] {
        let error = refusal(model);
        assert!(error.contains(reason), "{error}");
    }
}
