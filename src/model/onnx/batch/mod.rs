//! Lets a graph that was exported for one picture take any number of them.
//!
//! The graph is walked from its inputs, and every value either is the same for every picture or has the pictures
//! along its first axis. As long as every operator leaves that axis alone (`operators`), the graph computes each
//! picture on its own and the axis may have any length. What an exporter has to have written down is the 1 in the
//! target shape of a Reshape: it becomes -1 where the other axes are given, else 0 (as in the input).
//! An operator that mixes or counts pictures, or that is not known here, is an error that names it.

mod operators;

use std::collections::{HashMap, HashSet};

use super::proto::tensor_shape_proto::dimension::Value as DimensionValue;
use super::proto::type_proto::Value as TypeValue;
use super::proto::{GraphProto, NodeProto, TensorProto, ValueInfoProto};
use super::{
    Dimension, Model, OnnxError, TensorInfo, constants, drop_inputs_with_values, node, tensor,
};

const BATCH: &str = "batch";

/// What is known of the axes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Axes {
    /// The same for every picture; its shape, where that is known.
    Shared(Option<Vec<i64>>),
    /// The first axis runs over the pictures. `single`: one row of it is one picture; else each has several.
    PerPicture { rank: usize, single: bool },
}

impl Model {
    /// Gives the first axis of every input and output any length. Changes nothing where the inputs have that already.
    pub fn make_batch_dynamic(&mut self) -> Result<(), OnnxError> {
        let inputs = self.inputs();
        let is_dynamic = |input: &TensorInfo| match &input.shape {
            Some(shape) => matches!(shape.first(), Some(Dimension::Dynamic(_))),
            None => true,
        };
        let Some(graph) = self
            .proto
            .graph
            .as_ref()
            .filter(|_| !inputs.iter().all(is_dynamic))
        else {
            return Ok(());
        };
        let mut graph = graph.clone();
        drop_inputs_with_values(&mut graph);
        let mut walk = Walk::new(&graph, &inputs)?;
        for node in &mut graph.node {
            walk.node(node)?;
        }
        walk.declare(&mut graph)?;
        self.replace_graph(graph);
        Ok(())
    }
}

struct Walk {
    axes: HashMap<String, Axes>,
    /// The values of constants of integers: shapes, axes, ends.
    integers: HashMap<String, Vec<i64>>,
    /// Shapes of values that the graph states in full.
    stated: HashMap<String, Vec<i64>>,
    names: HashSet<String>,
    shapes: Vec<TensorProto>,
}

impl Walk {
    fn new(graph: &GraphProto, inputs: &[TensorInfo]) -> Result<Self, OnnxError> {
        let stated = graph
            .value_info
            .iter()
            .chain(&graph.output)
            .map(TensorInfo::new);
        let mut walk = Self {
            axes: HashMap::new(),
            integers: HashMap::new(),
            stated: stated
                .filter_map(|info| Some((fixed_shape(&info)?, info.name)))
                .map(|(shape, name)| (name, shape))
                .collect(),
            names: node::all_names(graph),
            shapes: Vec::new(),
        };
        for input in inputs {
            let axes = walk.input_axes(input).map_err(OnnxError::FixedBatch)?;
            walk.axes.insert(input.name.clone(), axes);
        }
        for tensor in &graph.initializer {
            walk.constant(tensor);
        }
        for tensor in &graph.sparse_initializer {
            let name = tensor.values.as_ref().map_or("", |values| values.name());
            walk.axes
                .insert(name.into(), Axes::Shared(Some(tensor.dims.clone())));
        }
        Ok(walk)
    }

    fn input_axes(&self, input: &TensorInfo) -> Result<Axes, String> {
        let name = &input.name;
        let Some(shape) = &input.shape else {
            return Err(format!("its input '{name}' has no shape"));
        };
        match shape.first() {
            Some(Dimension::Fixed(1) | Dimension::Dynamic(_)) => Ok(Axes::PerPicture {
                rank: shape.len(),
                single: true,
            }),
            Some(Dimension::Fixed(size)) => {
                Err(format!("the first axis of its input '{name}' is {size}"))
            }
            None => Err(format!("its input '{name}' is a single number")),
        }
    }

    fn constant(&mut self, tensor: &TensorProto) {
        let name = tensor.name().to_owned();
        if let Some(values) = tensor::integers(tensor) {
            self.integers.insert(name.clone(), values);
        }
        self.axes
            .insert(name, Axes::Shared(Some(tensor.dims.clone())));
    }

    fn node(&mut self, node: &mut NodeProto) -> Result<(), OnnxError> {
        if let Some(tensor) =
            constants::of_node(node).filter(|_| node::operator(node) == "Constant")
        {
            self.constant(&tensor);
            return Ok(());
        }
        let mut per_picture = false;
        for name in node::reads(node).filter(|name| !name.is_empty()) {
            match self.axes.get(name) {
                Some(axes) => per_picture |= matches!(axes, Axes::PerPicture { .. }),
                None => {
                    let reason = format!("'{name}' is read before anything gives it a value");
                    return Err(OnnxError::Inconsistent(reason));
                }
            }
        }
        let axes = if per_picture {
            self.per_picture(node).map_err(|reason| {
                OnnxError::FixedBatch(format!("{} {reason}", node::describe(node)))
            })?
        } else {
            Axes::Shared(self.constant_shape(node))
        };
        for name in &node.output {
            let axes = match &axes {
                Axes::Shared(None) => Axes::Shared(self.stated.get(name).cloned()),
                known => known.clone(),
            };
            self.axes.insert(name.clone(), axes);
        }
        Ok(())
    }

