//! Bounds what a file may cost to decode, before anything is allocated for it.
//!
//! An empty message takes two bytes in the file and hundreds in memory. Here the wire format is walked without
//! decoding it (<https://protobuf.dev/programming-guides/encoding/>), and messages and fields are counted.

use super::OnnxError;

/// The most that a protobuf file may hold.
pub const MAX_BYTES: usize = i32::MAX as usize;
/// A graph of 5,000 nodes has about 50,000 messages.
const MAX_MESSAGES: usize = 500_000;
const MAX_FIELDS: usize = 8_000_000;
/// The depth at which prost gives up too.
const MAX_DEPTH: usize = 100;

/// The messages of `onnx.proto` that hold others. The rest are `Leaf`.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Annotation,
    Node,
    NodeDevices,
    Sharding,
    ShardedDimension,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    ElementType,
    MapType,
    Shape,
    Leaf,
}

impl Message {
    /// The message that the field `number` of this one holds; none where it is a string, bytes or numbers.
    fn field(self, number: u64) -> Option<Self> {
        use Message::*;
        Some(match (self, number) {
            (Model, 7) | (Training, 1 | 2) | (Attribute, 6 | 11) => Graph,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Function, 7) | (Graph, 1) => Node,
            (Function, 11) | (Node, 5) => Attribute,
            (Function, 12) | (Graph, 11..=13) => ValueInfo,
            (Graph, 5) | (Attribute, 5 | 10) | (SparseTensor, 1 | 2) => Tensor,
            (Graph, 15) | (Attribute, 22 | 23) => SparseTensor,
            (Graph, 14) => Annotation,
            (Node, 10) => NodeDevices,
            (NodeDevices, 2) => Sharding,
            (Sharding, 4) => ShardedDimension,
            (Attribute, 14 | 15) | (ValueInfo, 2) | (ElementType, 1) | (MapType, 2) => Type,
            (Type, 1 | 8) => TensorType,
            (Type, 4 | 9) => ElementType,
            (Type, 5) => MapType,
            (TensorType, 2) => Shape,
            (Model, 8 | 14 | 26)
            | (Training, 3 | 4)
            | (Function, 9 | 14)
            | (Graph, 16)
            | (Annotation, 2)
            | (Node, 9)
            | (Sharding, 3)
            | (ShardedDimension, 2)
            | (Tensor, 3 | 13 | 16)
            | (ValueInfo, 4)
            | (Type, 7)
            | (Shape, 1) => Leaf,
            _ => return None,
        })
    }
}

/// Refuses a file for its size in bytes, before it is read.
pub fn check_size(bytes: usize) -> Result<(), OnnxError> {
    match bytes > MAX_BYTES {
        true => Err(OnnxError::TooLarge("2 GiB")),
        false => Ok(()),
    }
}

/// Refuses what would take more memory or stack to decode than any real model does.
pub fn check(bytes: &[u8]) -> Result<(), OnnxError> {
    check_size(bytes.len())?;
    let mut walk = Walk {
        messages: 0,
        fields: 0,
    };
    walk.message(Reader(bytes), Message::Model, 0)
}

struct Walk {
    messages: usize,
    fields: usize,
}

impl Walk {
    fn message(
        &mut self,
        mut reader: Reader,
        message: Message,
        depth: usize,
    ) -> Result<(), OnnxError> {
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            return Err(OnnxError::TooLarge("500,000 nodes, tensors and attributes"));
        }
        if depth > MAX_DEPTH {
            return Err(OnnxError::TooLarge("100 levels of nesting"));
        }
        while !reader.0.is_empty() {
            self.fields += 1;
            if self.fields > MAX_FIELDS {
                return Err(OnnxError::TooLarge("8,000,000 fields"));
            }
            let (number, payload) = reader.field()?;
            if let (Some(payload), Some(inner)) = (payload, message.field(number)) {
                self.message(payload, inner, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// What is still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// A field's number, and its bytes where it is length-delimited.
    fn field(&mut self) -> Result<(u64, Option<Reader<'a>>), OnnxError> {
        let key = self.varint()?;
        let payload = match key & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = self.varint()?;
                Some(Reader(self.take(length)?))
            }
            5 => self.take(4).map(|_| None)?,
            _ => return Err(malformed("a field is of no known kind")),
        };
        Ok((key >> 3, payload))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], OnnxError> {
        let parts = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length));
        let (taken, rest) = parts.ok_or_else(|| malformed("it ends in the middle"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(malformed("a number is too long"))
    }
}

fn malformed(reason: &str) -> OnnxError {
    OnnxError::Malformed(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of wire type 2 around `payload`.
    fn delimited(number: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = payload.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_megabyte_of_empty_nodes_is_refused() {
        let nodes = delimited(1, &[]).repeat(600_000);
        let error = check(&delimited(7, &nodes)).unwrap_err();
        assert!(matches!(error, OnnxError::TooLarge(_)), "{error}");
    }

    #[test]
    fn graphs_within_graphs_without_end_are_refused() {
        let mut graph = Vec::new();
        for _ in 0..60 {
            graph = delimited(1, &delimited(5, &delimited(6, &graph)));
        }
        let error = check(&delimited(7, &graph)).unwrap_err();
        assert!(matches!(error, OnnxError::TooLarge(_)), "{error}");
    }

    #[test]
    fn a_field_longer_than_the_file_is_refused() {
        let error = check(&[7 << 3 | 2, 200, 1, 0]).unwrap_err();
        assert!(matches!(error, OnnxError::Malformed(_)), "{error}");
    }

    #[test]
    fn bytes_that_hold_no_messages_are_not_walked_into() {
        // The payload of initializer.raw_data would be a field of no known kind.
        let tensor = delimited(9, &[0xff; 300]);
        check(&delimited(7, &delimited(5, &tensor))).unwrap();
    }
}
