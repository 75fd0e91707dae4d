//! Every family is recognised and decoded on the CPU as numpy decodes it, and implausible outputs are told.

mod any_outputs;
mod cases;
mod hostile;

use std::collections::BTreeSet;

use cases::{Case, cases};
use gstrsdetectnet::Detection;
use gstrsdetectnet::decode::families::ENTRIES;
use gstrsdetectnet::decode::{Filter, HostDecoder, Selection, SizeLimits};
use gstrsdetectnet::engine::Tensor;

/// Decodes one frame.
fn decode(
    decoder: &mut HostDecoder,
    case: &Case,
    values: &[Vec<f32>],
    selection: &Selection,
) -> Vec<Detection> {
    let shapes = case.shapes();
    let outputs: Vec<_> = shapes
        .iter()
        .zip(values)
        .map(|(shape, data)| Tensor { shape, data })
        .collect();
    let mut detections = Vec::new();
    decoder
        .decode(&outputs, &case.placement, selection, &mut detections)
        .unwrap_or_else(|error| panic!("{}: {error}", case.name));
    detections
}

fn decoder(case: &Case) -> HostDecoder {
    HostDecoder::new(case.layout.clone(), case.input, &case.specs)
}

fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

#[test]
fn every_family_is_recognized_and_its_boxes_are_those_of_numpy() {
    let mut families = BTreeSet::new();
    for case in cases() {
        assert_eq!(case.layout.family, case.family, "{}", case.name);
        let mut decoder = decoder(&case);
        // The second frame uses what the first one left behind.
        for _ in 0..2 {
            case.assert_found(&decode(&mut decoder, &case, &case.values, &case.selection));
        }
        assert_eq!(decoder.diagnosis(), None, "{}", case.name);
        families.insert(case.family.entry().name);
    }
    let all: BTreeSet<_> = ENTRIES.iter().map(|entry| entry.name).collect();
    assert_eq!(families, all, "a family has no case");
}

#[test]
fn readme_has_the_table_of_families() {
    let readme = include_str!("../../README.md");
    for entry in ENTRIES {
        let row = entry.markdown();
        assert!(readme.contains(&row), "README lacks the line\n{row}");
    }
}

#[test]
fn outputs_of_other_shapes_than_promised_are_an_error_with_the_shape() {
    let case = case("yolov8");
    let mut decoder = decoder(&case);
    let outputs = [Tensor {
        shape: &[1, 6, 64],
        data: &[0.0; 384],
    }];
    let error = decoder
        .decode(&outputs, &case.placement, &case.selection, &mut Vec::new())
        .unwrap_err()
        .to_string();
    assert!(error.contains("output0 of shape [1, 6, 64]"), "{error}");
    assert!(error.contains("yolov8 with 3 classes"), "{error}");
}

#[test]
fn outputs_shorter_than_their_shape_are_an_error() {
    let case = case("yolov5");
    let mut decoder = decoder(&case);
    let outputs = [Tensor {
        shape: &[1, 192, 8],
        data: &[0.0; 100],
    }];
    let decoded = decoder.decode(&outputs, &case.placement, &case.selection, &mut Vec::new());
    assert!(decoded.is_err());
}

/// The diagnosis after so many frames with values that `change` has spoilt.
fn diagnosis(name: &str, frames: usize, change: impl Fn(&mut Vec<Vec<f32>>)) -> Option<String> {
    let case = case(name);
    let mut values = case.values.clone();
    change(&mut values);
    let mut decoder = decoder(&case);
    for _ in 0..frames {
        decode(&mut decoder, &case, &values, &case.selection);
    }
    let told = decoder.diagnosis();
    assert_eq!(decoder.diagnosis(), None, "it is told once");
    told
}

#[test]
fn implausible_outputs_are_told_with_their_likely_cause() {
    let sound = diagnosis("yolov8", 20, |_| {});
    assert_eq!(sound, None);
    let told = |name: &str, frames: usize, change: &dyn Fn(&mut Vec<Vec<f32>>)| {
        diagnosis(name, frames, change).unwrap_or_default()
    };
    let nan = told("yolov8", 1, &|values| values[0].fill(f32::NAN));
    assert!(
        nan.contains("not numbers") && nan.contains("precision=fp32"),
        "{nan}"
    );
    let silent = |values: &mut Vec<Vec<f32>>| values[0].fill(0.0);
    assert_eq!(diagnosis("yolov8", 5, silent), None);
    let zero = told("yolov8", 20, &silent);
    assert!(
        zero.contains("every score") && zero.contains("is 0"),
        "{zero}"
    );
    let logits = told("yolov8", 1, &|values| values[0][4 * 64..].fill(7.5));
    assert!(logits.contains("above 1"), "{logits}");
    let negative = told("yolov8", 1, &|values| values[0][4 * 64..].fill(-3.0));
    assert!(
        negative.contains("below 0") && negative.contains("activation=sigmoid"),
        "{negative}"
    );
    let boxes = told("yolov8", 1, &|values| values[0][..64].fill(f32::NAN));
    assert!(boxes.contains("not numbers"), "{boxes}");
    let far = told("yolov8", 1, &|values| values[0][..64].fill(4000.0));
    assert!(far.contains("far outside"), "{far}");
    let class = told("torchvision", 1, &|values| values[1].fill(77.0));
    assert!(class.contains("beyond the 5 that are known"), "{class}");
    let units = told("yolov5", 2, &|values| {
        for row in values[0].chunks_mut(8) {
            row[..4].iter_mut().for_each(|v| *v /= 64.0);
        }
    });
    assert!(units.contains("smaller than two pixels"), "{units}");
}

#[test]
fn boxes_of_other_sizes_than_wanted_are_left_out_before_suppression() {
    let case = case("yolov5");
    let all = decode(&mut decoder(&case), &case, &case.values, &case.selection);
    let sizes = SizeLimits {
        smallest: 20.0,
        largest: 60.0,
    };
    let filter = Filter {
        sizes,
        ..Filter::NONE
    };
    let selection = Selection {
        filter,
        ..case.selection.clone()
    };
    let some = decode(&mut decoder(&case), &case, &case.values, &selection);
    assert!(!some.is_empty() && some.len() < all.len());
    for found in &some {
        let (width, height) = (found.bounding_box.width, found.bounding_box.height);
        assert!(
            width.min(height) >= 20.0 && width.max(height) <= 60.0,
            "{found:?}"
        );
    }
}

#[test]
fn class_agnostic_suppression_leaves_no_overlap_of_any_classes() {
    let case = case("yolov8");
    let mut selection = case.selection.clone();
    let per_class = decode(&mut decoder(&case), &case, &case.values, &selection);
    selection.filter.class_agnostic = true;
    let agnostic = decode(&mut decoder(&case), &case, &case.values, &selection);
    assert!(agnostic.len() < per_class.len());
    for (i, a) in agnostic.iter().enumerate() {
        for b in &agnostic[..i] {
            assert!(a.bounding_box.iou(&b.bounding_box) <= selection.iou_threshold);
        }
    }
}
