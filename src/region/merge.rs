//! What was found in the parts of a frame, put together.

use super::Part;
use crate::decode::Selection;
use crate::detection::{BoundingBox, Detection};

/// Boxes of which more of the smaller one is common are of one object.
const SAME_OBJECT: f32 = 0.5;

/// Replaces `detections` by what was found in the parts of a frame, in pixels of the frame, best first. `found` is by
/// part, in pixels of the part.
pub fn merge(
    parts: &[Part],
    found: &[Vec<Detection>],
    selection: &Selection,
    detections: &mut Vec<Detection>,
) {
    let mut all: Vec<(usize, Detection)> = Vec::with_capacity(found.iter().map(Vec::len).sum());
    for (index, (part, found)) in parts.iter().zip(found).enumerate() {
        let in_frame = found.iter().map(|detection| moved(*detection, part));
        let counting = in_frame.filter(|detection| part.contains(&detection.bounding_box));
        all.extend(counting.map(|detection| (index, detection)));
    }
    // Equally confident ones stay in the order of the parts.
    all.sort_by(|(_, a), (_, b)| b.confidence.total_cmp(&a.confidence));
    let mut kept: Vec<(usize, Detection)> = Vec::with_capacity(all.len());
    let filter = selection.filter;
    for (part, detection) in all {
        let same = kept.iter_mut().find(|(other_part, other)| {
            let comparable = filter.class_agnostic || other.class_id == detection.class_id;
            let covered = share_of_smaller(&other.bounding_box, &detection.bounding_box);
            *other_part != part && comparable && covered > SAME_OBJECT
        });
        match same {
            // A turned box and another one have no turned box around both.
            Some((_, same)) if same.oriented.is_none() => {
                same.bounding_box = same.bounding_box.union(&detection.bounding_box);
            }
            Some(_) => {}
            None => kept.push((part, detection)),
        }
    }
    detections.clear();
    for (_, detection) in kept {
        let of_class = |kept: &&Detection| kept.class_id == detection.class_id;
        let enough = filter.most_of_class > 0
            && detections.iter().filter(of_class).count() >= filter.most_of_class;
        if !enough && detections.len() < selection.max_detections {
            detections.push(detection);
        }
    }
}

impl Part {
    /// Whether the middle of a box is in the polygon, if there is one: the number of edges to its right is odd.
    fn contains(&self, bounding_box: &BoundingBox) -> bool {
        let Some(polygon) = &self.polygon else {
            return true;
        };
        let x = bounding_box.x + bounding_box.width / 2.0;
        let y = bounding_box.y + bounding_box.height / 2.0;
        let mut inside = false;
        for (i, [x2, y2]) in polygon.iter().enumerate() {
            let [x1, y1] = polygon[(i + polygon.len() - 1) % polygon.len()];
            if (y1 > y) != (*y2 > y) && x < x1 + (y - y1) / (y2 - y1) * (x2 - x1) {
                inside = !inside;
            }
        }
        inside
    }
}

/// A detection of a part as one of the frame.
fn moved(mut detection: Detection, part: &Part) -> Detection {
    let (x, y) = (part.rectangle.x as f32, part.rectangle.y as f32);
    let shift = |b: &mut BoundingBox| (b.x, b.y) = (b.x + x, b.y + y);
    shift(&mut detection.bounding_box);
    if let Some(oriented) = &mut detection.oriented {
        shift(&mut oriented.rectangle);
    }
    detection
}

