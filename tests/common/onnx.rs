//! ONNX files written field by field (<https://onnx.ai/onnx/repo-docs/IR.html>), also those that no exporter writes.

pub const FLOAT: u64 = 1;
pub const INT64: u64 = 7;

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A field that is a number.
pub fn number(field: u64, value: i64) -> Vec<u8> {
    [varint(field << 3), varint(value as u64)].concat()
}

/// A field that is a text, bytes, or a message.
pub fn bytes(field: u64, value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    [
        varint(field << 3 | 2),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

/// Nodes, initialisers, inputs and outputs as a file of operator set 13.
pub fn model(
    nodes: &[Vec<u8>],
    tensors: &[Vec<u8>],
    inputs: &[Vec<u8>],
    outputs: &[Vec<u8>],
) -> Vec<u8> {
    let fields = |field: u64, messages: &[Vec<u8>]| {
        let fields = messages.iter().map(|message| bytes(field, message));
        fields.collect::<Vec<_>>().concat()
    };
    let graph = [
        fields(1, nodes),
        bytes(2, "graph"),
        fields(5, tensors),
        fields(11, inputs),
        fields(12, outputs),
    ];
    let operators = [bytes(1, ""), number(2, 13)].concat();
    [number(1, 8), bytes(7, graph.concat()), bytes(8, operators)].concat()
}

pub fn node(operator: &str, inputs: &[&str], output: &str, attributes: &[Vec<u8>]) -> Vec<u8> {
    let inputs = inputs.iter().map(|input| bytes(1, input));
    let attributes = attributes.iter().map(|attribute| bytes(5, attribute));
    [
        inputs.collect::<Vec<_>>().concat(),
        bytes(2, output),
        bytes(3, format!("{operator}_{output}")),
        bytes(4, operator),
        attributes.collect::<Vec<_>>().concat(),
    ]
    .concat()
}

pub fn int(name: &str, value: i64) -> Vec<u8> {
    [bytes(1, name), number(3, value), number(20, 2)].concat()
}

pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let values = values.iter().map(|value| number(8, *value));
    [
        bytes(1, name),
        values.collect::<Vec<_>>().concat(),
        number(20, 7),
    ]
    .concat()
}

fn tensor(name: &str, kind: u64, dims: &[i64], data: Vec<u8>) -> Vec<u8> {
    let dims = dims.iter().map(|size| number(1, *size));
    [
        dims.collect::<Vec<_>>().concat(),
        number(2, kind as i64),
        bytes(8, name),
        data,
    ]
    .concat()
}

pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    let raw: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    tensor(name, FLOAT, dims, bytes(9, raw))
}

pub fn integers(name: &str, dims: &[i64], values: &[i64]) -> Vec<u8> {
    let raw: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    tensor(name, INT64, dims, bytes(9, raw))
}

/// A tensor whose values lie in another file.
pub fn external(name: &str, dims: &[i64], location: &str) -> Vec<u8> {
    let entry = [bytes(1, "location"), bytes(2, location)].concat();
    tensor(
        name,
        FLOAT,
        dims,
        [bytes(13, entry), number(14, 1)].concat(),
    )
}

/// An input or output; -1 for an axis of any size.
pub fn value(name: &str, kind: u64, dims: &[i64]) -> Vec<u8> {
    let dims = dims.iter().map(|&size| match size {
        -1 => bytes(1, bytes(2, "any")),
        size => bytes(1, number(1, size)),
    });
    let shape = dims.collect::<Vec<_>>().concat();
    let tensor = [number(1, kind as i64), bytes(2, shape)].concat();
    [bytes(1, name), bytes(2, bytes(1, tensor))].concat()
}
