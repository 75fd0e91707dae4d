//! The optimisation profiles of an engine, as the batches that they take.

use std::ops::RangeInclusive;

use super::error::TensorRtError;
use super::shim::ShimTensor;
use super::tensor::TensorSpec;

/// A profile that takes images of the engine's size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Profile {
    pub index: i32,
    pub batches: RangeInclusive<u32>,
}

impl Profile {
    /// Whether it takes batches of one size alone.
    pub fn is_for_one(&self) -> bool {
        self.batches.start() == self.batches.end()
    }
}

/// The profile with the fewest other batches that takes this one.
pub(super) fn find(profiles: &[Profile], batch: u32) -> Option<&Profile> {
    profiles
        .iter()
        .filter(|profile| profile.batches.contains(&batch))
        .min_by_key(|profile| profile.batches.end() - profile.batches.start())
}

/// As [`find`]; the error names the batches that there are.
pub(super) fn require(profiles: &[Profile], batch: u32) -> Result<&Profile, TensorRtError> {
    find(profiles, batch).ok_or_else(|| {
        let taken: Vec<String> = profiles
            .iter()
            .map(|profile| range(&profile.batches))
            .collect();
        TensorRtError::Run(format!(
            "it takes batches of {}, not {batch}",
            taken.join(", ")
        ))
    })
}

fn range(batches: &RangeInclusive<u32>) -> String {
    match (batches.start(), batches.end()) {
        (least, most) if least == most => least.to_string(),
        (least, most) => format!("{least} to {most}"),
    }
}

/// Smallest and largest batch of an input in a profile; nothing where its images are of another size there.
pub(super) fn batches_of(spec: &TensorSpec, tensor: &ShimTensor) -> (i64, i64) {
    let mut sizes = (1..).zip(spec.shape.iter().skip(1));
    let fits = sizes.all(|(axis, size): (usize, &i64)| {
        (tensor.minimum[axis]..=tensor.maximum[axis]).contains(size)
    });
    if fits {
        (tensor.minimum[0], tensor.maximum[0])
    } else {
        (1, 0)
    }
}

/// The batches that every input takes.
pub(super) fn common_batches(
    inputs: &[(String, (i64, i64))],
) -> Result<RangeInclusive<u32>, TensorRtError> {
    let smallest = inputs.iter().map(|(_, (least, _))| *least).max();
    let largest = inputs.iter().map(|(_, (_, most))| *most).min();
    let range = smallest.zip(largest).and_then(|(smallest, largest)| {
        let range = u32::try_from(smallest).ok()?..=u32::try_from(largest).ok()?;
        (*range.start() >= 1 && !range.is_empty()).then_some(range)
    });
    range.ok_or_else(|| {
        let seen: Vec<String> = inputs
            .iter()
            .map(|(name, (least, most))| format!("{name} takes {least} to {most}"))
            .collect();
        TensorRtError::Load(format!(
            "its inputs have no batch in common ({})",
            seen.join(", ")
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tensor::DataType;
    use super::*;

    fn profile(index: i32, batches: RangeInclusive<u32>) -> Profile {
        Profile { index, batches }
    }

    #[test]
    fn the_profile_made_for_fewest_other_batches_runs_a_batch() {
        let profiles = [profile(0, 1..=1), profile(1, 1..=8), profile(2, 4..=4)];
        let found = |batch| find(&profiles, batch).map(|profile| profile.index);
        assert_eq!([1, 3, 4, 9].map(found), [Some(0), Some(1), Some(2), None]);
        let is_for_one = |batch| find(&profiles, batch).map(Profile::is_for_one);
        assert_eq!([1, 3, 4].map(is_for_one), [true, false, true].map(Some));
        let refused = require(&profiles, 9).unwrap_err().to_string();
        assert!(
            refused.contains("batches of 1, 1 to 8, 4, not 9"),
            "{refused}"
        );
    }

    #[test]
    fn a_profile_for_images_of_another_size_takes_no_batch() {
        let spec = TensorSpec {
            name: "images".into(),
            shape: vec![-1, 3, 640, 640],
            data_type: DataType::F32,
            is_input: true,
        };
        let mut tensor = ShimTensor::empty();
        tensor.minimum[..4].copy_from_slice(&[2, 3, 320, 320]);
        tensor.maximum[..4].copy_from_slice(&[8, 3, 640, 640]);
        assert_eq!(batches_of(&spec, &tensor), (2, 8));
        tensor.maximum[3] = 480;
        let batches = batches_of(&spec, &tensor);
        assert!(common_batches(&[("images".into(), batches)]).is_err());
    }

    #[test]
    fn the_batches_of_an_engine_are_those_all_inputs_take() {
        let input = |name: &str, least, most| (name.to_owned(), (least, most));
        let dynamic = [input("images", 1, 8), input("sizes", 2, 16)];
        assert_eq!(common_batches(&dynamic).unwrap(), 2..=8);
        assert_eq!(common_batches(&[input("images", 1, 1)]).unwrap(), 1..=1);
        let disjoint = [input("images", 1, 2), input("sizes", 4, 4)];
        let sentence = common_batches(&disjoint).unwrap_err().to_string();
        assert!(sentence.contains("sizes takes 4 to 4"), "{sentence}");
    }
}
