//! Has a float32 graph compute in float16, for engines that take the precision from the graph's own types
//! (TensorRT for RTX, TensorRT 11).
//!
//! Every operator has one of three rules (`operators`): those that cost the time (convolutions, matrix products,
//! pools, normalisations) compute in float16; those that overflow or need more than float16's 11 bits (exponentials,
//! powers, sums, softmax, sampling, sorting, anything unknown) stay in float32; the rest follow what they read.
//! What comes after the last costly operator stays in float32 too (`tail`): box coordinates of some hundred pixels
//! have no fraction left in float16. Where the two meet, `rewrite` puts a Cast, and constants are converted.
//! The bodies of If, Loop and Scan, and functions, stay in float32.

mod operators;
mod rewrite;
mod tail;

use std::collections::BTreeSet;

use super::proto::GraphProto;
use super::{Model, OnnxError, node};

/// The oldest operator set whose operators all take float16 where the rules here give it to them.
const OLDEST_OPSET: i64 = 9;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Float16Options {
    /// The graph's own float32 inputs and outputs become float16 too. Else they stay as they are.
    pub float16_inputs_and_outputs: bool,
    /// Operators, such as `MatMul`, that are to stay in float32 on top of those that always do.
    pub keep_float32: BTreeSet<String>,
}

/// What the rewrite did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float16Outcome {
    /// So many nodes compute in float16 now.
    Rewritten { nodes: usize },
    /// The model is quantised (QDQ or integer operators), so its types are deliberate: it was left as it is.
    Quantized,
    /// Nothing in it computes in float32 that could in float16: it was left as it is.
    Unchanged,
}

impl Model {
    /// Has the model compute in float16 where that is sound. On an error the model is as it was.
    ///
    /// Weights in other files have to be taken in first (`embed_external_data`). Operator sets from 9 on.
    pub fn to_float16(&mut self, options: &Float16Options) -> Result<Float16Outcome, OnnxError> {
        let opset = self.opset();
        if opset < OLDEST_OPSET {
            return Err(OnnxError::Float16(format!(
                "it uses operator set {opset}; export it with {OLDEST_OPSET} or newer"
            )));
        }
        let Some(graph) = &self.proto.graph else {
            return Ok(Float16Outcome::Unchanged);
        };
        if is_quantized(graph) {
            return Ok(Float16Outcome::Quantized);
        }
        let (graph, nodes) = rewrite::rewrite(graph.clone(), options)?;
        if nodes == 0 {
            return Ok(Float16Outcome::Unchanged);
        }
        self.replace_graph(graph);
        Ok(Float16Outcome::Rewritten { nodes })
    }
}

fn is_quantized(graph: &GraphProto) -> bool {
    graph.node.iter().any(|node| {
        node::is_of_quantization(node.op_type()) || node::bodies(node).any(is_quantized)
    })
}

#[cfg(test)]
mod tests;
