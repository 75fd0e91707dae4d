//! Has an explicitly quantised model compute in floating point, for engines that have no convolutions in integers.
//!
//! A QuantizeLinear becomes a Clip to the range that its integers have, and the DequantizeLinear behind it nothing:
//! what is lost is the rounding. Weights are what their integers stand for. QuantizeLinear and DequantizeLinear of
//! other types than int8 and uint8, such as float8, stay.

use std::collections::{HashMap, HashSet};

use super::proto::{GraphProto, NodeProto, TensorProto};
use super::{
    ElementType, Model, OnnxError, constants, drop_inputs_with_values, node, set_element_type,
    tensor,
};

/// The oldest operator set whose Clip takes its bounds as inputs.
const OLDEST_OPSET: i64 = 11;

/// What integers stand for: `(integer - zero) * scale`, with one of both for all or for each index of an axis.
#[derive(Clone, Debug, PartialEq)]
struct Grid {
    element: ElementType,
    scales: Vec<f32>,
    zeros: Vec<i32>,
    /// Counts where there are several scales.
    axis: i64,
}

impl Model {
    /// Takes the quantisation to int8 or uint8 out of a model; false where there is none.
    ///
    /// # Errors
    /// [`OnnxError::Quantized`] where operators compute with the integers; the model is as it was.
    pub fn dequantize(&mut self) -> Result<bool, OnnxError> {
        let opset = self.opset();
        let Some(graph) = &self.proto.graph else {
            return Ok(false);
        };
        if !graph.node.iter().any(is_quantization) {
            return Ok(false);
        }
        if opset < OLDEST_OPSET {
            return Err(OnnxError::Quantized(format!(
                "it uses operator set {opset}; export it with {OLDEST_OPSET} or newer"
            )));
        }
        let mut graph = graph.clone();
        drop_inputs_with_values(&mut graph);
        constants::gather(&mut graph)?;
        let changed = Rewriter::new(&mut graph).rewrite(&mut graph)?;
        if changed {
            self.replace_graph(graph);
        }
        Ok(changed)
    }
}

fn is_quantization(node: &NodeProto) -> bool {
    node::is_of_quantization(node::operator(node))
}

fn refused(reason: String) -> OnnxError {
    OnnxError::Quantized(reason)
}

struct Rewriter {
    constants: HashMap<String, TensorProto>,
    names: HashSet<String>,
    /// Values that were integers and are floats now, under the same name.
    grids: HashMap<String, Grid>,
    nodes: Vec<NodeProto>,
    /// Values that nodes gave and that are constants now, and bounds of Clips.
    initializers: Vec<TensorProto>,
    changed: bool,
}

impl Rewriter {
    fn new(graph: &mut GraphProto) -> Self {
        let constants = graph.initializer.iter();
        Self {
            constants: constants
                .map(|tensor| (tensor.name().to_owned(), tensor.clone()))
                .collect(),
            names: node::all_names(graph),
            grids: HashMap::new(),
            nodes: Vec::with_capacity(graph.node.len()),
            initializers: Vec::new(),
            changed: false,
        }
    }

    fn rewrite(mut self, graph: &mut GraphProto) -> Result<bool, OnnxError> {
        for node in std::mem::take(&mut graph.node) {
            match node::operator(&node) {
                "QuantizeLinear" => self.quantize(node)?,
                "DequantizeLinear" => self.dequantize(node)?,
                _ => self.other(node)?,
            }
        }
        if let Some(output) = graph
            .output
            .iter()
            .find(|o| self.grids.contains_key(o.name()))
        {
            return Err(refused(format!(
                "its output '{}' is integers",
                output.name()
            )));
        }
        for info in &mut graph.value_info {
            if self.grids.contains_key(info.name()) {
                set_element_type(info, ElementType::Float);
            }
        }
        graph.node = self.nodes;
        graph.initializer.extend(self.initializers);
        let mut read: HashSet<&str> = graph.node.iter().flat_map(node::reads).collect();
        read.extend(graph.output.iter().map(|output| output.name()));
        graph
            .initializer
            .retain(|tensor| read.contains(tensor.name()));
        Ok(self.changed)
    }

