//! An ONNX file as a value: what it says of itself, and the rewrites that engines need.
//!
//! `limits` and `tensor` check what comes from outside, `external_data` reads weights beside the file, `batch` lets
//! a graph made for one picture take several, `any_size` another size than it was exported with, `image_input` fixes
//! the size of pictures that a graph leaves open, `byte_inputs` casts pictures of bytes before all else, `dequantize`
//! takes int8 out, `float16` has a graph compute in half precision.

mod any_size;
mod batch;
mod byte_inputs;
mod constants;
mod dequantize;
mod external_data;
mod float16;
mod image_input;
mod limits;
mod node;
#[expect(
    clippy::enum_variant_names,
    reason = "the names are those of onnx.proto"
)]
mod proto;
mod tensor;

use std::collections::HashSet;

use prost::Message;
use prost::bytes::Bytes;

pub use float16::{Float16Options, Float16Outcome};
pub use image_input::ImageInput;
pub use limits::check_size;
pub use proto::tensor_proto::DataType as ElementType;
use proto::tensor_shape_proto::dimension::Value as DimensionValue;
use proto::type_proto::Value as TypeValue;
use proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};

#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    #[error("this is not an ONNX model: {0}")]
    Malformed(String),
    #[error("the ONNX model is larger than is supported: over {0}")]
    TooLarge(&'static str),
    #[error("the ONNX model contradicts itself: {0}")]
    Inconsistent(String),
    #[error("the ONNX model's weights file '{location}' cannot be used: {reason}")]
    ExternalData { location: String, reason: String },
    #[error("the ONNX model takes one picture at a time and cannot be made to take several: {0}")]
    FixedBatch(String),
    #[error("the ONNX model takes uint8, which cannot be cast before all else: {0}")]
    ByteInput(String),
    #[error(
        "the ONNX model takes grey pictures as '{0}', which is not of float32: only that is understood"
    )]
    GreyInput(String),
    #[error("the ONNX model is quantised in a way that cannot be taken out: {0}")]
    Quantized(String),
    #[error("the ONNX model cannot be computed in float16: {0}")]
    Float16(String),
}

/// One axis of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dimension {
    Fixed(usize),
    /// Any size; the name, if there is one, is the same for axes that must agree.
    Dynamic(String),
}

/// What a graph says of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    pub name: String,
    pub element_type: ElementType,
    /// None where even the number of axes is left open.
    pub shape: Option<Vec<Dimension>>,
}

/// A parsed ONNX model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    proto: ModelProto,
}

impl Model {
    /// Reads a model, and fails on anything that is not a well-formed ONNX file. However hostile, a file takes at most
    /// some ten times its size and a few hundred megabytes (`limits`). Weights are shared with `bytes`, not copied.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, OnnxError> {
        let bytes = bytes.into();
        limits::check(&bytes)?;
        let proto = ModelProto::decode(bytes).map_err(|e| OnnxError::Malformed(e.to_string()))?;
        let Some(graph) = &proto.graph else {
            return Err(OnnxError::Malformed("it holds no graph".into()));
        };
        each_tensor(graph, &mut tensor::check)?;
        let functions = proto.functions.iter().flat_map(|function| &function.node);
        functions
            .into_iter()
            .try_for_each(|node| each_tensor_of_node(node, &mut tensor::check))?;
        Ok(Self { proto })
    }

    /// The model as a file. What this crate does not know of newer ONNX versions is not in it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }

    /// The key and value pairs that the exporting program left, such as Ultralytics' `names`, `stride`, `task`.
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &str)> {
        let entries = self.proto.metadata_props.iter();
        entries.map(|entry| (entry.key(), entry.value()))
    }

    /// What has to be fed in: the graph's inputs without those that have a value of their own.
    pub fn inputs(&self) -> Vec<TensorInfo> {
        let Some(graph) = &self.proto.graph else {
            return Vec::new();
        };
        fed_inputs(graph).map(TensorInfo::new).collect()
    }

    pub fn outputs(&self) -> Vec<TensorInfo> {
        let graph = self.proto.graph.iter();
        graph
            .flat_map(|graph| &graph.output)
            .map(TensorInfo::new)
            .collect()
    }

    /// The version of the standard operator set; 0 where the model names none.
    fn opset(&self) -> i64 {
        let imports = self.proto.opset_import.iter();
        imports
            .filter(|import| matches!(import.domain(), "" | "ai.onnx"))
            .map(|import| import.version())
            .max()
            .unwrap_or(0)
    }

    /// Replaces the graph by a rewritten one, which may have initialisers that are no inputs: that needs IR version 4.
    fn replace_graph(&mut self, graph: GraphProto) {
        self.proto.ir_version = Some(self.proto.ir_version().max(4));
        self.proto.graph = Some(graph);
    }
}

