//! Reading and building nodes and their attributes.

use std::collections::{HashMap, HashSet};

use super::ElementType;
use super::proto::attribute_proto::AttributeType;
use super::proto::{AttributeProto, GraphProto, NodeProto};

pub fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name() == name)
}

pub fn int(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name)?.i
}

pub fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    attribute(node, name).map(|attribute| attribute.ints.as_slice())
}

/// The element type that an attribute such as `to` or `dtype` names.
pub fn element_type(node: &NodeProto, name: &str) -> Option<ElementType> {
    ElementType::try_from(i32::try_from(int(node, name)?).ok()?).ok()
}

pub fn is_standard(node: &NodeProto) -> bool {
    matches!(node.domain(), "" | "ai.onnx")
}

/// The operator's name; empty for operators that ONNX does not define.
pub fn operator(node: &NodeProto) -> &str {
    if is_standard(node) {
        node.op_type()
    } else {
        ""
    }
}

/// How an error calls a node: its operator and its name.
pub fn describe(node: &NodeProto) -> String {
    let name = match node.name() {
        "" => node.output.first().map_or("", String::as_str),
        name => name,
    };
    format!("{} '{name}'", node.op_type())
}

/// The bodies of an If, Loop or Scan.
pub fn bodies(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute
        .iter()
        .flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

pub fn bodies_mut(node: &mut NodeProto) -> impl Iterator<Item = &mut GraphProto> {
    node.attribute.iter_mut().flat_map(|attribute| {
        let graphs = attribute.graphs.iter_mut();
        attribute.g.as_deref_mut().into_iter().chain(graphs)
    })
}

/// Every value that a node reads: its inputs, and what its bodies capture.
pub fn reads(node: &NodeProto) -> impl Iterator<Item = &str> {
    node.input.iter().map(String::as_str).chain(captured(node))
}

/// What the bodies of a node take from the graphs around them.
pub fn captured(node: &NodeProto) -> impl Iterator<Item = &str> {
    let mut names = Vec::new();
    for body in bodies(node) {
        let own = defined(body);
        let inner = body.node.iter().flat_map(reads_boxed);
        let outputs = body.output.iter().map(|output| output.name());
        names.extend(
            inner
                .chain(outputs)
                .filter(|name| !name.is_empty() && !own.contains(name)),
        );
    }
    names.into_iter()
}

/// `reads` calls itself through `captured`, so one of them needs a type of known size.
fn reads_boxed(node: &NodeProto) -> Box<dyn Iterator<Item = &str> + '_> {
    Box::new(reads(node))
}

/// The values that a graph itself defines.
fn defined(graph: &GraphProto) -> HashSet<&str> {
    let sparse = graph
        .sparse_initializer
        .iter()
        .filter_map(|tensor| tensor.values.as_deref());
    let inputs = graph.input.iter().map(|input| input.name());
    let tensors = graph.initializer.iter().chain(sparse);
    let outputs = graph.node.iter().flat_map(|node| &node.output);
    inputs
        .chain(tensors.map(|tensor| tensor.name()))
        .chain(outputs.map(String::as_str))
        .collect()
}

/// Has the bodies of a node read other values from the graph around them: `names` maps old names to new ones, and is
/// the same again afterwards.
pub fn rename_captured(node: &mut NodeProto, names: &mut HashMap<String, String>) {
    for body in bodies_mut(node) {
        let own = defined(body).into_iter();
        let hidden: Vec<_> = own.filter_map(|name| names.remove_entry(name)).collect();
        for inner in &mut body.node {
            for input in &mut inner.input {
                if let Some(new) = names.get(input) {
                    input.clone_from(new);
                }
            }
            rename_captured(inner, names);
        }
        for output in &mut body.output {
            if let Some(new) = names.get(output.name()) {
                output.name = Some(new.clone());
            }
        }
        names.extend(hidden);
    }
}

/// Every name of a value in a graph and in the bodies of its nodes.
pub fn all_names(graph: &GraphProto) -> HashSet<String> {
    let mut names: HashSet<String> = defined(graph).into_iter().map(Into::into).collect();
    for body in graph.node.iter().flat_map(bodies) {
        names.extend(all_names(body));
    }
    names
}

/// A name that no other value has, which starts with `stem`.
pub fn unique(names: &mut HashSet<String>, stem: String) -> String {
    let mut name = stem.clone();
    let mut number = 2;
    while !names.insert(name.clone()) {
        name = format!("{stem}_{number}");
        number += 1;
    }
    name
}

/// A node without attributes and with one output.
pub fn simple(operator: &str, input: Vec<String>, output: String) -> NodeProto {
    NodeProto {
        name: Some(format!("{operator}_{output}")),
        op_type: Some(operator.into()),
        input,
        output: vec![output],
        ..Default::default()
    }
}

pub fn cast(input: String, output: String, to: ElementType) -> NodeProto {
    NodeProto {
        attribute: vec![AttributeProto {
            name: Some("to".into()),
            r#type: Some(AttributeType::Int.into()),
            i: Some((to as i32).into()),
            ..Default::default()
        }],
        ..simple("Cast", vec![input], output)
    }
}

/// Whether operators of this name, in whatever domain, work with quantised numbers.
pub fn is_of_quantization(operator: &str) -> bool {
    matches!(
        operator,
        "QuantizeLinear"
            | "DequantizeLinear"
            | "DynamicQuantizeLinear"
            | "QLinearConv"
            | "QLinearMatMul"
            | "ConvInteger"
            | "MatMulInteger"
    )
}
