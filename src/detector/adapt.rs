//! Fits a model to what it is fed here: pictures of one size and of three channels.

use super::description::Description;
use super::{DetectorOptions, LoadError};
use crate::model::onnx::{ImageInput, Model};

/// The larger sides are a mistake.
const LARGEST_SIDE: usize = 16384;
/// No detector was trained on pictures as small as this: an exporter wrote down what it traced the network with.
const PLACEHOLDER_SIDE: usize = 32;

/// Fixes the size of a model's input where it is open, as the user, the description or the metadata wants it, and has
/// models for grey pictures take colours. A size that the model states is open as well where another is wanted, or that
/// can not be meant, and its graph is the same for all. Says whether the model was changed.
pub(super) fn adapt(
    model: &mut Model,
    known: &mut Description,
    options: &DetectorOptions,
) -> Result<bool, LoadError> {
    let Some(mut image) = model.image_input() else {
        // What is wrong with its inputs is said with all of them.
        return Ok(false);
    };
    if is_in_question(&image, options.input_size) && model.open_image_size() {
        (image.width, image.height) = (None, None);
    }
    let is_open = image.width.is_none() || image.height.is_none();
    match (options.input_size, image.width, image.height) {
        (Some(wanted), Some(width), Some(height)) if wanted != (width, height) => {
            return Err(LoadError::FixedSize {
                wanted: format!("{}x{}", wanted.0, wanted.1),
                size: format!("{width}x{height}"),
            });
        }
        _ if is_open => {
            let size = options.input_size.or(known.input_size());
            let (width, height) = size.ok_or(LoadError::OpenSize)?;
            let sides = 1..=LARGEST_SIDE;
            if !sides.contains(&width) || !sides.contains(&height) {
                return Err(LoadError::OpenSize);
            }
            model.fix_image_size(width, height);
        }
        _ => {}
    }
    known.is_grey = model.take_colors()?;
    Ok(is_open || known.is_grey)
}

/// Whether the size that a model states is not the one that it is to be run with.
fn is_in_question(image: &ImageInput, wanted: Option<(usize, usize)>) -> bool {
    let (Some(width), Some(height)) = (image.width, image.height) else {
        return false;
    };
    let other = wanted.is_some_and(|wanted| wanted != (width, height));
    let several = image.batch.is_some_and(|batch| batch > 1);
    other || several || width.max(height) <= PLACEHOLDER_SIDE
}
