//! Has uint8 inputs cast to float32 before anything else, as TensorRT needs it: it takes bytes in, and computes with
//! none.
//!
//! Exporters often put the Cast later, after a Transpose from `[N,H,W,3]`. The values 0 to 255 are exact in float32
//! (and in float16), so what only moves them may as well move floats; the Cast that was there then has nothing to do.

use std::collections::{HashMap, HashSet};

use super::proto::{GraphProto, NodeProto};
use super::{ElementType, Model, OnnxError, element_type, fed_inputs, node, set_element_type};

impl Model {
    /// Has every uint8 input cast to float32 by the first nodes that read it. Changes nothing where that is so already.
    ///
    /// # Errors
    /// [`OnnxError::ByteInput`] where something computes with the bytes themselves; the model is as it was.
    pub fn cast_byte_inputs(&mut self) -> Result<(), OnnxError> {
        let Some(graph) = &self.proto.graph else {
            return Ok(());
        };
        let bytes: HashSet<String> = fed_inputs(graph)
            .filter(|input| element_type(input) == ElementType::Uint8)
            .map(|input| input.name().to_owned())
            .collect();
        if graph.node.iter().all(|node| takes_bytes(node, &bytes)) {
            return Ok(());
        }
        let mut graph = graph.clone();
        rewrite(&mut graph, &bytes)?;
        self.replace_graph(graph);
        Ok(())
    }
}

/// Whether a node reads none of these inputs but to cast it.
fn takes_bytes(node: &NodeProto, bytes: &HashSet<String>) -> bool {
    node::operator(node) == "Cast" || !node::reads(node).any(|name| bytes.contains(name))
}

fn rewrite(graph: &mut GraphProto, bytes: &HashSet<String>) -> Result<(), OnnxError> {
    let mut names = node::all_names(graph);
    // Under which names the values that were uint8 are float32 now.
    let mut floats: HashMap<String, String> = HashMap::new();
    let mut nodes = Vec::with_capacity(graph.node.len() + bytes.len());
    for input in graph.input.iter().map(|input| input.name()) {
        if bytes.contains(input) {
            let float = node::unique(&mut names, format!("{input}_float32"));
            nodes.push(node::cast(input.into(), float.clone(), ElementType::Float));
            floats.insert(input.into(), float);
        }
    }
    for mut node in std::mem::take(&mut graph.node) {
        if node::reads(&node).any(|name| floats.contains_key(name)) {
            read_floats(&mut node, &mut floats)?;
        }
        nodes.push(node);
    }
    graph.node = nodes;
    if let Some(output) = graph.output.iter().find(|o| floats.contains_key(o.name())) {
        let reason = format!("'{}' of its outputs is made of uint8", output.name());
        return Err(OnnxError::ByteInput(reason));
    }
    for info in &mut graph.value_info {
        if !bytes.contains(info.name()) && floats.contains_key(info.name()) {
            set_element_type(info, ElementType::Float);
        }
    }
    Ok(())
}

/// Has a node read the float32 values; what it moves is float32 then, under its own name.
fn read_floats(
    node: &mut NodeProto,
    floats: &mut HashMap<String, String>,
) -> Result<(), OnnxError> {
    let operator = node::operator(node);
    let moves = is_movement(operator, node, floats);
    let ends = matches!(operator, "Cast" | "Shape" | "Size");
    if !(moves || ends) || node::captured(node).any(|name| floats.contains_key(name)) {
        let reason = format!("{} computes with bytes", node::describe(node));
        return Err(OnnxError::ByteInput(reason));
    }
    for input in &mut node.input {
        if let Some(float) = floats.get(input) {
            input.clone_from(float);
        }
    }
    if moves {
        let outputs = node.output.iter().filter(|name| !name.is_empty());
        floats.extend(outputs.map(|name| (name.clone(), name.clone())));
    }
    Ok(())
}

/// Whether a node passes values on as they are, and all that it passes on is float32 now.
fn is_movement(operator: &str, node: &NodeProto, floats: &HashMap<String, String>) -> bool {
    match operator {
        "Concat" => node.input.iter().all(|name| floats.contains_key(name)),
        "DepthToSpace" | "Expand" | "Flatten" | "Gather" | "Identity" | "Reshape" | "Slice"
        | "SpaceToDepth" | "Split" | "Squeeze" | "Tile" | "Transpose" | "Unsqueeze" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// It transposes its uint8 input, then casts it.
    fn transposing() -> Model {
        let path = "tests/models/colors-ssd-nhwc-uint8.onnx";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        Model::parse(std::fs::read(path).unwrap()).unwrap()
    }

    fn graph(model: &mut Model) -> &mut GraphProto {
        model.proto.graph.as_mut().unwrap()
    }

    fn readers(model: &mut Model, name: &str) -> Vec<(String, Option<ElementType>)> {
        let nodes = graph(model).node.iter();
        let reading = nodes.filter(|node| node::reads(node).any(|read| read == name));
        reading
            .map(|node| (node.op_type().into(), node::element_type(node, "to")))
            .collect()
    }

    #[test]
    fn a_cast_comes_before_what_moved_the_bytes_and_the_input_stays_uint8() {
        let mut model = transposing();
        assert_eq!(readers(&mut model, "input"), [("Transpose".into(), None)]);
        model.cast_byte_inputs().unwrap();
        let cast = ("Cast".into(), Some(ElementType::Float));
        assert_eq!(readers(&mut model, "input"), std::slice::from_ref(&cast));
        assert_eq!(
            readers(&mut model, "input_float32"),
            [("Transpose".into(), None)]
        );
        assert_eq!(readers(&mut model, "planar"), [cast]);
        assert_eq!(model.inputs()[0].element_type, ElementType::Uint8);
    }

    #[test]
    fn a_model_that_casts_first_is_left_as_it_is() {
        let mut model = transposing();
        model.cast_byte_inputs().unwrap();
        let once = model.clone();
        model.cast_byte_inputs().unwrap();
        assert!(model == once);
    }

    #[test]
    fn what_computes_with_bytes_is_named_and_the_model_left_as_it_is() {
        let mut computing = transposing();
        graph(&mut computing).node[0].op_type = Some("Relu".into());
        let mut giving = transposing();
        graph(&mut giving).output[0].name = Some("planar".into());
        for (mut model, reason) in [
            (computing, "Relu 'Transpose_planar' computes with bytes"),
            (giving, "'planar' of its outputs"),
        ] {
            let before = model.clone();
            let error = model.cast_byte_inputs().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert!(model == before);
        }
    }

    #[test]
    fn stated_types_of_what_was_moved_are_float32_then() {
        let mut model = transposing();
        let mut info = graph(&mut model).input[0].clone();
        info.name = Some("planar".into());
        graph(&mut model).value_info.push(info);
        model.cast_byte_inputs().unwrap();
        let stated = &graph(&mut model).value_info[0];
        assert_eq!(element_type(stated), ElementType::Float);
    }
}
