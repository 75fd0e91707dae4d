//! Networks of the DETR kind without postprocessor: logits and boxes for each query.

use super::evidence::{Evidence, same};
use super::{Family, Match, Shapes, Sureness};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Plan, Scores, Source, Suppression, View,
};

/// Outputs with logits and boxes, in this order, and the number of logits.
fn logits_and_boxes(
    evidence: &Evidence<'_>,
    logits: &str,
    boxes: &str,
    family: Family,
) -> Option<([usize; 2], usize)> {
    let named = evidence.named(&[logits]).zip(evidence.named(&[boxes]));
    let (logits, boxes) = match named {
        Some(both) => both,
        None if evidence.is_decoder(family) && evidence.outputs.len() == 2 => {
            let boxes =
                (0..2).find(|&i| evidence.floats(i).is_some_and(|[_, _, four]| four == 4))?;
            (1 - boxes, boxes)
        }
        None => return None,
    };
    let [_, queries, four] = evidence.floats(boxes)?;
    let [_, scored, classes] = evidence.floats(logits)?;
    (four == 4 && same(queries, scored) && classes > 0)
        .then_some(([logits, boxes], classes as usize))
}

pub fn rt_detr(evidence: &Evidence<'_>) -> Option<Match> {
    let (outputs, logits) = logits_and_boxes(evidence, "logits", "boxes", Family::RtDetrRaw)?;
    Some(Match::new(Sureness::Certain, logits, &outputs))
}

pub fn detr(evidence: &Evidence<'_>) -> Option<Match> {
    let (outputs, logits) = logits_and_boxes(evidence, "logits", "boxes", Family::Detr)?;
    (logits > 1).then(|| Match::new(Sureness::Certain, logits - 1, &outputs))
}

pub fn rf_detr(evidence: &Evidence<'_>) -> Option<Match> {
    let (outputs, logits) = logits_and_boxes(evidence, "labels", "dets", Family::RfDetr)?;
    Some(Match::new(Sureness::Certain, logits, &outputs))
}

fn plan(shapes: &Shapes<'_>, activation: Activation) -> Option<Plan> {
    let [_, scored, logits] = shapes.sizes(0)?;
    let [_, queries, four] = shapes.sizes(1)?;
    let view = View::rows(shapes.output(0)?, queries, logits, 0);
    let classes = shapes.layout.classes;
    let no_object = usize::from(activation == Activation::Softmax);
    let scores = Scores {
        view,
        classes,
        activation,
        background: (no_object == 1).then(|| view.skip(classes)),
        objectness: None,
        class: ClassOf::Score { first: 0 },
    };
    let boxes = View::rows(shapes.output(1)?, queries, 4, 0);
    let boxes = Boxes::plain(boxes, BoxFormat::Centers, shapes.input_size());
    let source = Source::new(queries, 1, scores, boxes);
    (four == 4 && scored == queries && logits == classes + no_object)
        .then(|| Plan::new(source, Suppression::None))
}

pub fn plan_sigmoid(shapes: &Shapes<'_>) -> Option<Plan> {
    plan(shapes, Activation::Sigmoid)
}

pub fn plan_softmax(shapes: &Shapes<'_>) -> Option<Plan> {
    plan(shapes, Activation::Softmax)
}
