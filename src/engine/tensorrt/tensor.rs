//! The inputs and outputs of an engine.

use super::error::TensorRtError;
use super::shim::{MAX_RANK, ShimTensor};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    F32,
    F16,
    U8,
    I8,
    I32,
    I64,
    Bool,
}

impl DataType {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F16 => 2,
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::I64 => 8,
        }
    }

    /// Numbers of `nvinfer1::DataType` (NvInferRuntimeBase.h), the same in all releases.
    fn from_tensorrt(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::I8,
            3 => Self::I32,
            4 => Self::Bool,
            5 => Self::U8,
            8 => Self::I64,
            _ => return None,
        })
    }
}

/// An input or output of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    /// Sizes of the axes, the first the batch. -1 is dynamic: the batch, or, in an output, what follows from
    /// the input; [`super::Context::shape`] has the values of a batch. Other dynamic axes of an input have the size
    /// the engine was optimised for.
    pub shape: Vec<i64>,
    pub data_type: DataType,
    pub is_input: bool,
}

impl TensorSpec {
    /// From what the shim says of a tensor, with the ranges of the profile whose size of images counts.
    pub(super) fn new(name: String, tensor: &ShimTensor) -> Result<Self, TensorRtError> {
        let unusable = |why: &str| TensorRtError::Load(format!("tensor {name} {why}"));
        let rank = usize::try_from(tensor.rank)
            .ok()
            .filter(|rank| (1..=MAX_RANK).contains(rank))
            .ok_or_else(|| unusable("has no shape"))?;
        let data_type = DataType::from_tensorrt(tensor.data_type)
            .ok_or_else(|| unusable("has an element type that rsdetectnet does not know"))?;
        if tensor.is_plain == 0 {
            return Err(unusable(
                "is not a plain row-major tensor on the device; build the engine without special input formats",
            ));
        }
        let is_input = tensor.is_input != 0;
        let mut shape = tensor.dimensions[..rank].to_vec();
        if is_input {
            for (axis, size) in shape.iter_mut().enumerate().skip(1) {
                if *size < 0 {
                    *size = tensor.optimum[axis];
                }
            }
        }
        Ok(Self {
            name,
            shape,
            data_type,
            is_input,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image_input() -> ShimTensor {
        let mut tensor = ShimTensor::empty();
        tensor.is_input = 1;
        tensor.is_plain = 1;
        tensor.rank = 4;
        tensor.dimensions[..4].copy_from_slice(&[-1, 3, -1, -1]);
        tensor.minimum[..4].copy_from_slice(&[1, 3, 320, 320]);
        tensor.optimum[..4].copy_from_slice(&[8, 3, 640, 640]);
        tensor.maximum[..4].copy_from_slice(&[16, 3, 1280, 1280]);
        tensor
    }

    #[test]
    fn a_dynamic_input_keeps_its_batch_open_and_takes_the_optimised_size() {
        let tensor = TensorSpec::new("images".into(), &image_input()).unwrap();
        assert_eq!(tensor.shape, [-1, 3, 640, 640]);
        assert_eq!(tensor.data_type, DataType::F32);
    }

    #[test]
    fn an_output_keeps_every_dynamic_axis() {
        let mut tensor = image_input();
        tensor.is_input = 0;
        tensor.data_type = 8;
        let tensor = TensorSpec::new("boxes".into(), &tensor).unwrap();
        assert_eq!(tensor.shape, [-1, 3, -1, -1]);
        assert_eq!(tensor.data_type, DataType::I64);
    }

    #[test]
    fn a_tensor_that_cannot_be_used_is_named() {
        let mut special = image_input();
        special.is_plain = 0;
        let mut unknown = image_input();
        unknown.data_type = 6;
        for (tensor, reason) in [(special, "row-major"), (unknown, "element type")] {
            let error = TensorSpec::new("images".into(), &tensor).unwrap_err();
            let sentence = error.to_string();
            assert!(sentence.contains("tensor images"), "{sentence}");
            assert!(sentence.contains(reason), "{sentence}");
        }
    }
}
