use proptest::prelude::*;

use super::*;
use crate::detection::BoundingBox;

const BYTETRACK: Method = Method::ByteTrack(bytetrack::Options {
    low_threshold: 0.1,
    new_margin: 0.1,
    match_threshold: 0.8,
    drop_frames: 30,
});

const IOU: Method = Method::Iou(iou::Options {
    min_frames: 3,
    drop_frames: 15,
    overlap: 0.5,
});

fn rules(method: Method) -> Rules {
    Rules {
        method,
        thresholds: vec![0.5; 3],
    }
}

fn detection(class_id: u32, confidence: f32, x: f32, y: f32) -> Detection {
    Detection {
        class_id,
        confidence,
        bounding_box: BoundingBox::from_center(x, y, 40.0, 100.0),
        object_id: None,
        oriented: None,
    }
}

/// A stream of one source, frame by frame.
struct Film {
    tracker: Tracker,
    rules: Rules,
    sighting: Sighting,
    scene: u64,
}

impl Film {
    fn new(method: Method) -> Self {
        Self {
            tracker: Tracker::default(),
            rules: rules(method),
            sighting: Sighting::default(),
            scene: 0,
        }
    }

    fn inspect(&mut self, found: &[Detection]) -> Vec<Detection> {
        let mut detections = found.to_vec();
        self.tracker.advance(&self.rules, self.scene, 0);
        let sighting = &mut self.sighting;
        self.tracker
            .follow(&self.rules, 0, sighting, &mut detections);
        detections
    }

    fn skip(&mut self) -> Vec<Detection> {
        let mut predicted = Vec::new();
        self.tracker.advance(&self.rules, self.scene, 0);
        self.tracker.predict(0, (1000, 1000), &mut predicted);
        predicted
    }

    /// The identity of what is found at these places, in their order.
    fn ids(&mut self, found: &[Detection]) -> Vec<Option<u64>> {
        let out = self.inspect(found);
        let id = |found: &Detection| {
            let (class_id, bounding_box) = (found.class_id, found.bounding_box);
            let same = out
                .iter()
                .find(|one| one.class_id == class_id && one.bounding_box == bounding_box);
            same.and_then(|one| one.object_id)
        };
        found.iter().map(id).collect()
    }
}

#[test]
fn two_who_cross_keep_their_identities_also_while_one_hides_the_other() {
    for hidden in [0.0, 10.0, 30.0] {
        let mut film = Film::new(BYTETRACK);
        for frame in 0..80u8 {
            let step = 5.0 * f32::from(frame);
            let to_the_right = detection(0, 0.9, 100.0 + step, 300.0);
            let to_the_left = detection(0, 0.8, 500.0 - step, 305.0);
            let distance = 400.0 - 2.0 * step;
            if distance.abs() < hidden {
                assert_eq!(
                    film.ids(&[to_the_right]),
                    [Some(1)],
                    "frame {frame}, {hidden}"
                );
            } else {
                let ids = film.ids(&[to_the_right, to_the_left]);
                assert_eq!(ids, [Some(1), Some(2)], "frame {frame}, {hidden}");
            }
        }
    }
}

#[test]
fn whoever_is_hidden_comes_back_as_himself_unless_it_takes_too_long() {
    for (method, missing, returns) in [
        (BYTETRACK, 29, 1),
        (BYTETRACK, 31, 2),
        (IOU, 15, 1),
        (IOU, 16, 2),
    ] {
        let mut film = Film::new(method);
        let there = detection(0, 0.9, 200.0, 200.0);
        for _ in 0..5 {
            film.inspect(&[there]);
        }
        for _ in 0..missing {
            assert_eq!(film.inspect(&[]), []);
        }
        // Two to be known anew, or three.
        for _ in 0..2 {
            film.inspect(&[there]);
        }
        assert_eq!(film.ids(&[there]), [Some(returns)], "{method:?} {missing}");
    }
}

#[test]
fn who_walks_behind_a_wall_is_met_on_the_other_side() {
    let mut film = Film::new(BYTETRACK);
    for frame in 0..60u8 {
        let walker = detection(0, 0.9, 50.0 + 8.0 * f32::from(frame), 300.0);
        if !(20..40).contains(&frame) {
            assert_eq!(film.ids(&[walker]), [Some(1)], "frame {frame}");
        } else {
            film.inspect(&[]);
        }
    }
}

