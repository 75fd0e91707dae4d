use super::*;

const ALL: Parts = Parts {
    outline: true,
    fill: false,
    label: true,
    confidence: true,
    track: true,
    tail: false,
};

fn detection(x: f32, y: f32, width: f32, height: f32) -> Detection {
    Detection {
        class_id: 0,
        confidence: 0.874,
        bounding_box: BoundingBox {
            x,
            y,
            width,
            height,
        },
        object_id: Some(12),
        oriented: None,
    }
}

fn picture(parts: Parts, detections: &[Detection], labels: &[&str], size: usize) -> Picture {
    let mut picture = Picture::default();
    let (look, tails) = (parts.into(), &mut Tails::default());
    picture.lay_out(&look, tails, detections, labels, size, size);
    picture
}

fn text(parts: Parts, detection: Detection, labels: &[&str], size: usize) -> String {
    let picture = picture(parts, &[detection], labels, size);
    picture.text.iter().map(|&code| char::from(code)).collect()
}

/// Left, top, right and bottom of a plate with the text `Person`.
fn plate(object: Detection, size: usize) -> [i32; 4] {
    let parts = Parts {
        label: true,
        ..Parts::default()
    };
    match picture(parts, &[object], &["Person"], size).shapes[0] {
        Shape::Fill {
            left,
            top,
            width,
            height,
            ..
        } => [left, top, left + width as i32, top + height as i32],
        Shape::Glyphs { .. } => [0; 4],
    }
}

#[test]
fn a_caption_has_the_parts_asked_for() {
    let object = detection(10.0, 50.0, 100.0, 100.0);
    let without_track = Parts {
        track: false,
        ..ALL
    };
    let untracked = Detection {
        object_id: None,
        class_id: 7,
        ..object
    };
    assert_eq!(text(ALL, object, &["Person"], 500), "Person 0.87 #12");
    assert_eq!(text(without_track, object, &["Person"], 500), "Person 0.87");
    assert_eq!(text(ALL, untracked, &["Person"], 500), "class 7 0.87");
    assert_eq!(text(ALL, object, &["\n"], 500), "0.87 #12");
    assert_eq!(text(Parts::default(), object, &["Person"], 500), "");
}

#[test]
fn a_label_too_long_for_the_frame_is_cut_before_its_numbers() {
    let object = detection(10.0, 50.0, 100.0, 100.0);
    let label = "Person".repeat(1000);
    // A frame of 120 pixels has room for 23 characters 5 pixels wide.
    assert_eq!(text(ALL, object, &[&label], 120), "PersonPersonPe 0.87 #12");
    // And one of 16 for two; its numbers alone are too long.
    assert_eq!(
        text(ALL, detection(1.0, 1.0, 9.0, 9.0), &[&label], 16),
        "0."
    );
}

#[test]
fn a_plate_lies_above_the_box_or_inside_and_never_leaves_the_frame() {
    assert_eq!(
        plate(detection(20.0, 50.0, 60.0, 60.0), 120),
        [20, 40, 54, 50]
    );
    assert_eq!(
        plate(detection(20.0, 4.0, 60.0, 60.0), 120),
        [20, 4, 54, 14]
    );
    assert_eq!(
        plate(detection(110.0, 50.0, 9.0, 60.0), 120),
        [86, 40, 120, 50]
    );
    assert_eq!(
        plate(detection(-9.0, -9.0, 500.0, 500.0), 120),
        [0, 0, 34, 10]
    );
}

#[test]
fn nothing_is_drawn_for_boxes_without_area_in_the_frame() {
    let nan = f32::NAN;
    let infinite = f32::INFINITY;
    for [x, y, width, height] in [
        [10.0, 10.0, 0.0, 20.0],
        [10.0, 10.0, 20.0, -1.0],
        [100.0, 10.0, 20.0, 20.0],
        [-30.0, 10.0, 20.0, 20.0],
        [nan, 10.0, 20.0, 20.0],
        [10.0, 10.0, 20.0, nan],
        [-infinite, 10.0, infinite, 20.0],
        [infinite, 10.0, 20.0, 20.0],
    ] {
        let drawn = picture(ALL, &[detection(x, y, width, height)], &["Person"], 100);
        assert_eq!(drawn.shapes, [], "{x} {y} {width} {height}");
    }
}

#[test]
fn lines_and_text_grow_with_the_frame() {
    let sizes = |size| {
        let style = Style::for_frame(size * 16 / 9, size);
        (style.thickness, style.font.height * style.scale)
    };
    assert_eq!(sizes(120), (1, 8));
    assert_eq!(sizes(480), (2, 13));
    assert_eq!(sizes(1080), (4, 18));
    assert_eq!(sizes(2160), (8, 36));
    assert_eq!(sizes(4320), (16, 72));
}

#[test]
fn the_first_detection_lies_over_the_others_and_all_text_over_all_outlines() {
    let object = detection(10.0, 50.0, 100.0, 100.0);
    let other = Detection {
        class_id: 1,
        ..object
    };
    let shapes = picture(ALL, &[object, other], &["a", "b"], 300).shapes;
    let fills = shapes.iter().filter_map(|shape| match shape {
        Shape::Fill { color, .. } if *color != SHADOW => Some(*color),
        _ => None,
    });
    let (first, second) = (Color::of_class(0), Color::of_class(1));
    let outlines = [[second; 4], [first; 4]].concat();
    assert!(fills.eq(outlines.into_iter().chain([second, first])));
}
