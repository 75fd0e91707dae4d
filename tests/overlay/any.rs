//! Detections that no network should give, in frames of any size.

use proptest::prelude::*;

use super::*;

fn any_coordinate() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -20f32..120.0,
        1 => any::<f32>(),
        1 => proptest::sample::select(vec![
            f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0,
        ]),
    ]
}

prop_compose! {
    fn any_detection()(
        class_id in prop_oneof![0..4u32, any::<u32>()],
        confidence in prop_oneof![0f32..1.0, any::<f32>()],
        [x, y, width, height] in std::array::from_fn(|_| any_coordinate()),
        object_id in prop_oneof![any::<Option<u64>>(), (0..3u64).prop_map(Some)],
    ) -> Detection {
        Detection {
            class_id,
            confidence,
            bounding_box: BoundingBox { x, y, width, height },
            object_id,
            oriented: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Compared with the rules to the bit, padding included: so nothing outside the shapes changes either.
    #[test]
    fn any_detections_in_any_frame_are_drawn_by_the_rules_and_nothing_else_changes(
        format in proptest::sample::select(FORMATS.to_vec()),
        width in prop_oneof![0..4usize, 0..100usize],
        height in prop_oneof![0..4usize, 0..60usize],
        padding in 0..9usize,
        full_range in any::<bool>(),
        parts in any::<[bool; 6]>(),
        fill_alpha in any::<u8>(),
        // Those of earlier frames first, which leave their tails.
        frames in proptest::collection::vec(proptest::collection::vec(any_detection(), 0..6), 1..4),
        label in "\\PC{0,8}|[a-z\\x00-\\x1f]{0,40}",
    ) {
        let [outline, fill, label_part, confidence, track, tail] = parts;
        let parts = Parts { outline, fill, label: label_part, confidence, track, tail };
        let colors = vec![None, Some(Color::opaque(1, 200, 77))];
        let look = Look { parts, fill_alpha, colors };
        let labels = [label.as_str(), "Person", "Caf\u{e9}"];
        let mut canvas = Canvas::new(format, width, height, padding);
        canvas.colorimetry = Colorimetry { matrix: ColorMatrix::Bt709, full_range };
        let mut expected = canvas.clone();
        let (mut overlay, mut same) = (Overlay::new(look.clone()), Overlay::new(look));
        for detections in &frames {
            let picture = overlay.picture(detections, &labels, width, height);
            draw_by_the_rules(&mut expected, picture);
            same.draw(&mut canvas.frame(), detections, &labels);
        }
        prop_assert!(canvas == expected);
    }
}

#[test]
fn a_box_over_every_edge_and_corner_leaves_all_bytes_outside_the_frame_alone() {
    for format in FORMATS {
        for (width, height) in [(1, 1), (2, 1), (1, 2), (33, 17), (34, 18)] {
            let blank = Canvas::new(format, width, height, 7);
            let mut canvas = blank.clone();
            for x in [-15.0, 5.0, 25.0] {
                for y in [-10.0, 2.0, 12.0] {
                    canvas.draw(ALL, &[detection(1, x, y, 20.0, 12.0)], &["a", "b"]);
                }
            }
            canvas.draw(ALL, &[detection(1, -1e9, -1e9, 2e9, 2e9)], &["a", "b"]);
            assert_ne!(canvas, blank);
            for plane in 0..format.planes() {
                let (row, rows) = format.plane_size(plane, width, height);
                let (drawn, stride) = &canvas.planes[plane];
                for y in 0..rows {
                    let padding = y * stride + row..(y + 1) * stride;
                    assert_eq!(drawn[padding.clone()], blank.planes[plane].0[padding]);
                }
            }
        }
    }
}
