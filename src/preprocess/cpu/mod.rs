//! Preprocessing of frames in system memory, on one core, by the rules of [`super`].

mod aligned;
mod area;
#[cfg(target_arch = "x86_64")]
mod avx2;
pub(crate) mod bilinear;
pub(crate) mod grid;
pub(crate) mod kernel;
mod padding;
mod prefetch;
mod sampler;
pub(crate) mod taps;

use super::color::ColorTransform;
use super::{InputGeometry, Placement, Preparation, Shrinking, TensorLayout};
use crate::frame::{PixelFormat, SystemFrame};
use kernel::{Component, Finish, InstructionSet, Scratch, Target};
use sampler::Sampler;

/// A number that an input tensor is made of.
pub trait TensorElement: Copy + Default + 'static {
    fn from_f32(value: f32) -> Self;
}

impl TensorElement for f32 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        value
    }
}

/// The lowest byte of the nearest integer, halves to even, for magnitudes below 2^22: the sum's unit is one, so
/// that the integer is in its lowest bits. Rust's saturating conversions are not made vector instructions.
#[inline(always)]
fn nearest(value: f32) -> u8 {
    const UNIT_IS_ONE: f32 = 1.5 * 8_388_608.0;
    (value + UNIT_IS_ONE).to_bits() as u8
}

/// Rounded to nearest, halves to even; saturating.
impl TensorElement for u8 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        nearest(value.clamp(0.0, 255.0))
    }
}

/// Rounded to nearest, halves to even; saturating.
impl TensorElement for i8 {
    #[inline(always)]
    fn from_f32(value: f32) -> Self {
        nearest(value.clamp(-128.0, 127.0)) as i8
    }
}

/// What the tables depend on.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    format: PixelFormat,
    placement: Placement,
}

/// Turns frames into input tensors. Keeps what it computed for a frame's format and size for the next
/// frame, so that it allocates only when these change.
#[derive(Debug)]
pub struct Preprocessor {
    input: InputGeometry,
    preparation: Preparation,
    shrinking: Shrinking,
    instructions: InstructionSet,
    shape: Option<Shape>,
    samplers: Vec<Sampler>,
    scratch: Scratch,
}

impl Preprocessor {
    pub fn new(input: InputGeometry, preparation: Preparation, shrinking: Shrinking) -> Self {
        Self {
            input,
            preparation,
            shrinking,
            instructions: InstructionSet::detect(),
            shape: None,
            samplers: Vec::new(),
            scratch: Scratch::new(0),
        }
    }

    /// Writes every element of `tensor` (three channels of the input's height and width, in its layout)
    /// and says where the frame's picture lies in it. A frame without pixels leaves padding only.
    ///
    /// # Panics
    /// If `tensor` does not have `3 * height * width` elements.
    pub fn run<T: TensorElement>(
        &mut self,
        frame: &SystemFrame<'_>,
        tensor: &mut [T],
    ) -> Placement {
        let InputGeometry { width, height, .. } = self.input;
        assert_eq!(
            tensor.len(),
            3 * width * height,
            "a {width}x{height} input tensor has three channels"
        );
        let placement = Placement::new(
            self.preparation.resize,
            self.input,
            frame.width,
            frame.height,
        );
        if frame.width == 0 || frame.height == 0 || tensor.is_empty() {
            padding::fill_all(self.input.layout, &self.preparation, tensor);
            return placement;
        }
        padding::fill_around(self.input, &self.preparation, &placement, tensor);
        self.fit(Shape {
            format: frame.format,
            placement,
        });
        let finish = self.finish(frame);
        for y in 0..placement.height {
            for sampler in &mut self.samplers {
                sampler.sample(frame, &placement, y, self.instructions);
            }
            let target = row_of_picture(tensor, self.input, &placement, y);
            self.instructions.finish_row(
                components(&self.samplers),
                &finish,
                &mut self.scratch,
                target,
            );
        }
        placement
    }

