//! Has a graph take pictures of one size and of three channels, whatever it leaves open, or grey pictures.

use super::proto::tensor_shape_proto::dimension::Value as DimensionValue;
use super::proto::type_proto::Value as TypeValue;
use super::proto::{GraphProto, TensorShapeProto, ValueInfoProto};
use super::{Dimension, ElementType, Model, OnnxError, TensorInfo, fed_inputs, node, tensor};

/// Grey of red, green and blue (ITU-R BT.601-7, and OpenCV's `cvtColor`).
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// What a graph says of the picture that it takes. None where a size is left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageInput {
    pub name: String,
    pub width: Option<usize>,
    pub height: Option<usize>,
    /// 1 or 3.
    pub channels: usize,
    /// How many pictures it takes at once, where that is written down.
    pub batch: Option<usize>,
    /// `[N,C,H,W]`, else `[N,H,W,C]`.
    channels_first: bool,
}

impl ImageInput {
    fn of(info: &TensorInfo) -> Option<Self> {
        let [batch, a, b, c] = info.shape.as_deref()? else {
            return None;
        };
        let is = |dimension: &Dimension, channels| *dimension == Dimension::Fixed(channels);
        let (channels, channels_first) = [(3, true), (3, false), (1, true), (1, false)]
            .into_iter()
            .find(|&(channels, first)| is(if first { a } else { c }, channels))?;
        let (height, width) = if channels_first { (b, c) } else { (a, b) };
        let size = |dimension: &Dimension| match dimension {
            Dimension::Fixed(size) => Some(*size),
            Dimension::Dynamic(_) => None,
        };
        Some(Self {
            name: info.name.clone(),
            width: size(width),
            height: size(height),
            batch: size(batch),
            channels,
            channels_first,
        })
    }

    /// `[N,C,H,W]`, not `[N,H,W,C]`.
    pub(super) fn is_channels_first(&self) -> bool {
        self.channels_first
    }

    /// The positions of height, width and channels among the axes.
    fn axes(&self) -> (usize, usize, usize) {
        if self.channels_first {
            (2, 3, 1)
        } else {
            (1, 2, 3)
        }
    }
}

impl Model {
    /// The input that is a picture with an axis for a batch, if there is one and no other.
    pub fn image_input(&self) -> Option<ImageInput> {
        let inputs = self.inputs();
        let mut images = inputs.iter().filter_map(ImageInput::of);
        let image = images.next()?;
        images.next().is_none().then_some(image)
    }

    /// Has the graph take pictures of this size where it leaves that open. Sizes that it states stay.
    pub fn fix_image_size(&mut self, width: usize, height: usize) {
        let Some(image) = self.image_input() else {
            return;
        };
        let (rows, columns, _) = image.axes();
        if let Some(shape) = shape_of(self.proto.graph.as_mut(), &image.name) {
            for (axis, known, size) in [(rows, image.height, height), (columns, image.width, width)]
            {
                if known.is_none() {
                    set_size(shape, axis, size);
                }
            }
        }
    }

    /// Has a graph for grey pictures take red, green and blue ones, under another input's name: their luma is what it
    /// took. Says whether it was such a graph.
    ///
    /// # Errors
    /// [`OnnxError::GreyInput`] where the picture is not of float32.
    pub fn take_colors(&mut self) -> Result<bool, OnnxError> {
        let Some(image) = self.image_input().filter(|image| image.channels == 1) else {
            return Ok(false);
        };
        let info = self.inputs().into_iter().find(|i| i.name == image.name);
        if info.is_none_or(|info| info.element_type != ElementType::Float) {
            return Err(OnnxError::GreyInput(image.name));
        }
        let Some(mut graph) = self.proto.graph.clone() else {
            return Ok(false);
        };
        let mut names = node::all_names(&graph);
        let colors = node::unique(&mut names, format!("{}_colors", image.name));
        let weights = node::unique(&mut names, format!("{}_luma", image.name));
        let (operator, dims) = match image.channels_first {
            true => ("Conv", vec![1, 3, 1, 1]),
            false => ("MatMul", vec![3, 1]),
        };
        let luma = tensor::from_floats(weights.clone(), dims, &LUMA);
        graph.initializer.push(luma);
        let to_grey = node::simple(operator, vec![colors.clone(), weights], image.name.clone());
        graph.node.insert(0, to_grey);
        if let Some(shape) = shape_of(Some(&mut graph), &image.name) {
            set_size(shape, image.axes().2, 3);
        }
        let input = graph.input.iter_mut().find(|i| i.name() == image.name);
        if let Some(input) = input {
            input.name = Some(colors);
        }
        self.replace_graph(graph);
        Ok(true)
    }
}