#[test]
fn newcomers_have_the_next_number_and_numbers_of_those_who_left_are_not_given_again() {
    let mut film = Film::new(BYTETRACK);
    let (first, second, third) = (
        detection(0, 0.9, 100.0, 300.0),
        detection(0, 0.9, 300.0, 300.0),
        detection(0, 0.9, 500.0, 300.0),
    );
    // Those of the first frame are known at once, others when they are seen again.
    assert_eq!(film.ids(&[first]), [Some(1)]);
    assert_eq!(film.ids(&[first, second]), [Some(1), None]);
    assert_eq!(film.ids(&[first, second]), [Some(1), Some(2)]);
    for _ in 0..40 {
        film.inspect(&[first]);
    }
    assert_eq!(film.ids(&[first, second, third]), [Some(1), None, None]);
    assert_eq!(
        film.ids(&[first, second, third]),
        [Some(1), Some(3), Some(4)]
    );
    film.scene += 1;
    assert_eq!(film.ids(&[first, third]), [Some(5), Some(6)]);
    film.rules = rules(IOU);
    for _ in 0..2 {
        assert_eq!(film.ids(&[third]), [None]);
    }
    assert_eq!(film.ids(&[third]), [Some(7)]);
}

#[test]
fn an_unsure_detection_keeps_an_object_but_makes_none() {
    let mut film = Film::new(BYTETRACK);
    let sure = |x| detection(0, 0.9, x, 300.0);
    let unsure = |x| detection(0, 0.2, x, 300.0);
    film.inspect(&[sure(100.0)]);
    for _ in 0..10 {
        let out = film.inspect(&[unsure(100.0), unsure(500.0)]);
        let known = Detection {
            object_id: Some(1),
            ..unsure(100.0)
        };
        assert_eq!(out, [known]);
    }
    // Below the low threshold it is nobody; between the threshold and a new object's it comes out without a number.
    assert_eq!(film.inspect(&[detection(0, 0.1, 100.0, 300.0)]), []);
    let barely = detection(0, 0.55, 700.0, 300.0);
    for _ in 0..4 {
        assert_eq!(film.inspect(&[barely]), [barely]);
    }
}

#[test]
fn an_object_never_becomes_one_of_another_class() {
    for method in [BYTETRACK, IOU] {
        let mut film = Film::new(method);
        let of_class = |class_id| detection(class_id, 0.9, 100.0, 300.0);
        for _ in 0..4 {
            film.inspect(&[of_class(0)]);
        }
        assert_eq!(film.ids(&[of_class(0), of_class(1)]), [Some(1), None]);
        film.ids(&[of_class(1)]);
        assert_eq!(film.ids(&[of_class(1)]), [Some(2)], "{method:?}");
        // What is of a class that nobody wants is nothing.
        assert_eq!(film.inspect(&[of_class(7)]), []);
    }
}

#[test]
fn three_frames_make_an_object_of_overlap() {
    let mut film = Film::new(IOU);
    // Each box overlaps the one before by three quarters: an IoU of 0.6.
    let at = |frame: u8| detection(0, 0.9, 100.0 + 10.0 * f32::from(frame), 300.0);
    assert_eq!(film.ids(&[at(0)]), [None]);
    assert_eq!(film.ids(&[at(1)]), [None]);
    assert_eq!(film.ids(&[at(2)]), [Some(1)]);
    // A third of a box away the IoU is below a half.
    assert_eq!(film.ids(&[detection(0, 0.9, 136.0, 300.0)]), [None]);
}

#[test]
fn objects_are_predicted_where_nobody_looks_as_long_as_they_were_seen() {
    let mut film = Film::new(BYTETRACK);
    let at = |frame: u8| detection(0, 0.9, 100.0 + 6.0 * f32::from(frame), 300.0);
    for frame in 0..60u8 {
        if frame % 3 == 0 {
            assert_eq!(film.ids(&[at(frame)]), [Some(1)]);
            continue;
        }
        let predicted = film.skip();
        assert_eq!(predicted.len(), 1);
        assert_eq!(
            (predicted[0].object_id, predicted[0].confidence),
            (Some(1), 0.9)
        );
        let iou = predicted[0].bounding_box.iou(&at(frame).bounding_box);
        assert!(frame < 12 || iou > 0.93, "frame {frame}: {iou}");
    }
    film.inspect(&[]);
    assert_eq!(film.skip(), []);

    let mut film = Film::new(IOU);
    assert_eq!(film.skip(), []);
    for _ in 0..3 {
        assert_eq!(film.skip(), []);
        film.inspect(&[at(0)]);
    }
    let known = Detection {
        object_id: Some(1),
        ..at(0)
    };
    assert_eq!(film.skip(), [known]);
    assert_eq!(film.skip(), [known]);
    film.inspect(&[]);
    assert_eq!(film.skip(), []);
}