    /// Makes the tables fit a frame.
    fn fit(&mut self, shape: Shape) {
        if self.shape != Some(shape) {
            self.samplers.clear();
            self.samplers.extend(
                grid::grids(shape.format)
                    .iter()
                    .map(|grid| Sampler::new(grid, &shape.placement, self.shrinking)),
            );
            self.scratch = Scratch::new(shape.placement.width);
            self.shape = Some(shape);
        }
        for sampler in &mut self.samplers {
            sampler.begin_frame();
        }
    }

    /// What makes tensor values of samples, by the tensor's channels.
    fn finish(&self, frame: &SystemFrame<'_>) -> [Finish; 3] {
        let Preparation {
            order, mean, scale, ..
        } = self.preparation;
        let color = ColorTransform::new(frame.format, frame.colorimetry).in_order(order);
        [0, 1, 2].map(|channel| Finish {
            matrix: color.matrix[channel],
            offset: color.offset[channel],
            mean: mean[channel],
            scale: scale[channel],
        })
    }
}

/// What the current output row is made of, in the order of the colour transform's columns; none where a format has no
/// samples of a component: the transform gives it no weight.
fn components(samplers: &[Sampler]) -> [Option<Component<'_>>; 3] {
    let mut components = [None; 3];
    for sampler in samplers {
        for (position, (component, _)) in sampler.grid().components().enumerate() {
            components[component] = Some(sampler.component(position));
        }
    }
    components
}

/// The part of the tensor that a row of the frame's picture goes to.
fn row_of_picture<'a, T>(
    tensor: &'a mut [T],
    input: InputGeometry,
    placement: &Placement,
    y: usize,
) -> Target<'a, T> {
    let start = (placement.top + y) * input.width + placement.left;
    let picture = start..start + placement.width;
    match input.layout {
        TensorLayout::Nchw => {
            let (first, rest) = tensor.split_at_mut(input.width * input.height);
            let (second, third) = rest.split_at_mut(input.width * input.height);
            Target::Planar([first, second, third].map(|channel| &mut channel[picture.clone()]))
        }
        TensorLayout::Nhwc => Target::Interleaved(&mut tensor.as_chunks_mut().0[picture]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Colorimetry;
    use crate::frame::system::Plane;
    use crate::preprocess::{ChannelOrder, ResizeMode};

    #[test]
    fn the_instruction_set_does_not_change_a_bit_of_the_tensor() {
        let noise: Vec<u8> = (0..4 * 131 * 77u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let preparation = Preparation {
            resize: ResizeMode::Stretch,
            order: ChannelOrder::Rgb,
            mean: [123.7, 116.3, 103.5],
            scale: [0.017, 0.018, 0.019],
        };
        for format in [
            PixelFormat::Nv12,
            PixelFormat::I420,
            PixelFormat::P010,
            PixelFormat::Uyvy,
            PixelFormat::Rgb,
            PixelFormat::Argb,
        ] {
            let planes = [0, 1, 2].map(|plane| Plane {
                data: &noise,
                stride: format.plane_size(plane, 131, 77).0,
            });
            let frame = SystemFrame::new(format, Colorimetry::default(), 131, 77, planes)
                .expect("the noise is long enough for every plane");
            for (width, height) in [(37, 29), (18, 50), (203, 101), (5, 1)] {
                let input = InputGeometry {
                    width,
                    height,
                    layout: TensorLayout::Nchw,
                };
                let mut tensors = [(); 2].map(|()| vec![0f32; 3 * width * height]);
                for shrinking in [Shrinking::Bilinear, Shrinking::Average] {
                    let mut best = Preprocessor::new(input, preparation, shrinking);
                    let mut baseline = Preprocessor::new(input, preparation, shrinking);
                    baseline.instructions = InstructionSet::Baseline;
                    best.run(&frame, &mut tensors[0]);
                    baseline.run(&frame, &mut tensors[1]);
                    assert_eq!(tensors[0], tensors[1]);
                }
            }
        }
    }
}
