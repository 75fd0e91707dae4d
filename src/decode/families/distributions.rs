//! Networks that return a distribution for each side of a box (generalized focal loss): NanoDet and PicoDet.

use super::evidence::{Evidence, MORE_STRIDES, STRIDES};
use super::{Family, Match, PIXELS, Shapes, Sureness};
use crate::decode::plan::{
    Activation, BoxFormat, Boxes, ClassOf, Plan, Scores, Source, Suppression, View, grid_priors,
};

/// Bins of each side of NanoDet-Plus, 0 to 7.
const BINS: usize = 8;
const SIDES: usize = 4;

pub fn nanodet_plus(evidence: &Evidence<'_>) -> Option<Match> {
    let [_, candidates, row] = evidence.single()?;
    let classes = row - (SIDES * BINS) as i64;
    let fits =
        candidates == evidence.cells(&MORE_STRIDES) || evidence.is_decoder(Family::NanoDetPlus);
    (classes >= 1 && fits).then(|| Match::new(Sureness::Likely, classes as usize, &[0]))
}

pub fn nanodet(evidence: &Evidence<'_>) -> Option<Match> {
    separate(evidence, &STRIDES)
}

pub fn picodet(evidence: &Evidence<'_>) -> Option<Match> {
    separate(evidence, &MORE_STRIDES)
}

/// Scores of each stride, then distributions of each stride, whatever order the network has.
fn separate(evidence: &Evidence<'_>, strides: &[usize]) -> Option<Match> {
    if evidence.outputs.len() != 2 * strides.len() {
        return None;
    }
    let (mut scores, mut distributions) = (Vec::new(), Vec::new());
    for &stride in strides {
        let cells = evidence.cells(&[stride]);
        let of_stride = |&i: &usize| evidence.floats(i).is_some_and(|[_, c, _]| c == cells);
        let both: Vec<_> = (0..evidence.outputs.len()).filter(of_stride).collect();
        let [first, second] = *both.as_slice() else {
            return None;
        };
        // Scores come first unless the names say something else.
        let name = evidence.outputs[first].name.to_ascii_lowercase();
        let swapped = ["dis", "reg", "box"].iter().any(|word| name.contains(word));
        let (score, distribution) = if swapped {
            (second, first)
        } else {
            (first, second)
        };
        scores.push(score);
        distributions.push(distribution);
    }
    let last = |i: usize| evidence.floats(i).map_or(0, |[_, _, last]| last);
    let (classes, values) = (last(scores[0]), last(distributions[0]));
    let sides = SIDES as i64;
    let fits = classes >= 1
        && values % sides == 0
        && values > sides
        && scores.iter().all(|&i| last(i) == classes)
        && distributions.iter().all(|&i| last(i) == values);
    scores.extend(distributions);
    fits.then(|| Match::new(Sureness::Certain, classes as usize, &scores))
}

fn probabilities(view: View, classes: usize) -> Scores {
    Scores {
        view,
        classes,
        activation: Activation::None,
        background: None,
        objectness: None,
        class: ClassOf::Score { first: 0 },
    }
}

/// Distances from points that lie so many cells from a cell's left upper corner.
fn boxes(shapes: &Shapes<'_>, view: View, bins: usize, strides: &[usize], place: f32) -> Boxes {
    Boxes {
        bins,
        priors: Some(grid_priors(shapes.input, strides, place)),
        ..Boxes::plain(view, BoxFormat::Distances, PIXELS)
    }
}

pub fn plan_nanodet_plus(shapes: &Shapes<'_>) -> Option<Plan> {
    let [_, candidates, row] = shapes.sizes(0)?;
    let classes = shapes.layout.classes;
    let view = View::rows(shapes.output(0)?, candidates, row, 0);
    let boxes = boxes(shapes, view.skip(classes), BINS, &MORE_STRIDES, 0.0);
    let fits = row == classes + SIDES * BINS
        && boxes
            .priors
            .as_ref()
            .is_some_and(|priors| priors.len() == candidates);
    let source = Source::new(candidates, 1, probabilities(view, classes), boxes);
    fits.then(|| Plan::new(source, Suppression::PerClass))
}

pub fn plan_separate(shapes: &Shapes<'_>) -> Option<Plan> {
    let heads = shapes.layout.outputs.len() / 2;
    let sources = MORE_STRIDES[..heads]
        .iter()
        .enumerate()
        .map(|(head, &stride)| {
            let [_, cells, classes] = shapes.sizes(head)?;
            let [_, distributed, values] = shapes.sizes(heads + head)?;
            let scores = View::rows(shapes.output(head)?, cells, classes, 0);
            let view = View::rows(shapes.output(heads + head)?, cells, values, 0);
            let boxes = boxes(shapes, view, values / SIDES, &[stride], 0.5);
            let fits = classes == shapes.layout.classes
                && distributed == cells
                && boxes
                    .priors
                    .as_ref()
                    .is_some_and(|priors| priors.len() == cells);
            fits.then(|| Source::new(cells, 1, probabilities(scores, classes), boxes))
        });
    Some(Plan {
        sources: sources.collect::<Option<_>>()?,
        suppression: Suppression::PerClass,
    })
}
