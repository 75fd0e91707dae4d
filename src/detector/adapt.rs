//! Fits a model to what it is fed here: pictures of one size and of three channels.

use super::description::Description;
use super::{DetectorOptions, LoadError};
use crate::model::onnx::Model;

/// The larger sides are a mistake.
const LARGEST_SIDE: usize = 16384;

/// Fixes the size of a model's input where it is open, as the user, the description or the metadata wants it, and has
/// models for grey pictures take colours. Says whether the model was changed.
pub(super) fn adapt(
    model: &mut Model,
    known: &mut Description,
    options: &DetectorOptions,
) -> Result<bool, LoadError> {
    let Some(image) = model.image_input() else {
        // What is wrong with its inputs is said with all of them.
        return Ok(false);
    };
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