#[test]
fn predicted_boxes_lie_within_the_frame_and_those_outside_are_gone() {
    let mut film = Film::new(BYTETRACK);
    for frame in 0..10u8 {
        film.inspect(&[detection(0, 0.9, 900.0 + 10.0 * f32::from(frame), 300.0)]);
    }
    for _ in 0..40 {
        for detection in film.skip() {
            let (right, area) = (
                detection.bounding_box.right(),
                detection.bounding_box.area(),
            );
            assert!(right <= 1000.0 && area > 0.0, "{detection:?}");
        }
    }
    assert_eq!(film.skip(), []);
}

#[test]
fn a_picture_that_stays_as_it_is_counts_as_inspected() {
    let mut film = Film::new(IOU);
    let there = detection(0, 0.9, 200.0, 200.0);
    let mut shown = film.inspect(&[there]);
    let mut ids = Vec::new();
    for _ in 0..3 {
        film.tracker.advance(&film.rules, 0, 0);
        film.tracker
            .repeat(&film.rules, 0, &film.sighting, &mut shown);
        ids.push(shown[0].object_id);
    }
    assert_eq!(ids, [None, Some(1), Some(1)]);
}

#[test]
fn streams_of_a_batch_are_followed_apart_and_share_the_numbers() {
    let rules = rules(BYTETRACK);
    let mut tracker = Tracker::default();
    let mut sightings = [Sighting::default(), Sighting::default()];
    let there = detection(0, 0.9, 200.0, 200.0);
    let mut look = |source: u32| {
        let mut found = vec![there];
        tracker.advance(&rules, 0, source);
        let sighting = &mut sightings[source as usize];
        tracker.follow(&rules, source, sighting, &mut found);
        found[0].object_id
    };
    assert_eq!([look(0), look(1)], [Some(1), Some(2)]);
    assert_eq!([look(1), look(0)], [Some(2), Some(1)]);
    assert_eq!([look(1), look(1), look(0)], [Some(2), Some(2), Some(1)]);
}

fn any_frames() -> impl Strategy<Value = Vec<Option<Vec<Detection>>>> {
    let coordinate = || {
        prop_oneof![
            8 => 0f32..400.0,
            1 => proptest::sample::select(vec![f32::MAX, -1e30, 0.0, 1e-30]),
        ]
    };
    let found = (
        0u32..4,
        0f32..1.0,
        coordinate(),
        coordinate(),
        coordinate(),
        coordinate(),
    );
    let found = found.prop_map(|(class_id, confidence, x, y, width, height)| Detection {
        class_id,
        confidence,
        bounding_box: BoundingBox {
            x,
            y,
            width,
            height,
        },
        object_id: None,
        oriented: None,
    });
    let frame = prop::option::weighted(0.8, prop::collection::vec(found, 0..12));
    prop::collection::vec(frame, 1..25)
}

proptest! {
    #[test]
    fn no_identity_is_given_twice_in_a_frame_and_the_same_film_gives_the_same(
        frames in any_frames(),
        method in proptest::sample::select(vec![BYTETRACK, IOU]),
    ) {
        let play = || {
            let mut film = Film::new(method);
            let frames = frames.iter().map(|frame| match frame {
                Some(found) => film.inspect(found),
                None => film.skip(),
            });
            frames.collect::<Vec<_>>()
        };
        let shown = play();
        let mut most = 0;
        for (frame, shown) in frames.iter().zip(&shown) {
            let mut ids: Vec<_> = shown.iter().filter_map(|one| one.object_id).collect();
            let count = ids.len();
            ids.sort();
            ids.dedup();
            prop_assert_eq!(ids.len(), count);
            // Numbers come one after the other.
            prop_assert!(ids.iter().all(|id| *id >= 1 && *id <= most + count as u64));
            most = most.max(ids.last().copied().unwrap_or(0));
            if let Some(found) = frame {
                // All that a detector without tracking would show is shown.
                let sure = found.iter().filter(|one| one.class_id < 3 && one.confidence > 0.5);
                for sure in sure {
                    let same = |one: &&Detection| Detection { object_id: None, ..**one } == *sure;
                    prop_assert!(shown.iter().find(same).is_some());
                }
            }
        }
        prop_assert_eq!(format!("{shown:?}"), format!("{:?}", play()));
    }
}
