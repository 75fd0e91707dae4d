//! Lists of detections that the network has made itself: one output each for boxes, scores, classes and their number.

use super::evidence::Evidence;
use super::{Family, Match, PIXELS, Shapes, Sureness};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Plan, Scores, Source, Suppression, View,
};
use crate::preprocess::TensorLayout;

/// Roles of the outputs, in the order of [`super::Layout`]'s.
const BOXES: usize = 0;
const SCORES: usize = 1;
const CLASSES: usize = 2;
const NUMBER: usize = 3;

/// The outputs by names such as `detection_boxes`, `num_dets`, `det_classes`, `pred_scores`, `labels`; the number may
/// be missing.
fn by_names(evidence: &Evidence<'_>) -> Option<Vec<usize>> {
    let four = |i: usize| {
        let shape = &evidence.outputs[i].shape;
        shape.last() == Some(&4) && shape.len() >= 2
    };
    let boxes = (0..evidence.outputs.len()).find(|&i| {
        four(i)
            && evidence.outputs[i]
                .name
                .to_ascii_lowercase()
                .contains("box")
            && !evidence.outputs[i]
                .name
                .to_ascii_lowercase()
                .contains("raw")
    })?;
    let list = |words: &[&str]| {
        let axes = evidence.outputs[boxes].shape.len() - 1;
        evidence.outputs.iter().position(|output| {
            let name = output.name.to_ascii_lowercase();
            output.shape.len() == axes && words.iter().any(|word| name.contains(word))
        })
    };
    let mut outputs = vec![boxes, list(&["score", "conf"])?, list(&["class", "label"])?];
    outputs.extend(evidence.named(&["num"]));
    Some(outputs)
}

fn of(evidence: &Evidence<'_>, outputs: &[usize], sureness: Sureness) -> Option<Match> {
    let boxes = evidence.outputs.get(outputs[BOXES])?;
    (boxes.shape.last() == Some(&4)).then(|| Match::open(sureness, outputs))
}

pub fn tf_detection(evidence: &Evidence<'_>) -> Option<Match> {
    let outputs = by_names(evidence)?;
    let three_axes = evidence.floats::<3>(outputs[BOXES]).is_some();
    let fits = three_axes
        && outputs.len() == 4
        && !evidence.is_integer(outputs[CLASSES])
        && evidence.outputs[outputs[BOXES]].name.contains("detection");
    (fits || evidence.is_decoder(Family::TfDetection))
        .then(|| of(evidence, &outputs, Sureness::Certain))
        .flatten()
        .map(Match::with_background)
}

/// By names of the converter, or else in the order of TensorFlow Lite: boxes, classes, scores, number.
pub fn tflite_detection(evidence: &Evidence<'_>) -> Option<Match> {
    let numbered =
        |suffix: &str| evidence.called_exactly(&format!("TFLite_Detection_PostProcess{suffix}"));
    let named = match [numbered(""), numbered(":1"), numbered(":2"), numbered(":3")] {
        [Some(boxes), Some(classes), Some(scores), Some(number)] => {
            Some([boxes, scores, classes, number])
        }
        _ => None,
    };
    let outputs = match named {
        Some(outputs) => outputs,
        None if evidence.is_decoder(Family::TfLiteDetection) && evidence.outputs.len() == 4 => {
            [0, 2, 1, 3]
        }
        None => return None,
    };
    of(evidence, &outputs, Sureness::Certain)
}

/// With a number of detections and classes as integers.
fn with_integers(evidence: &Evidence<'_>, family: Family, channels_last: bool) -> Option<Match> {
    let outputs = by_names(evidence)?;
    let integers = outputs.len() == 4
        && evidence.is_integer(outputs[CLASSES])
        && evidence.is_integer(outputs[NUMBER]);
    let likely = (evidence.input.layout == TensorLayout::Nhwc) == channels_last;
    ((integers && likely) || evidence.is_decoder(family))
        .then(|| of(evidence, &outputs, Sureness::Certain))
        .flatten()
}

pub fn efficient_nms(evidence: &Evidence<'_>) -> Option<Match> {
    with_integers(evidence, Family::EfficientNms, false)
}

pub fn efficientdet(evidence: &Evidence<'_>) -> Option<Match> {
    with_integers(evidence, Family::EfficientDet, true)
}

pub fn rt_detr(evidence: &Evidence<'_>) -> Option<Match> {
    let outputs = by_names(evidence)?;
    let fits = evidence.has_input("orig_target_sizes");
    (fits || evidence.is_decoder(Family::RtDetr))
        .then(|| of(evidence, &outputs[..NUMBER], Sureness::Certain))
        .flatten()
}

pub fn torchvision(evidence: &Evidence<'_>) -> Option<Match> {
    let outputs = by_names(evidence)?;
    let flat = evidence.floats::<2>(outputs[BOXES]).is_some();
    let fits = flat && evidence.is_integer(outputs[CLASSES]) && evidence.outputs.len() >= 3;
    (fits || (flat && evidence.is_decoder(Family::Torchvision)))
        .then(|| of(evidence, &outputs[..NUMBER], Sureness::Certain))
        .flatten()
        .map(Match::with_background)
}

/// Boxes [N,K,4] or [K,4], scores and classes [N,K] or [K].
fn plan(shapes: &Shapes<'_>, scale: [f32; 2], vertical_first: bool) -> Option<Plan> {
    let detections = match (shapes.sizes(BOXES), shapes.sizes(BOXES)) {
        (Some([_, detections, 4]), _) => detections,
        (_, Some([detections, 4])) => detections,
        _ => return None,
    };
    let list = |role: usize| Some(View::rows(shapes.output(role)?, detections, 1, 0));
    let scores = Scores {
        view: list(SCORES)?,
        classes: 1,
        activation: Activation::None,
        background: None,
        objectness: None,
        class: ClassOf::Output(list(CLASSES)?),
    };
    let boxes = View::rows(shapes.output(BOXES)?, detections, 4, 0);
    let boxes = Boxes {
        vertical_first,
        ..Boxes::plain(boxes, BoxFormat::Corners, scale)
    };
    let number = shapes.output(NUMBER).map(|output| View {
        output,
        image_stride: 1,
        ..View::default()
    });
    let source = Source {
        count: number,
        ..Source::new(detections, 1, scores, boxes)
    };
    Some(Plan::new(source, Suppression::None))
}

pub fn plan_tf_detection(shapes: &Shapes<'_>) -> Option<Plan> {
    plan(shapes, shapes.input_size(), true)
}

pub fn plan_efficient_nms(shapes: &Shapes<'_>) -> Option<Plan> {
    plan(shapes, PIXELS, false)
}

pub fn plan_efficientdet(shapes: &Shapes<'_>) -> Option<Plan> {
    plan(shapes, shapes.input_size(), true)
}

pub fn plan_rt_detr(shapes: &Shapes<'_>) -> Option<Plan> {
    plan(shapes, PIXELS, false)
}

pub fn plan_torchvision(shapes: &Shapes<'_>) -> Option<Plan> {
    plan(shapes, PIXELS, false)
}