    fn quantize(&mut self, node: NodeProto) -> Result<(), OnnxError> {
        let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else {
            return Err(incomplete(&node));
        };
        let Some(grid) = self.grid(&node)? else {
            self.nodes.push(node);
            return Ok(());
        };
        let (lowest, highest) = grid.range();
        if let Some(constant) = self.constants.get(input) {
            let on_grid = |value: f32, scale: f32, zero: i32| {
                let integer = (value / scale).round_ties_even() + zero as f32;
                (integer.clamp(lowest, highest) - zero as f32) * scale
            };
            let values = tensor::floats(constant)?;
            let values = grid.map(&constant.dims, values.into_iter(), on_grid, &node)?;
            self.constant(output.clone(), constant.dims.clone(), &values);
        } else {
            let ([scale], [zero]) = (grid.scales.as_slice(), grid.zeros.as_slice()) else {
                let what = node::describe(&node);
                return Err(refused(format!(
                    "{what} has several scales for one picture"
                )));
            };
            let bound = |integer: f32| (integer - *zero as f32) * scale;
            let bounds = [bound(lowest), bound(highest)];
            let bounds = bounds.map(|bound| {
                let name = node::unique(&mut self.names, format!("{output}_bound"));
                let tensor = tensor::from_floats(name.clone(), vec![], &[bound]);
                self.initializers.push(tensor);
                name
            });
            let inputs = [input.clone()].into_iter().chain(bounds);
            self.nodes
                .push(node::simple("Clip", inputs.collect(), output.clone()));
        }
        self.grids.insert(output.clone(), grid);
        self.changed = true;
        Ok(())
    }

    fn dequantize(&mut self, node: NodeProto) -> Result<(), OnnxError> {
        let (Some(input), [output]) = (node.input.first(), node.output.as_slice()) else {
            return Err(incomplete(&node));
        };
        let constant = self.constants.get(input);
        let integers = constant.and_then(tensor::small_integers);
        let (Some(grid), true) = (
            self.grid(&node)?,
            integers.is_some() || self.grids.contains_key(input),
        ) else {
            self.nodes.push(node);
            return Ok(());
        };
        if let (Some(constant), Some(integers)) = (constant, integers) {
            let value = |integer: i32, scale: f32, zero: i32| (integer - zero) as f32 * scale;
            let dims = constant.dims.clone();
            let values = grid.map(&dims, integers.into_iter(), value, &node)?;
            self.constant(output.clone(), dims, &values);
        } else if self
            .grids
            .get(input)
            .is_some_and(|of_input| of_input.is_same(&grid))
        {
            let identity = node::simple("Identity", vec![input.clone()], output.clone());
            self.nodes.push(identity);
        } else {
            let what = node::describe(&node);
            return Err(refused(format!(
                "{what} has another scale than what it reads"
            )));
        }
        self.changed = true;
        Ok(())
    }

    /// A node that may move integers, but not compute with them.
    fn other(&mut self, node: NodeProto) -> Result<(), OnnxError> {
        let grids = &self.grids;
        let known = |name: &String| grids.get(name);
        let captures = node::captured(&node).any(|name| grids.contains_key(name));
        let moved = match node::operator(&node) {
            "Concat" => {
                let first = node.input.first().and_then(known).cloned();
                let same = node.input.iter().all(|name| known(name) == first.as_ref());
                first.filter(|_| same)
            }
            "DepthToSpace" | "Expand" | "Flatten" | "Gather" | "Identity" | "MaxPool"
            | "Reshape" | "Slice" | "SpaceToDepth" | "Split" | "Squeeze" | "Tile" | "Transpose"
            | "Unsqueeze" => node.input.first().and_then(known).cloned(),
            _ => None,
        };
        let reads = node.input.iter().any(|name| grids.contains_key(name));
        // Several scales belong to an axis, which what moves values may move too.
        let moved = moved.filter(|grid| grid.scales.len() == 1);
        if captures || (reads && moved.is_none()) || is_quantization(&node) {
            let what = node::describe(&node);
            return Err(refused(format!("{what} computes with integers")));
        }
        if let Some(grid) = moved {
            // Later outputs, such as a MaxPool's places, are no values.
            let values = if node.op_type() == "Split" {
                node.output.len()
            } else {
                1
            };
            for output in node.output.iter().take(values) {
                self.grids.insert(output.clone(), grid.clone());
            }
        }
        self.nodes.push(node);
        Ok(())
    }

