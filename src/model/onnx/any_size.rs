//! Lets a graph take a picture of any size, whatever size it was exported with, where it computes every part of a
//! picture alike: it is made of convolutions and of what works on single values. Exporters write down the size that
//! they happened to trace such networks with (CenterFace: ten pictures of 32 by 32).

use std::collections::HashMap;

use super::node::{attribute, int, operator};
use super::proto::tensor_shape_proto::dimension::Value as DimensionValue;
use super::proto::type_proto::Value as TypeValue;
use super::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use super::{Model, constants};

/// Axes of a picture: batch, channels, rows, columns.
const AXES: usize = 4;
const CHANNELS: i64 = 1;

impl Model {
    /// Leaves the size of the picture open, and has the graph take one at a time, if it computes every part of a
    /// picture alike. Says whether it does.
    pub fn open_image_size(&mut self) -> bool {
        let Some(image) = self.image_input().filter(|image| image.is_channels_first()) else {
            return false;
        };
        let alike = |graph: &&mut GraphProto| treats_every_part_alike(graph);
        let Some(graph) = self.proto.graph.as_mut().filter(alike) else {
            return false;
        };
        // What is said of values between the nodes holds for the former size alone.
        graph.value_info.clear();
        let input = graph.input.iter_mut().find(|i| i.name() == image.name);
        for value in input.into_iter().chain(&mut graph.output) {
            open(value);
        }
        true
    }
}

fn treats_every_part_alike(graph: &GraphProto) -> bool {
    let is_constant = |node: &&NodeProto| operator(node) == "Constant";
    let given = graph.node.iter().filter(is_constant);
    let given: Vec<_> = given.filter_map(constants::of_node).collect();
    let known = graph.initializer.iter().chain(&given);
    let known: HashMap<_, _> = known.map(|tensor| (tensor.name(), tensor)).collect();
    graph.sparse_initializer.is_empty()
        && graph.output.iter().all(|value| axes(value) == Some(AXES))
        && graph.node.iter().all(|node| is_alike(node, &known))
}

/// How many axes a value is stated to have.
fn axes(value: &ValueInfoProto) -> Option<usize> {
    match value.r#type.as_ref()?.value.as_ref()? {
        TypeValue::TensorType(tensor) => Some(tensor.shape.as_ref()?.dim.len()),
        _ => None,
    }
}

/// Whether a node computes every part of a picture alike, whatever its size.
fn is_alike(node: &NodeProto, known: &HashMap<&str, &TensorProto>) -> bool {
    let constant = |i: usize| known.get(node.input.get(i)?.as_str()).copied();
    // A constant has to be the same everywhere in the picture.
    let spreads = |name: &String| {
        known.get(name.as_str()).is_none_or(|tensor| {
            let mut places = tensor.dims.iter().rev().take(2);
            places.all(|&size| size == 1)
        })
    };
    match operator(node) {
        "AveragePool" | "BatchNormalization" | "Conv" | "ConvTranspose" | "GlobalAveragePool" => {
            true
        }
        "Cast" | "Clip" | "Dropout" | "Elu" | "Exp" | "HardSigmoid" | "HardSwish" | "Identity"
        | "LeakyRelu" | "Neg" | "Relu" | "Sigmoid" | "Softplus" | "Tanh" => true,
        "Add" | "Div" | "Max" | "Min" | "Mul" | "PRelu" | "Sub" | "Sum" => {
            node.input.iter().all(spreads)
        }
        "Concat" => int(node, "axis") == Some(CHANNELS),
        "Constant" => node
            .output
            .iter()
            .all(|name| known.contains_key(name.as_str())),
        "MaxPool" => node.output.len() == 1,
        // By so many times, not to a size that is written down.
        "Resize" => constant(2).is_some() && node.input.get(3).is_none_or(String::is_empty),
        "Upsample" => attribute(node, "scales").is_some() || constant(1).is_some(),
        _ => false,
    }
}

/// One picture, of any number of rows and columns.
fn open(value: &mut ValueInfoProto) {
    let shape = match value.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        Some(TypeValue::TensorType(tensor)) => tensor.shape.as_mut(),
        _ => None,
    };
    let Some([batch, _, rows, columns]) = shape.map(|shape| shape.dim.as_mut_slice()) else {
        return;
    };
    batch.value = Some(DimensionValue::DimValue(1));
    (rows.value, columns.value) = (None, None);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{Dimension, node, tensor};
    use super::*;

    fn model(name: &str) -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        Model::parse(std::fs::read(folder.join(name)).unwrap()).unwrap()
    }

    #[test]
    fn convolutions_take_one_picture_of_any_size() {
        let mut faces = model("faces-10x3x32x32.onnx");
        assert!(faces.open_image_size());
        let input = faces.inputs().remove(0);
        let [batch, channels, rows, columns] = &input.shape.clone().unwrap()[..] else {
            panic!("{input:?}");
        };
        assert_eq!(
            (batch, channels),
            (&Dimension::Fixed(1), &Dimension::Fixed(3))
        );
        assert!(
            [rows, columns]
                .iter()
                .all(|d| matches!(d, Dimension::Dynamic(_)))
        );
        for output in faces.outputs() {
            let shape = output.shape.unwrap();
            assert!(matches!(
                shape[2..],
                [Dimension::Dynamic(_), Dimension::Dynamic(_)]
            ));
        }
    }

    #[test]
    fn a_graph_that_knows_its_size_stays_as_it_is() {
        for name in ["colors-ssd.onnx", "colors-yolov5.onnx", "classifier.onnx"] {
            let mut known = model(name);
            let before = known.clone();
            assert!(!known.open_image_size(), "{name}");
            assert_eq!(known, before, "{name}");
        }
        // A value for each place of an output.
        let mut placed = model("faces-10x3x32x32.onnx");
        let graph = placed.proto.graph.as_mut().unwrap();
        let offsets = tensor::from_floats("offsets".into(), vec![1, 1, 8, 8], &[0.0; 64]);
        graph.initializer.push(offsets);
        let output = graph.output[0].name().to_owned();
        let inputs = vec![output.clone(), "offsets".into()];
        graph
            .node
            .push(node::simple("Add", inputs, "placed".into()));
        graph.output[0].name = Some("placed".into());
        assert!(!placed.open_image_size());
    }
}
