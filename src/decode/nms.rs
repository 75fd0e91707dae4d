//! Several boxes for one object: greedy non-maximum suppression, hard or soft, or clustering as DetectNet's networks
//! want it.

use super::Filter;
use super::plan::Suppression;
use crate::detection::{BoundingBox, Detection, OrientedBox};

/// A box of a network that passed its threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its number among all that the network returns.
    pub index: u32,
    pub class_id: u32,
    pub confidence: f32,
    /// In pixels of the frame; clipped to it unless the box is turned.
    pub bounding_box: BoundingBox,
    /// How far the box is turned clockwise about its centre, in radians.
    pub angle: Option<f32>,
}

impl Candidate {
    /// As what the element reports; a turned box as the upright one around it, clipped to the frame.
    pub fn detection(&self, (frame_width, frame_height): (f32, f32)) -> Detection {
        let oriented = self.angle.map(|angle| OrientedBox {
            rectangle: self.bounding_box,
            angle,
        });
        let upright = oriented.map(|oriented| oriented.bounding_box());
        let clipped = upright.map(|upright| upright.clipped_to(frame_width, frame_height));
        Detection {
            class_id: self.class_id,
            confidence: self.confidence,
            bounding_box: clipped.unwrap_or(self.bounding_box),
            object_id: None,
            oriented,
        }
    }
}

/// What [`suppress`] goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules<'a> {
    pub suppression: Suppression,
    pub filter: Filter,
    /// Boxes that overlap more than this are the same object.
    pub threshold: f32,
    pub max_detections: usize,
    /// What the confidence must exceed, by class.
    pub thresholds: &'a [f32],
}

impl Rules<'_> {
    /// Whether one can be the object of the other.
    fn comparable(&self, a: &Candidate, b: &Candidate) -> bool {
        self.filter.class_agnostic || a.class_id == b.class_id
    }

    /// Whether there are as many of a class as are wanted.
    fn has_enough(&self, kept: &[Candidate], class_id: u32) -> bool {
        let most = self.filter.most_of_class;
        most > 0 && kept.iter().filter(|k| k.class_id == class_id).count() >= most
    }
}

/// Keeps one candidate for each object. They come sorted, best first, and stay so; at most `max_detections` stay.
/// Each is compared with at most `max_detections` others.
pub fn suppress(candidates: &mut Vec<Candidate>, rules: &Rules) {
    if rules.suppression == Suppression::PerClass && rules.filter.soft_sigma > 0.0 {
        return soften(candidates, rules);
    }
    let mut kept = 0;
    for i in 0..candidates.len() {
        let (before, rest) = candidates.split_at_mut(i);
        let Some(candidate) = rest.first().copied() else {
            break;
        };
        let before = &mut before[..kept];
        let taken = match rules.suppression {
            Suppression::None => false,
            Suppression::PerClass => before.iter().any(|k| {
                rules.comparable(k, &candidate) && overlap(k, &candidate) > rules.threshold
            }),
            Suppression::Clusters => {
                let bounding_box = &candidate.bounding_box;
                let cluster = before.iter_mut().find(|k| {
                    rules.comparable(k, &candidate)
                        && share_of_larger(&k.bounding_box, bounding_box) > rules.threshold
                });
                if let Some(cluster) = cluster {
                    cluster.bounding_box = cluster.bounding_box.union(bounding_box);
                    true
                } else {
                    false
                }
            }
        };
        let full = kept == rules.max_detections;
        if full && rules.suppression != Suppression::Clusters {
            break;
        }
        if !taken && !full && !rules.has_enough(before, candidate.class_id) {
            candidates[kept] = candidate;
            kept += 1;
        }
    }
    candidates.truncate(kept);
}

/// Keeps the best, has it lower the confidence of what it overlaps, keeps the best of what is left, and so on.
fn soften(candidates: &mut Vec<Candidate>, rules: &Rules) {
    let mut kept = 0;
    while kept < rules.max_detections.min(candidates.len()) {
        let mut best = kept;
        for (i, candidate) in candidates.iter().enumerate().skip(kept + 1) {
            let (a, b) = (candidate, &candidates[best]);
            if a.confidence > b.confidence || (a.confidence == b.confidence && a.index < b.index) {
                best = i;
            }
        }
        // What is not wanted any more has no confidence.
        if candidates[best].confidence <= 0.0 {
            break;
        }
        candidates.swap(kept, best);
        let winner = candidates[kept];
        kept += 1;
        let (before, rest) = candidates.split_at_mut(kept);
        let enough = rules.has_enough(before, winner.class_id);
        for other in rest {
            if enough && other.class_id == winner.class_id {
                other.confidence = 0.0;
            } else if rules.comparable(&winner, other) {
                let overlap = overlap(&winner, other);
                let softened =
                    other.confidence * (-overlap * overlap / rules.filter.soft_sigma).exp();
                let threshold = rules.thresholds.get(other.class_id as usize);
                let wanted = threshold.is_some_and(|threshold| softened > *threshold);
                other.confidence = if wanted { softened } else { 0.0 };
            }
        }
    }
    candidates.truncate(kept);
}