    /// The shape of what a node makes of constants, for those that exporters put before weights.
    fn constant_shape(&self, node: &NodeProto) -> Option<Vec<i64>> {
        let first = node.input.first()?;
        match node::operator(node) {
            "Cast" | "Identity" => match self.axes.get(first)? {
                Axes::Shared(shape) => shape.clone(),
                Axes::PerPicture { .. } => None,
            },
            "ConstantOfShape" => self.integers.get(first).cloned(),
            "Unsqueeze" => {
                let Axes::Shared(Some(shape)) = self.axes.get(first)? else {
                    return None;
                };
                let second = || self.integers.get(node.input.get(1)?).map(Vec::as_slice);
                let axes = node::ints(node, "axes").or_else(second)?;
                unsqueezed(shape, axes)
            }
            _ => None,
        }
    }

    fn per_picture(&mut self, node: &mut NodeProto) -> Result<Axes, String> {
        let inputs: Vec<_> = node.input.iter().map(|name| self.axes.get(name)).collect();
        if node::operator(node) != "Reshape" {
            return operators::axes(node, &inputs, &self.integers);
        }
        let Some(Axes::PerPicture { single, .. }) = inputs.first().copied().flatten() else {
            return Err("takes its shape from the pictures".into());
        };
        let target = node.input.get(1).and_then(|name| self.integers.get(name));
        let mut target = target.cloned().ok_or("has a shape that is computed")?;
        if node::int(node, "allowzero").unwrap_or(0) != 0 && target.contains(&0) {
            return Err("has a shape with a 0 that is meant so".into());
        }
        let one_row = node
            .output
            .first()
            .and_then(|name| self.stated.get(name)?.first())
            == Some(&1);
        let rank = target.len();
        let rest_is_given = !target.iter().skip(1).any(|&axis| axis == -1);
        let first = target.first_mut().ok_or("makes a single number")?;
        let (new, single) = match (*first, rest_is_given) {
            (0, _) => (0, *single),
            (1, false) if *single => (0, true),
            (written, true) => (-1, written == 1 || one_row),
            _ => return Err("has a shape from which pictures cannot be told apart".into()),
        };
        if *first != new {
            *first = new;
            let name = node::unique(&mut self.names, format!("{}_{BATCH}", node.input[1]));
            let shape = tensor::from_integers(name.clone(), vec![rank as i64], &target);
            self.shapes.push(shape);
            node.input[1] = name;
        }
        Ok(Axes::PerPicture { rank, single })
    }

    /// Writes the new first axis down wherever the graph states shapes.
    fn declare(self, graph: &mut GraphProto) -> Result<(), OnnxError> {
        for output in &graph.output {
            let single = matches!(
                self.axes.get(output.name()),
                Some(Axes::PerPicture { single: true, .. })
            );
            if !single {
                let reason = format!("its output '{}' is not one row a picture", output.name());
                return Err(OnnxError::FixedBatch(reason));
            }
        }
        let borders = graph.input.iter_mut().chain(&mut graph.output);
        borders.for_each(|info| set_first_axis(info, Some(BATCH)));
        for info in &mut graph.value_info {
            match self.axes.get(info.name()) {
                Some(Axes::PerPicture { single: true, .. }) => set_first_axis(info, Some(BATCH)),
                Some(Axes::PerPicture { .. }) => set_first_axis(info, None),
                _ => {}
            }
        }
        graph.initializer.extend(self.shapes);
        Ok(())
    }
}

/// The shape, where every axis of it is fixed.
fn fixed_shape(info: &TensorInfo) -> Option<Vec<i64>> {
    let axes = info.shape.as_ref()?.iter();
    axes.map(|axis| match axis {
        Dimension::Fixed(size) => i64::try_from(*size).ok(),
        Dimension::Dynamic(_) => None,
    })
    .collect()
}

/// A shape with axes of 1 put in so that they are at `axes` of the result.
fn unsqueezed(shape: &[i64], axes: &[i64]) -> Option<Vec<i64>> {
    let rank = shape.len() + axes.len();
    let mut old = shape.iter();
    let at = |axis: usize| {
        axes.iter()
            .any(|&a| a == axis as i64 || a == axis as i64 - rank as i64)
    };
    let result: Vec<_> = (0..rank)
        .filter_map(|axis| {
            if at(axis) {
                Some(1)
            } else {
                old.next().copied()
            }
        })
        .collect();
    (result.len() == rank && old.next().is_none()).then_some(result)
}

fn set_first_axis(info: &mut ValueInfoProto, name: Option<&str>) {
    let value = info.r#type.as_mut().and_then(|kind| kind.value.as_mut());
    if let Some(TypeValue::TensorType(tensor)) = value
        && let Some(first) = tensor
            .shape
            .as_mut()
            .and_then(|shape| shape.dim.first_mut())
    {
        first.value = name.map(|name| DimensionValue::DimParam(name.into()));
    }
}

#[cfg(test)]
mod tests;