/// Leaves only the inputs that have to be fed. The others would be defaults that may be overridden, which engines do
/// not fold.
fn drop_inputs_with_values(graph: &mut GraphProto) {
    let fed: HashSet<String> = fed_inputs(graph).map(|input| input.name().into()).collect();
    graph.input.retain(|input| fed.contains(input.name()));
}

impl TensorInfo {
    fn new(info: &ValueInfoProto) -> Self {
        let tensor = match info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
            Some(TypeValue::TensorType(tensor)) => Some(tensor),
            _ => None,
        };
        let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
        Self {
            name: info.name().into(),
            element_type: element_type(info),
            shape: shape.map(|shape| {
                let dimensions = shape.dim.iter();
                dimensions
                    .map(|dimension| Dimension::new(dimension.value.as_ref()))
                    .collect()
            }),
        }
    }
}

impl Dimension {
    /// Some exporters write 0 or -1 for an axis of any size.
    fn new(value: Option<&DimensionValue>) -> Self {
        match value {
            Some(DimensionValue::DimValue(size)) if *size > 0 => match usize::try_from(*size) {
                Ok(size) => Self::Fixed(size),
                Err(_) => Self::Dynamic(String::new()),
            },
            Some(DimensionValue::DimParam(name)) => Self::Dynamic(name.clone()),
            _ => Self::Dynamic(String::new()),
        }
    }
}

/// The element type of a value; `Undefined` where it is no tensor.
fn element_type(info: &ValueInfoProto) -> ElementType {
    match info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) {
        Some(TypeValue::TensorType(tensor)) => {
            ElementType::try_from(tensor.elem_type()).unwrap_or(ElementType::Undefined)
        }
        _ => ElementType::Undefined,
    }
}

fn set_element_type(info: &mut ValueInfoProto, element: ElementType) {
    if let Some(TypeValue::TensorType(tensor)) =
        info.r#type.as_mut().and_then(|kind| kind.value.as_mut())
    {
        tensor.elem_type = Some(element.into());
    }
}

/// The inputs that are no initialisers; before IR version 4 every initialiser is listed as an input too.
fn fed_inputs(graph: &GraphProto) -> impl Iterator<Item = &ValueInfoProto> {
    let sparse = graph
        .sparse_initializer
        .iter()
        .filter_map(|tensor| tensor.values.as_deref());
    let tensors = graph.initializer.iter().chain(sparse);
    let constants: HashSet<&str> = tensors.map(|tensor| tensor.name()).collect();
    graph
        .input
        .iter()
        .filter(move |input| !constants.contains(input.name()))
}

/// Visits every constant tensor of a graph and of the bodies within it.
fn each_tensor(
    graph: &GraphProto,
    visit: &mut impl FnMut(&TensorProto) -> Result<(), OnnxError>,
) -> Result<(), OnnxError> {
    graph.initializer.iter().try_for_each(&mut *visit)?;
    for tensor in &graph.sparse_initializer {
        let parts = tensor.values.iter().chain(&tensor.indices);
        parts.into_iter().try_for_each(|part| visit(part))?;
    }
    graph
        .node
        .iter()
        .try_for_each(|node| each_tensor_of_node(node, visit))
}

fn each_tensor_of_node(
    node: &NodeProto,
    visit: &mut impl FnMut(&TensorProto) -> Result<(), OnnxError>,
) -> Result<(), OnnxError> {
    for attribute in &node.attribute {
        let tensors = attribute.t.as_deref().into_iter().chain(&attribute.tensors);
        tensors.into_iter().try_for_each(&mut *visit)?;
    }
    node::bodies(node).try_for_each(|body| each_tensor(body, visit))
}

#[cfg(test)]
mod tests;
