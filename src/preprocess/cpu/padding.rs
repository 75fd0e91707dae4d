//! What the tensor holds where the frame's picture is not.

use super::TensorElement;
use crate::preprocess::{InputGeometry, Placement, Preparation, ResizeMode, TensorLayout};

/// The padding by channel: the letterbox's grey, or black, prepared as pixels are.
fn values<T: TensorElement>(preparation: &Preparation) -> [T; 3] {
    let grey = match preparation.resize {
        ResizeMode::Letterbox { fill, .. } => f32::from(fill),
        ResizeMode::Stretch | ResizeMode::Crop => 0.0,
    };
    [0, 1, 2]
        .map(|channel| T::from_f32((grey - preparation.mean[channel]) * preparation.scale[channel]))
}

/// Pads the whole tensor.
pub fn fill_all<T: TensorElement>(
    layout: TensorLayout,
    preparation: &Preparation,
    tensor: &mut [T],
) {
    let values = values(preparation);
    match layout {
        TensorLayout::Nchw => {
            let channel_size = (tensor.len() / 3).max(1);
            for (channel, value) in tensor.chunks_exact_mut(channel_size).zip(values) {
                channel.fill(value);
            }
        }
        TensorLayout::Nhwc => tensor.as_chunks_mut().0.fill(values),
    }
}

/// Pads the tensor around the frame's picture.
pub fn fill_around<T: TensorElement>(
    input: InputGeometry,
    preparation: &Preparation,
    placement: &Placement,
    tensor: &mut [T],
) {
    if (placement.width, placement.height) == (input.width, input.height) {
        return;
    }
    let values: [T; 3] = values(preparation);
    match input.layout {
        TensorLayout::Nchw => {
            let channels = tensor.chunks_exact_mut(input.width * input.height);
            for (channel, value) in channels.zip(values) {
                fill_channel(input, placement, channel, value);
            }
        }
        TensorLayout::Nhwc => {
            fill_channel(input, placement, tensor.as_chunks_mut().0, values);
        }
    }
}

fn fill_channel<E: Copy>(input: InputGeometry, placement: &Placement, channel: &mut [E], value: E) {
    let picture_rows = placement.top..placement.top + placement.height;
    for (y, row) in channel.chunks_exact_mut(input.width).enumerate() {
        if picture_rows.contains(&y) {
            row[..placement.left].fill(value);
            row[placement.left + placement.width..].fill(value);
        } else {
            row.fill(value);
        }
    }
}