/// The intersection as a part of the smaller box's area.
fn share_of_smaller(a: &BoundingBox, b: &BoundingBox) -> f32 {
    let width = a.right().min(b.right()) - a.x.max(b.x);
    let height = a.bottom().min(b.bottom()) - a.y.max(b.y);
    if width <= 0.0 || height <= 0.0 {
        return 0.0;
    }
    width * height / a.area().min(b.area())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Rectangle;
    use crate::region::{Region, Tiles, View};

    fn detection(class_id: u32, confidence: f32, corners: [f32; 4]) -> Detection {
        let [left, top, right, bottom] = corners;
        Detection {
            class_id,
            confidence,
            bounding_box: BoundingBox::from_corners(left, top, right, bottom),
            object_id: None,
            oriented: None,
        }
    }

    fn part(x: usize, y: usize) -> Part {
        Part {
            rectangle: Rectangle {
                x,
                y,
                width: 100,
                height: 100,
            },
            polygon: None,
        }
    }

    fn selection() -> Selection {
        Selection {
            max_detections: 100,
            ..Selection::default()
        }
    }

    fn merged(parts: &[Part], found: &[Vec<Detection>], selection: &Selection) -> Vec<Detection> {
        let mut detections = vec![detection(9, 1.0, [0.0; 4])];
        merge(parts, found, selection, &mut detections);
        detections
    }

    #[test]
    fn an_object_seen_in_two_parts_is_one_around_both_of_its_boxes() {
        let parts = [part(0, 0), part(80, 0)];
        let found = [
            vec![
                detection(1, 0.8, [70.0, 10.0, 100.0, 40.0]),
                detection(2, 0.7, [85.0, 10.0, 100.0, 40.0]),
            ],
            vec![
                detection(1, 0.9, [0.0, 10.0, 30.0, 40.0]),
                detection(1, 0.6, [1.0, 10.0, 31.0, 40.0]),
            ],
        ];
        let expected = [
            detection(1, 0.9, [70.0, 10.0, 110.0, 40.0]),
            detection(2, 0.7, [85.0, 10.0, 100.0, 40.0]),
            // Within one part, what overlaps was suppressed before, or is not to be.
            detection(1, 0.6, [81.0, 10.0, 111.0, 40.0]),
        ];
        assert_eq!(merged(&parts, &found, &selection()), expected);
        let mut selection = selection();
        selection.filter.class_agnostic = true;
        assert_eq!(merged(&parts, &found, &selection).len(), 2);
        selection.filter.class_agnostic = false;
        selection.filter.most_of_class = 1;
        assert_eq!(merged(&parts, &found, &selection), expected[..2]);
        selection.max_detections = 1;
        assert_eq!(merged(&parts, &found, &selection), expected[..1]);
    }

    #[test]
    fn objects_count_whose_middle_is_in_the_polygon() {
        let regions = Region::parse_all("0,0 100,0 100,100").unwrap();
        let parts = View::new(regions, None).parts((200, 200), None).unwrap();
        let inside = detection(0, 0.9, [70.0, 20.0, 90.0, 40.0]);
        let outside = detection(0, 0.8, [10.0, 60.0, 30.0, 80.0]);
        let found = [vec![inside, outside]];
        assert_eq!(merged(&parts, &found, &selection()), [inside]);
    }

    #[test]
    fn tiles_of_a_frame_put_a_grid_of_objects_together_without_doubles() {
        let tiles = Tiles::parse("100x100", 0.3).unwrap();
        let parts = View::new(Vec::new(), tiles)
            .parts((300, 250), None)
            .unwrap();
        let mut objects = Vec::new();
        for row in 0..6 {
            for column in 0..7 {
                let (x, y) = (column as f32 * 42.0 + 3.0, row as f32 * 41.0 + 2.0);
                let confidence = 0.9 - (row * 7 + column) as f32 * 0.01;
                objects.push(detection(0, confidence, [x, y, x + 20.0, y + 20.0]));
            }
        }
        // What of an object is in a part, if half of it is.
        let seen_in = |part: &Part| {
            let r = part.rectangle;
            let seen = objects.iter().filter_map(|object| {
                let mut seen = *object;
                seen.bounding_box.x -= r.x as f32;
                seen.bounding_box.y -= r.y as f32;
                seen.bounding_box = seen
                    .bounding_box
                    .clipped_to(r.width as f32, r.height as f32);
                (seen.bounding_box.area() > 200.0).then_some(seen)
            });
            seen.collect::<Vec<_>>()
        };
        let found: Vec<_> = parts.iter().map(seen_in).collect();
        assert_eq!(merged(&parts, &found, &selection()), objects);
    }
}