/// How much two candidates are the same object, 0 to 1.
fn overlap(a: &Candidate, b: &Candidate) -> f32 {
    match (a.angle, b.angle) {
        (Some(angle_a), Some(angle_b)) => {
            probabilistic_iou((&a.bounding_box, angle_a), (&b.bounding_box, angle_b))
        }
        _ => a.bounding_box.iou(&b.bounding_box),
    }
}

/// The intersection as a part of the larger box's area.
fn share_of_larger(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let width = a.right().min(b.right()) - a.x.max(b.x);
    let height = a.bottom().min(b.bottom()) - a.y.max(b.y);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    width * height / a.area().max(b.area())
}

/// ProbIoU of two turned boxes: 1 less the Hellinger distance of the normal distributions that have their moments
/// (Llerena et al., "Probabilistic Intersection-over-Union", 2021), as YOLO's networks for such boxes are trained.
fn probabilistic_iou(a: (&BoundingBox, f32), b: (&BoundingBox, f32)) -> f32 {
    const EPSILON: f32 = 1e-7;
    /// Variances along x and y, and the covariance.
    fn moments((turned, angle): (&BoundingBox, f32)) -> (f32, f32, f32) {
        let (along, across) = (
            turned.width * turned.width / 12.0,
            turned.height * turned.height / 12.0,
        );
        let (sine, cosine) = angle.sin_cos();
        (
            along * cosine * cosine + across * sine * sine,
            along * sine * sine + across * cosine * cosine,
            (along - across) * sine * cosine,
        )
    }
    let ((xx_a, yy_a, xy_a), (xx_b, yy_b, xy_b)) = (moments(a), moments(b));
    let (xx, yy, xy) = (xx_a + xx_b, yy_a + yy_b, xy_a + xy_b);
    let x = (a.0.x - b.0.x) + (a.0.width - b.0.width) / 2.0;
    let y = (a.0.y - b.0.y) + (a.0.height - b.0.height) / 2.0;
    let determinant = xx * yy - xy * xy;
    let distance = 0.25 * (xx * y * y + yy * x * x - 2.0 * xy * x * y) / (determinant + EPSILON);
    let own = |xx: f32, yy: f32, xy: f32| (xx * yy - xy * xy).max(0.0);
    let spread = own(xx_a, yy_a, xy_a).sqrt() * own(xx_b, yy_b, xy_b).sqrt();
    let shape = 0.5 * (determinant / (4.0 * spread + EPSILON) + EPSILON).ln();
    let bhattacharyya = (distance + shape).clamp(EPSILON, 100.0);
    1.0 - (1.0 - (-bhattacharyya).exp() + EPSILON).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidate(
        index: u32,
        class_id: u32,
        confidence: f32,
        bounding_box: BoundingBox,
    ) -> Candidate {
        Candidate {
            index,
            class_id,
            confidence,
            bounding_box,
            angle: None,
        }
    }

    fn rules(suppression: Suppression, threshold: f32, max_detections: usize) -> Rules<'static> {
        Rules {
            suppression,
            filter: Filter::NONE,
            threshold,
            max_detections,
            thresholds: &[0.0, 0.25, 0.5],
        }
    }

    /// Repeatedly takes the best of what remains and removes all that it covers: the definition, O(n²).
    fn brute_force(mut remaining: Vec<Candidate>, rules: &Rules) -> Vec<Candidate> {
        let mut kept = Vec::new();
        while !remaining.is_empty() && kept.len() < rules.max_detections {
            let mut best = 0;
            for i in 1..remaining.len() {
                if remaining[i].confidence > remaining[best].confidence {
                    best = i;
                }
            }
            let winner = remaining.remove(best);
            remaining.retain(|d| {
                (d.class_id != winner.class_id && !rules.filter.class_agnostic)
                    || d.bounding_box.iou(&winner.bounding_box) <= rules.threshold
            });
            kept.push(winner);
        }
        kept
    }

    proptest! {
        #[test]
        fn suppression_equals_brute_force(
            boxes in prop::collection::vec(
                (0u32..3, 0u32..50, 0f32..100.0, 0f32..100.0, 0f32..60.0, 0f32..60.0), 0..120),
            iou in 0f32..1.0,
            max in 0usize..150,
            class_agnostic: bool,
        ) {
            let candidates: Vec<_> = boxes
                .into_iter()
                .zip(0..)
                .map(|((class, score, x, y, width, height), index)| {
                    let bounding_box = BoundingBox { x, y, width, height };
                    candidate(index, class, score as f32 / 50.0, bounding_box)
                })
                .collect();
            let mut rules = rules(Suppression::PerClass, iou, max);
            rules.filter.class_agnostic = class_agnostic;
            let expected = brute_force(candidates.clone(), &rules);
            let mut candidates = candidates;
            candidates.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
            suppress(&mut candidates, &rules);
            prop_assert_eq!(candidates, expected);
        }
    }

    #[test]
    fn classes_suppress_each_other_only_when_asked_to() {
        let same = BoundingBox::from_corners(0.0, 0.0, 10.0, 10.0);
        let both = vec![candidate(0, 0, 0.9, same), candidate(1, 1, 0.8, same)];
        let mut rules = rules(Suppression::PerClass, 0.5, 100);
        let mut kept = both.clone();
        suppress(&mut kept, &rules);
        assert_eq!(kept.len(), 2);
        rules.filter.class_agnostic = true;
        let mut kept = both;
        suppress(&mut kept, &rules);
        assert_eq!(kept.len(), 1);
    }

    #[test]
    fn of_a_class_no_more_stay_than_are_wanted() {
        let at = |x: f32| BoundingBox::from_corners(x, 0.0, x + 10.0, 10.0);
        let all = vec![
            candidate(0, 0, 0.9, at(0.0)),
            candidate(1, 0, 0.8, at(20.0)),
            candidate(2, 0, 0.7, at(40.0)),
            candidate(3, 1, 0.6, at(40.0)),
        ];
        for suppression in [
            Suppression::None,
            Suppression::PerClass,
            Suppression::Clusters,
        ] {
            let mut rules = rules(suppression, 0.5, 100);
            rules.filter.most_of_class = 2;
            // What is not kept suppresses nothing.
            rules.filter.class_agnostic = true;
            let mut kept = all.clone();
            suppress(&mut kept, &rules);
            let kept: Vec<_> = kept.iter().map(|k| k.index).collect();
            assert_eq!(kept, [0, 1, 3], "{suppression:?}");
        }
    }

    #[test]
    fn soft_suppression_lowers_confidences_by_the_overlap() {
        let at = |x: f32| BoundingBox::from_corners(x, 0.0, x + 10.0, 10.0);
        let all = vec![
            candidate(0, 1, 0.9, at(0.0)),
            // IoU 1/3 with the first, and 1/3 with the last.
            candidate(1, 1, 0.8, at(5.0)),
            candidate(2, 0, 0.75, at(0.0)),
            candidate(3, 1, 0.7, at(10.0)),
            // The same as the first: its 0.8 becomes 0.11, which is below the threshold of the class.
            candidate(4, 1, 0.8, at(0.0)),
        ];
        let mut rules = rules(Suppression::PerClass, 0.5, 100);
        rules.filter.soft_sigma = 0.5;
        let mut kept = all.clone();
        suppress(&mut kept, &rules);
        let third = |confidence: f32| confidence * (-(1.0f32 / 9.0) / 0.5).exp();
        let expected = [(0, 0.9), (2, 0.75), (3, 0.7), (1, third(third(0.8)))];
        assert_eq!(kept.len(), expected.len(), "{kept:?}");
        for (kept, (index, confidence)) in kept.iter().zip(expected) {
            assert!(
                kept.index == index && (kept.confidence - confidence).abs() < 1e-6,
                "{kept:?}"
            );
        }
        rules.filter.most_of_class = 1;
        let mut kept = all.clone();
        suppress(&mut kept, &rules);
        assert_eq!(kept.iter().map(|k| k.index).collect::<Vec<_>>(), [0, 2]);
        rules.filter.most_of_class = 0;
        rules.filter.class_agnostic = true;
        rules.max_detections = 2;
        let mut kept = all;
        suppress(&mut kept, &rules);
        assert_eq!(kept.iter().map(|k| k.index).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn clusters_grow_around_their_boxes_also_when_no_more_are_wanted() {
        let corners = BoundingBox::from_corners;
        let mut kept = vec![
            candidate(0, 0, 0.9, corners(0.0, 0.0, 10.0, 10.0)),
            candidate(1, 0, 0.8, corners(50.0, 0.0, 60.0, 10.0)),
            candidate(2, 0, 0.7, corners(1.0, 0.0, 11.0, 10.0)),
            candidate(3, 1, 0.6, corners(1.0, 0.0, 11.0, 10.0)),
        ];
        suppress(&mut kept, &rules(Suppression::Clusters, 0.75, 1));
        let wanted = candidate(0, 0, 0.9, corners(0.0, 0.0, 11.0, 10.0));
        assert_eq!(kept, [wanted]);
    }

    #[test]
    fn turned_boxes_overlap_by_their_turned_shapes() {
        let long = BoundingBox::from_center(50.0, 50.0, 80.0, 8.0);
        let quarter = std::f32::consts::FRAC_PI_2;
        let turned = BoundingBox::from_center(50.0, 50.0, 8.0, 80.0);
        assert!(probabilistic_iou((&long, 0.0), (&turned, quarter)) > 0.99);
        assert!(probabilistic_iou((&long, 0.0), (&long, quarter)) < 0.4);
        let oriented = OrientedBox {
            rectangle: long,
            angle: quarter,
        };
        let upright = oriented.bounding_box();
        assert!((upright.width - 8.0).abs() < 1e-3 && (upright.height - 80.0).abs() < 1e-3);
    }
}
