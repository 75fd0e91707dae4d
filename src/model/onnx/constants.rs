//! The constants of a graph: initialisers, and nodes that give one.

use std::collections::HashMap;

use super::proto::{GraphProto, NodeProto, TensorProto};
use super::{ElementType, OnnxError, node, tensor};

/// Makes every constant an initialiser: turns Constant nodes into such, and folds Identity and Cast to float32 of such:
/// exporters store float16 weights and cast them, and computed so the graph would never be float16.
pub fn gather(graph: &mut GraphProto) -> Result<(), OnnxError> {
    let initializers = std::mem::take(&mut graph.initializer);
    let mut known: HashMap<String, TensorProto> = HashMap::new();
    let mut order = Vec::with_capacity(initializers.len());
    for tensor in initializers {
        order.push(tensor.name().to_owned());
        known.insert(tensor.name().into(), tensor);
    }
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        match value(&node, &known)? {
            Some(tensor) => {
                order.push(tensor.name().to_owned());
                known.insert(tensor.name().into(), tensor);
            }
            None => nodes.push(node),
        }
    }
    graph.node = nodes;
    graph.initializer = order.iter().filter_map(|name| known.remove(name)).collect();
    Ok(())
}

/// The constant that a node gives, named as its output; none where it gives none.
fn value(
    node: &NodeProto,
    known: &HashMap<String, TensorProto>,
) -> Result<Option<TensorProto>, OnnxError> {
    let [output] = node.output.as_slice() else {
        return Ok(None);
    };
    let input = || known.get(node.input.first()?);
    Ok(match node::operator(node) {
        "Constant" => of_node(node),
        "Identity" => input().map(|tensor| TensorProto {
            name: Some(output.clone()),
            ..tensor.clone()
        }),
        "Cast" if node::element_type(node, "to") == Some(ElementType::Float) => match input() {
            Some(tensor) if tensor::element(tensor) == ElementType::Float16 => {
                let values = tensor::floats(tensor)?;
                let dims = tensor.dims.clone();
                Some(tensor::from_floats(output.clone(), dims, &values))
            }
            _ => None,
        },
        _ => None,
    })
}

/// What a Constant node gives, named as its output; none for strings and sparse tensors.
pub fn of_node(node: &NodeProto) -> Option<TensorProto> {
    let ([output], [attribute]) = (node.output.as_slice(), node.attribute.as_slice()) else {
        return None;
    };
    let name = output.clone();
    match attribute.name() {
        "value" => attribute.t.as_deref().map(|tensor| TensorProto {
            name: Some(name),
            ..tensor.clone()
        }),
        "value_float" => Some(tensor::from_floats(name, vec![], &[attribute.f?])),
        "value_floats" => {
            let dims = vec![attribute.floats.len() as i64];
            Some(tensor::from_floats(name, dims, &attribute.floats))
        }
        "value_int" => Some(tensor::from_integers(name, vec![], &[attribute.i?])),
        "value_ints" => {
            let dims = vec![attribute.ints.len() as i64];
            Some(tensor::from_integers(name, dims, &attribute.ints))
        }
        _ => None,
    }
}
