//! What each operator of ONNX means for the rewrite: its rule, and the element types of its outputs
//! (<https://onnx.ai/onnx/operators/>).

use super::super::proto::NodeProto;
use super::super::{ElementType, element_type, node, tensor};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Costs the time, and accumulates in float32 inside: computes in float16.
    Half,
    /// Moves values or changes each on its own: computes in what it reads, float32 if any of it is.
    Follow,
    /// Computes in float32.
    Keep,
}

pub fn rule(node: &NodeProto) -> Rule {
    match node::operator(node) {
        "AveragePool"
        | "BatchNormalization"
        | "Conv"
        | "ConvTranspose"
        | "DeformConv"
        | "Einsum"
        | "GRU"
        | "Gemm"
        | "GlobalAveragePool"
        | "GlobalMaxPool"
        | "GroupNormalization"
        | "InstanceNormalization"
        | "LSTM"
        | "LayerNormalization"
        | "MatMul"
        | "MaxPool"
        | "RMSNormalization"
        | "RNN" => Rule::Half,
        operator if is_elementwise(operator) || is_movement(operator) => Rule::Follow,
        _ => Rule::Keep,
    }
}

/// Each value on its own, within a few units in the last place of float16. Exp, Log, Pow and the like are not here:
/// they overflow or need the bits. Celu and IsInf are not: they take no float16 in every operator set.
fn is_elementwise(operator: &str) -> bool {
    matches!(
        operator,
        "Abs"
            | "Add"
            | "And"
            | "Ceil"
            | "Clip"
            | "Div"
            | "Elu"
            | "Equal"
            | "Erf"
            | "Floor"
            | "Gelu"
            | "Greater"
            | "GreaterOrEqual"
            | "HardSigmoid"
            | "HardSwish"
            | "IsNaN"
            | "LeakyRelu"
            | "Less"
            | "LessOrEqual"
            | "Max"
            | "Mean"
            | "Min"
            | "Mish"
            | "Mod"
            | "Mul"
            | "Neg"
            | "Not"
            | "Or"
            | "PRelu"
            | "Reciprocal"
            | "Relu"
            | "Round"
            | "Selu"
            | "Shrink"
            | "Sigmoid"
            | "Sign"
            | "Softplus"
            | "Softsign"
            | "Sqrt"
            | "Sub"
            | "Sum"
            | "Swish"
            | "Tanh"
            | "ThresholdedRelu"
            | "Where"
            | "Xor"
    )
}

/// Moves or picks values, or interpolates between neighbours.
fn is_movement(operator: &str) -> bool {
    matches!(
        operator,
        "ArgMax"
            | "ArgMin"
            | "CenterCropPad"
            | "Compress"
            | "Concat"
            | "DepthToSpace"
            | "Dropout"
            | "Expand"
            | "Flatten"
            | "Gather"
            | "GatherElements"
            | "GatherND"
            | "Identity"
            | "NonZero"
            | "Pad"
            | "ReduceMax"
            | "ReduceMin"
            | "Reshape"
            | "Resize"
            | "ReverseSequence"
            | "Scatter"
            | "ScatterElements"
            | "ScatterND"
            | "Shape"
            | "Size"
            | "Slice"
            | "SpaceToDepth"
            | "Split"
            | "Squeeze"
            | "Tile"
            | "Transpose"
            | "Trilu"
            | "Unsqueeze"
            | "Upsample"
    )
}

/// Inputs that are float32 (or may be) whatever the operator computes in: scales, regions, ratios.
pub fn has_own_type(node: &NodeProto, input: usize) -> bool {
    matches!(node::operator(node), "Dropout" | "Resize" | "Upsample") && input > 0
}

/// Outputs that are float32 whatever the operator computes in: the statistics that training uses.
pub fn is_statistic(node: &NodeProto, output: usize) -> bool {
    node::operator(node) == "LayerNormalization" && output > 0
}

/// Only the shape of what these read counts.
pub fn reads_only_shape(node: &NodeProto) -> bool {
    matches!(node::operator(node), "Shape" | "Size")
}

/// The element type of the output at `index`, from those of the inputs; none where that is not known.
pub fn output_type(
    node: &NodeProto,
    index: usize,
    inputs: &[Option<ElementType>],
) -> Option<ElementType> {
    use ElementType::*;
    let input = |at: usize| inputs.get(at).copied().flatten();
    match node::operator(node) {
        "Cast" => node::element_type(node, "to"),
        "CastLike" => input(1),
        "ArgMax" | "ArgMin" | "NonMaxSuppression" | "NonZero" | "Shape" | "Size" => Some(Int64),
        "And" | "Equal" | "Greater" | "GreaterOrEqual" | "IsInf" | "IsNaN" | "Less"
        | "LessOrEqual" | "Not" | "Or" | "Xor" => Some(Bool),
        "MaxPool" | "TopK" | "Unique" if index > 0 => Some(Int64),
        "Dropout" if index > 0 => Some(Bool),
        "LayerNormalization" if index > 0 => Some(Float),
        "Where" => input(1),
        "OneHot" => input(2),
        "ConstantOfShape" => match node::attribute(node, "value") {
            Some(value) => value.t.as_deref().map(tensor::element),
            None => Some(Float),
        },
        "EyeLike" | "RandomNormalLike" | "RandomUniformLike" => {
            node::element_type(node, "dtype").or(input(0))
        }
        "RandomNormal" | "RandomUniform" => {
            Some(node::element_type(node, "dtype").unwrap_or(Float))
        }
        "If" => body_output(node, "then_branch", index),
        // The first output of a Loop's body is the condition.
        "Loop" => body_output(node, "body", index + 1),
        "Scan" => body_output(node, "body", index),
        operator if rule(node) != Rule::Keep || keeps_type(operator) => input(0),
        _ => None,
    }
}

/// Operators of the rule `Keep` whose outputs are of the type of their first input.
fn keeps_type(operator: &str) -> bool {
    matches!(
        operator,
        "Acos"
            | "Acosh"
            | "Asin"
            | "Asinh"
            | "Atan"
            | "Atanh"
            | "Celu"
            | "Cos"
            | "Cosh"
            | "CumSum"
            | "Det"
            | "Exp"
            | "GlobalLpPool"
            | "GridSample"
            | "Hardmax"
            | "LRN"
            | "Log"
            | "LogSoftmax"
            | "LpNormalization"
            | "LpPool"
            | "MaxRoiPool"
            | "MaxUnpool"
            | "MeanVarianceNormalization"
            | "Pow"
            | "Range"
            | "ReduceL1"
            | "ReduceL2"
            | "ReduceLogSum"
            | "ReduceLogSumExp"
            | "ReduceMean"
            | "ReduceProd"
            | "ReduceSum"
            | "ReduceSumSquare"
            | "RoiAlign"
            | "Sin"
            | "Sinh"
            | "Softmax"
            | "Tan"
            | "TopK"
            | "Unique"
    )
}

fn body_output(node: &NodeProto, body: &str, index: usize) -> Option<ElementType> {
    let body = node::attribute(node, body)?.g.as_deref()?;
    let element = element_type(body.output.get(index)?);
    (element != ElementType::Undefined).then_some(element)
}