/// The stated shape of an input.
fn shape_of<'a>(graph: Option<&'a mut GraphProto>, name: &str) -> Option<&'a mut TensorShapeProto> {
    let graph = graph?;
    debug_assert!(fed_inputs(graph).any(|input| input.name() == name));
    let input: &mut ValueInfoProto = graph.input.iter_mut().find(|i| i.name() == name)?;
    match input.r#type.as_mut()?.value.as_mut()? {
        TypeValue::TensorType(tensor) => tensor.shape.as_mut(),
        _ => None,
    }
}

fn set_size(shape: &mut TensorShapeProto, axis: usize, size: usize) {
    if let Some(dimension) = shape.dim.get_mut(axis) {
        dimension.value = Some(DimensionValue::DimValue(size as i64));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn model(name: &str) -> Model {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
        Model::parse(std::fs::read(folder.join(name)).unwrap()).unwrap()
    }

    /// With these sizes of the input's axes, some of them open.
    fn with_axes(mut model: Model, sizes: [Option<i64>; 4]) -> Model {
        let name = model.inputs()[0].name.clone();
        let shape = shape_of(model.proto.graph.as_mut(), &name).unwrap();
        for (dimension, size) in shape.dim.iter_mut().zip(sizes) {
            let open = DimensionValue::DimParam("open".into());
            dimension.value = Some(size.map_or(open, DimensionValue::DimValue));
        }
        model
    }

    #[test]
    fn open_sizes_are_fixed_and_stated_ones_stay() {
        let open = with_axes(model("colors-ssd.onnx"), [None, Some(3), None, Some(64)]);
        let image = open.image_input().unwrap();
        assert_eq!(
            (image.width, image.height, image.channels),
            (Some(64), None, 3)
        );
        let mut fixed = open.clone();
        fixed.fix_image_size(320, 192);
        let image = fixed.image_input().unwrap();
        assert_eq!((image.width, image.height), (Some(64), Some(192)));
        let open = with_axes(
            model("colors-ssd-nhwc-uint8.onnx"),
            [None, None, None, Some(3)],
        );
        let mut fixed = open.clone();
        fixed.fix_image_size(320, 192);
        let image = fixed.image_input().unwrap();
        assert_eq!((image.width, image.height), (Some(320), Some(192)));
    }

    #[test]
    fn a_graph_for_grey_takes_colours_under_another_name() {
        let mut grey = with_axes(
            model("colors-ssd.onnx"),
            [None, Some(1), Some(64), Some(64)],
        );
        assert!(grey.take_colors().unwrap());
        let image = grey.image_input().unwrap();
        assert_eq!((image.name.as_str(), image.channels), ("input_colors", 3));
        let graph = grey.proto.graph.as_ref().unwrap();
        assert_eq!(graph.node[0].op_type(), "Conv");
        assert_eq!(graph.node[0].output, ["input"]);
        assert!(!grey.take_colors().unwrap(), "it takes colours now");
        assert!(!model("colors-ssd.onnx").take_colors().unwrap());
    }

    #[test]
    fn grey_bytes_are_refused_by_name() {
        let sizes = [Some(1), Some(64), Some(64), Some(1)];
        let mut grey = with_axes(model("colors-ssd-nhwc-uint8.onnx"), sizes);
        let error = grey.take_colors().unwrap_err().to_string();
        assert!(
            error.contains("'input'") && error.contains("float32"),
            "{error}"
        );
    }
}
