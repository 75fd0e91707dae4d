//! Decoding on the CPU: a [`Plan`] carried out on output tensors in memory.

mod values;

use self::values::{arg_max, before_sigmoid, box_of, class_number, greatest, sigmoid};
use super::nms::{Candidate, Rules, suppress};
use super::plan::{Activation, Boxes, ClassOf, Plan, Prior, Source, View};
use super::{MAX_CANDIDATES, Selection, Signs};
use crate::detection::{BoundingBox, Detection};
use crate::engine::Tensor;
use crate::preprocess::Placement;

/// Candidates whose scores lie in planes are looked through in blocks of so many.
const BLOCK: usize = 256;

/// Memory that is used again for each frame.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    candidates: Vec<Candidate>,
}

/// A plan asks for values that an output does not have: the output's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort(pub usize);

/// What one pass over a source needs.
struct Pass<'a> {
    source: &'a Source,
    outputs: &'a [Tensor<'a>],
    selection: &'a Selection,
    placement: &'a Placement,
    /// Added to the number of each candidate.
    first_index: usize,
    /// No score below this, as the network returns it, can be wanted.
    least_score: f32,
    /// No objectness below this can be wanted.
    least_objectness: f32,
    /// Cells that count.
    cells: usize,
}

/// Replaces `detections` by those that the first image of the outputs holds, best first, in pixels of the frame and
/// within it. Returns what speaks against the plan.
pub fn decode(
    plan: &Plan,
    outputs: &[Tensor<'_>],
    placement: &Placement,
    selection: &Selection,
    scratch: &mut Scratch,
    detections: &mut Vec<Detection>,
) -> Result<Signs, TooShort> {
    detections.clear();
    let candidates = &mut scratch.candidates;
    candidates.clear();
    let mut signs = Signs::default();
    let mut first_index = 0;
    for source in &plan.sources {
        if source.candidates() == 0 {
            continue;
        }
        check(source, outputs)?;
        let mut pass = Pass::new(source, outputs, placement, selection);
        pass.first_index = first_index;
        pass.run(candidates, &mut signs);
        first_index += source.candidates();
    }
    let order = |a: &Candidate, b: &Candidate| {
        b.confidence
            .total_cmp(&a.confidence)
            .then(a.index.cmp(&b.index))
    };
    if candidates.len() > MAX_CANDIDATES {
        candidates.select_nth_unstable_by(MAX_CANDIDATES, order);
        candidates.truncate(MAX_CANDIDATES);
    }
    candidates.sort_unstable_by(order);
    let rules = Rules {
        suppression: plan.suppression,
        filter: selection.filter,
        threshold: selection.iou_threshold,
        max_detections: selection.max_detections,
        thresholds: &selection.thresholds,
    };
    suppress(candidates, &rules);
    let frame = (placement.frame_width as f32, placement.frame_height as f32);
    detections.extend(candidates.iter().map(|c| c.detection(frame)));
    Ok(signs)
}

/// That every value of the source lies within its output.
fn check(source: &Source, outputs: &[Tensor<'_>]) -> Result<(), TooShort> {
    let (cell, anchor) = (source.cells - 1, source.anchors - 1);
    for (view, values) in source.views() {
        let last = view.at(cell, anchor, values.max(1) - 1);
        match outputs.get(view.output) {
            Some(output) if last < output.data.len() => {}
            _ => return Err(TooShort(view.output)),
        }
    }
    Ok(())
}

impl<'a> Pass<'a> {
    fn new(
        source: &'a Source,
        outputs: &'a [Tensor<'a>],
        placement: &'a Placement,
        selection: &'a Selection,
    ) -> Self {
        let least = selection.least_threshold();
        let scores = &source.scores;
        let raw = |sigmoid: bool| {
            if sigmoid {
                before_sigmoid(least)
            } else {
                least
            }
        };
        Self {
            source,
            outputs,
            selection,
            placement,
            first_index: 0,
            least_score: match scores.activation {
                // The softmax depends on the other scores too.
                Activation::Softmax => f32::NEG_INFINITY,
                activation => raw(activation == Activation::Sigmoid),
            },
            least_objectness: raw(scores.objectness.is_some_and(|(_, sigmoid)| sigmoid)),
            cells: source.cells.min(listed(source, outputs)),
        }
    }

    fn value(&self, view: View, cell: usize, anchor: usize, value: usize) -> f32 {
        self.outputs[view.output].data[view.at(cell, anchor, value)]
    }

    fn run(&self, candidates: &mut Vec<Candidate>, signs: &mut Signs) {
        let view = self.source.scores.view;
        let mut keep = |cell, anchor, score, class| {
            self.keep(cell, anchor, score, class, candidates, signs);
        };
        if view.value_stride == 1 || self.source.scores.classes == 1 {
            self.look_through_rows(&mut keep);
        } else {
            self.look_through_planes(&mut keep);
        }
        self.sample(signs);
    }

    /// Scores are at most 1, so that the objectness alone rules most candidates out.
    fn may_be_something(&self, cell: usize, anchor: usize) -> bool {
        self.source.scores.objectness.is_none_or(|(view, _)| {
            let objectness = self.value(view, cell, anchor, 0);
            objectness > self.least_objectness
        })
    }

    /// Candidates whose scores are neighbours.
    fn look_through_rows(&self, keep: &mut impl FnMut(usize, usize, f32, usize)) {
        let scores = &self.source.scores;
        let data = self.outputs[scores.view.output].data;
        for cell in 0..self.cells {
            for anchor in 0..self.source.anchors {
                if !self.may_be_something(cell, anchor) {
                    continue;
                }
                let first = scores.view.at(cell, anchor, 0);
                let row = &data[first..first + scores.classes];
                if greatest(row) > self.least_score {
                    let (class, score) = arg_max(row);
                    keep(cell, anchor, score, class);
                }
            }
        }
    }

    /// Candidates whose scores lie in one plane for each class.
    fn look_through_planes(&self, keep: &mut impl FnMut(usize, usize, f32, usize)) {
        let Source {
            scores, anchors, ..
        } = self.source;
        let data = self.outputs[scores.view.output].data;
        let mut best = [0.0f32; BLOCK];
        for anchor in 0..*anchors {
            for start in (0..self.cells).step_by(BLOCK) {
                let best = &mut best[..BLOCK.min(self.cells - start)];
                best.fill(f32::NEG_INFINITY);
                for class in 0..scores.classes {
                    let first = scores.view.at(start, anchor, class);
                    if scores.view.cell_stride == 1 {
                        for (best, &score) in best.iter_mut().zip(&data[first..]) {
                            *best = if score > *best { score } else { *best };
                        }
                    } else {
                        let strided = data[first..].iter().step_by(scores.view.cell_stride);
                        for (best, &score) in best.iter_mut().zip(strided) {
                            *best = if score > *best { score } else { *best };
                        }
                    }
                }
                for (i, &score) in best.iter().enumerate() {
                    let cell = start + i;
                    if score > self.least_score && self.may_be_something(cell, anchor) {
                        let at = |class| data[scores.view.at(cell, anchor, class)];
                        let class = (0..scores.classes).find(|&class| at(class) == score);
                        keep(cell, anchor, score, class.unwrap_or_default());
                    }
                }
            }
        }
    }

    /// Makes a candidate of the greatest score of an anchor, if it is wanted.
    fn keep(
        &self,
        cell: usize,
        anchor: usize,
        score: f32,
        class: usize,
        candidates: &mut Vec<Candidate>,
        signs: &mut Signs,
    ) {
        let scores = &self.source.scores;
        let mut confidence = match scores.activation {
            Activation::None => score,
            Activation::Sigmoid => sigmoid(score),
            Activation::Softmax => self.softmax(cell, anchor, score),
        };
        if let Some((view, needs_sigmoid)) = scores.objectness {
            let objectness = self.value(view, cell, anchor, 0);
            confidence *= match needs_sigmoid {
                true => sigmoid(objectness),
                false => objectness,
            };
        }
        let class = match scores.class {
            ClassOf::Score { first } => Some(first + class),
            ClassOf::Anchor => Some(anchor),
            ClassOf::Output(view) => class_number(self.value(view, cell, anchor, 0)),
        };
        let known = self.selection.thresholds.len();
        let Some(class) = class.filter(|class| *class < known) else {
            signs.unknown_class |= confidence > self.selection.least_threshold();
            return;
        };
        if !self.selection.wants(class, confidence) || !self.is_peak(cell, anchor, score, class) {
            return;
        }
        if confidence == f32::INFINITY {
            signs.not_a_number = true;
            return;
        }
        signs.above_one |= confidence > Signs::HIGHEST_CONFIDENCE;
        let index = cell * self.source.anchors + anchor;
        let Some(in_input) = self.read_box(cell, anchor, index) else {
            return;
        };
        signs.look_at(&in_input, self.placement);
        let in_frame = self.placement.to_frame(in_input);
        let (width, height) = (
            self.placement.frame_width as f32,
            self.placement.frame_height as f32,
        );
        let angle = self.source.boxes.angle;
        let angle = angle.map(|view| self.value(view, cell, anchor, 0));
        let bounding_box = match angle {
            // A turned box is what the network says; its centre must lie within the frame.
            Some(angle) => Some(in_frame)
                .filter(|b| {
                    let (x, y) = (b.x + b.width / 2.0, b.y + b.height / 2.0);
                    (0.0..=width).contains(&x) && (0.0..=height).contains(&y) && angle.is_finite()
                })
                .unwrap_or_default(),
            None => in_frame.clipped_to(width, height),
        };
        let (shorter, longer) = (
            bounding_box.width.min(bounding_box.height),
            bounding_box.width.max(bounding_box.height),
        );
        if shorter > 0.0 && self.selection.filter.sizes.contains(shorter, longer) {
            candidates.push(Candidate {
                index: (self.first_index + index) as u32,
                class_id: class as u32,
                confidence,
                bounding_box,
                angle,
            });
        }
    }

    /// The probability of a candidate's greatest score.
    fn softmax(&self, cell: usize, anchor: usize, score: f32) -> f32 {
        let scores = &self.source.scores;
        let background = scores.background;
        let background = background.map(|view| self.value(view, cell, anchor, 0));
        // Against the background alone the probability would be greater still: no sum of many is needed.
        if let Some(background) = background
            && sigmoid(score - background) <= self.selection.least_threshold()
        {
            return 0.0;
        }
        let all = (0..scores.classes).map(|class| self.value(scores.view, cell, anchor, class));
        let sum: f32 = all
            .chain(background)
            .map(|other| (other - score).exp())
            .sum();
        1.0 / sum
    }

    /// Whether no neighbour of the cell has a greater score of the class.
    fn is_peak(&self, cell: usize, anchor: usize, score: f32, class: usize) -> bool {
        let Some(columns) = self.source.peaks else {
            return true;
        };
        let rows = self.source.cells / columns;
        let (column, row) = (cell % columns, cell / columns);
        let view = self.source.scores.view;
        (row.saturating_sub(1)..=(row + 1).min(rows - 1)).all(|row| {
            (column.saturating_sub(1)..=(column + 1).min(columns - 1)).all(|column| {
                let other = self.value(view, row * columns + column, anchor, class);
                other.is_nan() || other <= score
            })
        })
    }

    fn read_box(&self, cell: usize, anchor: usize, index: usize) -> Option<BoundingBox> {
        let boxes = &self.source.boxes;
        let mut values = match boxes.bins {
            1 => {
                let value = |view, i| self.value(view, cell, anchor, i);
                [
                    value(boxes.points, 0),
                    value(boxes.points, 1),
                    value(boxes.extents, 0),
                    value(boxes.extents, 1),
                ]
            }
            bins => [0, 1, 2, 3].map(|side| self.mean_of_bins(cell, anchor, side * bins)),
        };
        if boxes.vertical_first {
            values = [values[1], values[0], values[3], values[2]];
        }
        let [width, height] = boxes.scale;
        let prior = match &boxes.priors {
            Some(priors) => *priors.get(index)?,
            None => Prior {
                step_x: width,
                step_y: height,
                width,
                height,
                ..Prior::default()
            },
        };
        Some(box_of(boxes, values, &prior))
    }

    /// The mean of the distribution that starts at this value: the network's scores of 0, 1, 2, …
    fn mean_of_bins(&self, cell: usize, anchor: usize, first: usize) -> f32 {
        let Boxes { bins, points, .. } = self.source.boxes;
        let score = |bin| self.value(points, cell, anchor, first + bin);
        let highest = (0..bins).map(score).fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut weighted) = (0.0, 0.0);
        for bin in 0..bins {
            let weight = (score(bin) - highest).exp();
            sum += weight;
            weighted += bin as f32 * weight;
        }
        weighted / sum
    }

    /// Looks for what a network that works never returns: the first score of every candidate is enough for that.
    fn sample(&self, signs: &mut Signs) {
        let scores = &self.source.scores;
        let view = scores.objectness.map_or(scores.view, |(view, _)| view);
        let data = self.outputs[view.output].data;
        let activated = scores.activation != Activation::None;
        let probable = match scores.objectness {
            Some((_, needs_sigmoid)) => !needs_sigmoid,
            None => !activated,
        };
        // What comes after the end of a list is often -1.
        let probable = probable && self.source.count.is_none() && self.source.end.is_none();
        for anchor in 0..self.source.anchors {
            let first = view.at(0, anchor, 0);
            let all = data[first..].iter().step_by(view.cell_stride.max(1));
            let (mut not_a_number, mut something, mut below_zero) = (false, activated, false);
            for &score in all.take(self.cells) {
                not_a_number |= score.is_nan();
                something |= score != 0.0;
                below_zero |= score < Signs::LOWEST_CONFIDENCE;
            }
            signs.not_a_number |= not_a_number;
            signs.something |= something;
            signs.below_zero |= below_zero && probable;
        }
    }
}

/// Cells before the end of a list.
fn listed(source: &Source, outputs: &[Tensor<'_>]) -> usize {
    let count = source.count.map_or(usize::MAX, |view| {
        let count = outputs[view.output].data[view.offset];
        if count > 0.0 { count as usize } else { 0 }
    });
    let end = source.end.and_then(|view| {
        let data = outputs[view.output].data;
        (0..source.cells).find(|&cell| data[view.at(cell, 0, 0)] < 0.0)
    });
    count.min(end.unwrap_or(usize::MAX))
}
