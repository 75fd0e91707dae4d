//! Greedy non-maximum suppression, per class.

use crate::detection::Detection;

/// Keeps the most confident detection of every heap of overlapping ones of the same class, best first:
/// one is dropped when its IoU with a kept one of its class is greater than `iou_threshold`. At most
/// `max_detections` stay. Equal confidences keep their order.
///
/// Sorting takes O(n log n); after that each detection is compared with at most `max_detections` others.
pub fn suppress(detections: &mut Vec<Detection>, iou_threshold: f32, max_detections: usize) {
    detections.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
    let mut kept = 0;
    for i in 0..detections.len() {
        if kept == max_detections {
            break;
        }
        let candidate = detections[i];
        let covered = detections[..kept].iter().any(|k| {
            k.class_id == candidate.class_id
                && k.bounding_box.iou(&candidate.bounding_box) > iou_threshold
        });
        if !covered {
            detections[kept] = candidate;
            kept += 1;
        }
    }
    detections.truncate(kept);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::BoundingBox;
    use proptest::prelude::*;

    fn detection(class_id: u32, confidence: f32, bounding_box: BoundingBox) -> Detection {
        Detection {
            class_id,
            confidence,
            bounding_box,
            object_id: None,
        }
    }

    /// Repeatedly takes the best of what remains and removes all that it covers: the definition, O(n²).
    fn brute_force(mut remaining: Vec<Detection>, iou: f32, max: usize) -> Vec<Detection> {
        let mut kept = Vec::new();
        while !remaining.is_empty() && kept.len() < max {
            let mut best = 0;
            for i in 1..remaining.len() {
                if remaining[i].confidence > remaining[best].confidence {
                    best = i;
                }
            }
            let winner = remaining.remove(best);
            remaining.retain(|d| {
                d.class_id != winner.class_id || d.bounding_box.iou(&winner.bounding_box) <= iou
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
        ) {
            let mut detections: Vec<_> = boxes
                .into_iter()
                .map(|(class, score, x, y, width, height)| {
                    detection(class, score as f32 / 50.0, BoundingBox { x, y, width, height })
                })
                .collect();
            let expected = brute_force(detections.clone(), iou, max);
            suppress(&mut detections, iou, max);
            prop_assert_eq!(detections, expected);
        }
    }

    #[test]
    fn classes_do_not_suppress_each_other() {
        let same = BoundingBox::from_corners(0.0, 0.0, 10.0, 10.0);
        let mut detections = vec![detection(0, 0.9, same), detection(1, 0.8, same)];
        suppress(&mut detections, 0.5, 100);
        assert_eq!(detections.len(), 2);
    }
}