    fn constant(&mut self, name: String, dims: Vec<i64>, values: &[f32]) {
        let tensor = tensor::from_floats(name.clone(), dims, values);
        self.constants.insert(name, tensor.clone());
        self.initializers.push(tensor);
    }

    /// The scales and zeros of a QuantizeLinear or DequantizeLinear; none where it is not of 8 bits (or a bias of 32).
    fn grid(&self, node: &NodeProto) -> Result<Option<Grid>, OnnxError> {
        let constant = |index: usize| {
            let name = node.input.get(index).filter(|name| !name.is_empty());
            name.map(|name| {
                self.constants.get(name).ok_or_else(|| {
                    let what = node::describe(node);
                    refused(format!("the scale of {what} is no constant"))
                })
            })
        };
        let zero = constant(2).transpose()?;
        let of_input = node.input.first().and_then(|name| self.constants.get(name));
        let known = node.input.first().and_then(|name| self.grids.get(name));
        let element = match (zero, node::operator(node)) {
            (Some(zero), _) => tensor::element(zero),
            (None, "QuantizeLinear") => {
                node::element_type(node, "output_dtype").unwrap_or(ElementType::Uint8)
            }
            (None, _) => match (of_input, known) {
                (Some(constant), _) => tensor::element(constant),
                (None, Some(grid)) => grid.element,
                (None, None) => ElementType::Undefined,
            },
        };
        let is_bias = node::operator(node) == "DequantizeLinear" && element == ElementType::Int32;
        if !matches!(element, ElementType::Int8 | ElementType::Uint8) && !is_bias {
            return Ok(None);
        }
        let scale = constant(1).transpose()?.ok_or_else(|| incomplete(node))?;
        if tensor::element(scale) != ElementType::Float
            || node::int(node, "block_size").unwrap_or(0) != 0
        {
            let what = node::describe(node);
            return Err(refused(format!("{what} has scales that are not supported")));
        }
        let scales = tensor::floats(scale)?;
        let zeros = match zero {
            Some(zero) => tensor::small_integers(zero).unwrap_or_default(),
            None => vec![0; scales.len()],
        };
        if scales.is_empty() || zeros.len() != scales.len() {
            return Err(incomplete(node));
        }
        Ok(Some(Grid {
            element,
            scales,
            zeros,
            axis: node::int(node, "axis").unwrap_or(1),
        }))
    }
}

fn incomplete(node: &NodeProto) -> OnnxError {
    let what = node::describe(node);
    OnnxError::Inconsistent(format!("{what} lacks inputs, or they do not fit"))
}

impl Grid {
    /// The lowest and the highest integer.
    fn range(&self) -> (f32, f32) {
        match self.element {
            ElementType::Uint8 => (0.0, 255.0),
            _ => (-128.0, 127.0),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let Self {
            element,
            scales,
            zeros,
            axis,
        } = other;
        (&self.element, &self.scales, &self.zeros) == (element, scales, zeros)
            && (self.scales.len() == 1 || self.axis == *axis)
    }

    /// Each value of a tensor with the scale and the zero of its place.
    fn map<T>(
        &self,
        dims: &[i64],
        values: impl Iterator<Item = T>,
        function: impl Fn(T, f32, i32) -> f32,
        node: &NodeProto,
    ) -> Result<Vec<f32>, OnnxError> {
        let rank = dims.len() as i64;
        let axis = if self.axis < 0 {
            self.axis + rank
        } else {
            self.axis
        };
        let count = self.scales.len();
        let inner: usize = match usize::try_from(axis).ok().filter(|_| count > 1) {
            Some(axis) if dims.get(axis) == Some(&(count as i64)) => {
                dims[axis + 1..].iter().map(|&size| size as usize).product()
            }
            Some(_) => return Err(incomplete(node)),
            None if count > 1 => return Err(incomplete(node)),
            None => 1,
        };
        let inner = inner.max(1);
        let mapped = values.enumerate().map(|(at, value)| {
            let index = at / inner % count;
            function(value, self.scales[index], self.zeros[index])
        });
        Ok(mapped.collect())
    }
}

#[cfg(test)]
mod tests;
