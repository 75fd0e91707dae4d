//! Engines run a network: TensorRT on the GPU, ONNX Runtime on the CPU. Each is found at run time, none is linked.

pub mod onnxruntime;
pub mod tensorrt;

use std::fmt;

use crate::preprocess::{InputGeometry, TensorLayout};

/// The type of a tensor's elements, as far as this crate can feed or read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElementType {
    Float32,
    Float16,
    Uint8,
    Int8,
    Int32,
    Int64,
    /// Anything else, which no detector is known to use.
    Other,
}

/// Name, element type and shape of one of a network's inputs or outputs; -1 stands for a dimension that
/// the model leaves open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    pub element: ElementType,
    pub shape: Vec<i64>,
}

impl TensorSpec {
    /// The tensor as one image of three channels, of a size that the model fixes.
    pub fn image_geometry(&self) -> Option<InputGeometry> {
        const LARGEST_SIDE: i64 = 16384;
        let (layout, height, width) = match *self.shape {
            [3, height, width] | [_, 3, height, width] => (TensorLayout::Nchw, height, width),
            [_, height, width, 3] => (TensorLayout::Nhwc, height, width),
            _ => return None,
        };
        let sides = 1..=LARGEST_SIDE;
        (sides.contains(&height) && sides.contains(&width)).then_some(InputGeometry {
            width: width as usize,
            height: height as usize,
            layout,
        })
    }
}

impl fmt::Display for TensorSpec {
    /// `scores float32 [?,1917,24]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let element = match self.element {
            ElementType::Float32 => "float32",
            ElementType::Float16 => "float16",
            ElementType::Uint8 => "uint8",
            ElementType::Int8 => "int8",
            ElementType::Int32 => "int32",
            ElementType::Int64 => "int64",
            ElementType::Other => "other",
        };
        write!(f, "{} {element} [", self.name)?;
        for (i, dimension) in self.shape.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match dimension {
                0.. => write!(f, "{comma}{dimension}")?,
                _ => write!(f, "{comma}?")?,
            }
        }
        write!(f, "]")
    }
}

/// The values of an input besides the image, for each image of a batch: what exports of RT-DETR and PaddleDetection
/// want to know of the frame. They are told that it is as large as the network's input, so that their boxes are in
/// pixels of that. None where the input is another.
pub fn constant_input(spec: &TensorSpec, image: InputGeometry) -> Option<[f32; 2]> {
    let (width, height) = (image.width as f32, image.height as f32);
    let two = matches!(*spec.shape, [_, 2]);
    let values = match spec.name.as_str() {
        "orig_target_sizes" if spec.element == ElementType::Int64 => [width, height],
        "im_shape" if spec.element == ElementType::Float32 => [height, width],
        "scale_factor" if spec.element == ElementType::Float32 => [1.0, 1.0],
        _ => return None,
    };
    two.then_some(values)
}

/// The place of the image among the inputs, and its geometry, if the others are those of [`constant_input`].
pub fn image_among(inputs: &[TensorSpec]) -> Option<(usize, InputGeometry)> {
    let images = inputs
        .iter()
        .enumerate()
        .filter_map(|(i, input)| Some((i, input.image_geometry()?)));
    let [(image, geometry)] = images.collect::<Vec<_>>()[..] else {
        return None;
    };
    let others = inputs.iter().enumerate().filter(|(i, _)| *i != image);
    let mut others = others.map(|(_, input)| input);
    others
        .all(|input| constant_input(input, geometry).is_some())
        .then_some((image, geometry))
}

/// Several tensors in one sentence, for error messages.
pub fn describe(tensors: &[TensorSpec]) -> String {
    let described: Vec<_> = tensors.iter().map(TensorSpec::to_string).collect();
    match described.is_empty() {
        true => "nothing".into(),
        false => described.join("; "),
    }
}

/// One output of a run, as float32, in row-major order.
#[derive(Clone, Copy, Debug)]
pub struct Tensor<'a> {
    pub shape: &'a [i64],
    pub data: &'a [f32],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_is_described_with_name_type_and_shape() {
        let spec = TensorSpec {
            name: "scores".into(),
            element: ElementType::Float32,
            shape: vec![-1, 1917, 24],
        };
        assert_eq!(spec.to_string(), "scores float32 [?,1917,24]");
        assert_eq!(
            describe(&[spec.clone(), spec]),
            "scores float32 [?,1917,24]; scores float32 [?,1917,24]"
        );
        assert_eq!(describe(&[]), "nothing");
    }
}
