//! Each shape by itself.

use super::*;

/// A class colour darkened by the shadow around an outline.
fn shadowed(value: u32) -> u32 {
    (value * 135 + 127) / 255
}

#[test]
fn an_outline_in_rgb_is_one_pixel_of_colour_within_the_box_and_one_of_shadow_around_it() {
    let mut canvas = Canvas::new(PixelFormat::Rgb, 24, 20, 5).grey(200);
    canvas.draw(OUTLINE, &[detection(0, 3.6, 5.4, 12.0, 9.0)], &[""]);
    let red = Color::of_class(0);
    for y in 0..20 {
        for x in 0..24 {
            let in_box = (4..16).contains(&x) && (5..14).contains(&y);
            let inside = (5..15).contains(&x) && (6..13).contains(&y);
            let near = (3..17).contains(&x) && (4..15).contains(&y);
            let expected = match (near, in_box, inside) {
                (_, true, false) => [red.red, red.green, red.blue].map(f64::from),
                (true, false, _) => [f64::from(shadowed(200)); 3],
                _ => [200.0; 3],
            };
            assert_eq!(canvas.rgb(x, y), expected, "{x} {y}");
        }
    }
}

#[test]
fn an_outline_in_nv12_and_grey_has_the_class_colour_in_the_frames_own_colorimetry() {
    // Lines of 2 pixels at even coordinates cover whole chroma samples. Values computed apart from the crate,
    // for the colour (255, 117, 116) of class 0.
    assert_eq!(Color::of_class(0), Color::opaque(255, 117, 116));
    for (matrix, full_range, expected) in [
        (ColorMatrix::Bt601, false, [152, 107, 189]),
        (ColorMatrix::Bt601, true, [158, 104, 197]),
        (ColorMatrix::Bt709, false, [142, 114, 189]),
        (ColorMatrix::Bt709, true, [146, 112, 197]),
    ] {
        for format in [PixelFormat::Nv12, PixelFormat::Gray8] {
            let mut canvas = Canvas::new(format, 600, 560, 0);
            canvas.colorimetry = Colorimetry { matrix, full_range };
            let before = canvas.clone();
            canvas.draw(OUTLINE, &[detection(0, 100.0, 50.0, 200.0, 80.0)], &[""]);
            for (x, y) in [(100, 50), (299, 51), (101, 90), (298, 129), (200, 128)] {
                let drawn = match format {
                    PixelFormat::Gray8 => vec![canvas.sample(Channel::Luma, x, y)],
                    _ => [Channel::Luma, Channel::Cb, Channel::Cr]
                        .map(|channel| canvas.sample(channel, x, y))
                        .to_vec(),
                };
                assert_eq!(drawn, expected[..drawn.len()], "{matrix:?} {full_range}");
            }
            for (x, y) in [(102, 52), (297, 127), (98, 90), (302, 90), (200, 48)] {
                assert_eq!(
                    canvas.sample(Channel::Luma, x, y),
                    before.sample(Channel::Luma, x, y)
                );
            }
        }
    }
}

#[test]
fn a_line_that_covers_half_of_a_chroma_sample_tints_it_by_half() {
    let mut canvas = Canvas::new(PixelFormat::Nv12, 64, 64, 0).grey(100);
    canvas.draw(OUTLINE, &[detection(0, 21.0, 21.0, 20.0, 20.0)], &[""]);
    let cr = Color::of_class(0).sample(Channel::Cr, canvas.colorimetry, 8);
    // The left line is column 21; the shadow in column 20 leaves grey grey.
    let expected = (128 * (255 - 128) + cr * 128 + 127) / 255;
    assert_eq!(canvas.sample(Channel::Cr, 21, 30), expected);
}

#[test]
fn a_filled_box_lets_through_what_its_alpha_leaves() {
    let fill = Parts {
        fill: true,
        ..Parts::default()
    };
    let red = Color::opaque(255, 0, 0);
    for (fill_alpha, expected) in [
        (0, [200, 200, 200]),
        (51, [211, 160, 160]),
        (255, [255, 0, 0]),
    ] {
        let look = Look {
            parts: fill,
            fill_alpha,
            colors: vec![None, Some(red)],
        };
        let mut canvas = Canvas::new(PixelFormat::Rgb, 30, 30, 0).grey(200);
        let object = detection(1, 5.0, 6.0, 10.0, 8.0);
        Overlay::new(look).draw(&mut canvas.frame(), &[object], &["", "red"]);
        for (x, y) in (0..30).flat_map(|y| (0..30).map(move |x| (x, y))) {
            let inside = (5..15).contains(&x) && (6..14).contains(&y);
            let wanted = if inside { expected } else { [200; 3] };
            assert_eq!(canvas.rgb(x, y), wanted.map(f64::from), "{x} {y}");
        }
    }
}

#[test]
fn a_tail_follows_its_object_fades_with_age_and_is_nobody_else_s() {
    let tail = Parts {
        tail: true,
        ..Parts::default()
    };
    let mut overlay = Overlay::new(Look {
        colors: vec![Some(Color::WHITE)],
        ..tail.into()
    });
    let at = |x: u8, object_id| Detection {
        object_id,
        ..detection(0, f32::from(x), 40.0, 20.0, 20.0)
    };
    let mut drawn = Canvas::new(PixelFormat::Gray8, 200, 100, 0);
    for step in 0..40u8 {
        drawn = Canvas::new(PixelFormat::Gray8, 200, 100, 0).grey(0);
        let objects = [at(10 + 4 * step, Some(7)), at(170 - 4 * step, None)];
        overlay.draw(&mut drawn.frame(), &objects, &["white"]);
    }
    let black = Color::BLACK.sample(Channel::Luma, drawn.colorimetry, 8);
    // The middle is at 20, 24, … 176: 31 pieces of 4 pixels in the row of the middle are left of the last.
    let row: Vec<_> = (0..200)
        .map(|x| drawn.sample(Channel::Luma, x, 50))
        .collect();
    let (first, last) = (176 - 31 * 4, 176);
    assert!(
        row[..first]
            .iter()
            .chain(&row[last..])
            .all(|luma| *luma == black)
    );
    assert!(row[first..last].iter().all(|luma| *luma > black));
    assert!(row[first..last].is_sorted());
    assert!(row[last - 1] > 2 * row[first]);
    let rest = (0..200).flat_map(|x| (0..100).map(move |y| (x, y)));
    let mut rest = rest.filter(|(_, y)| *y != 50);
    assert!(rest.all(|(x, y)| drawn.sample(Channel::Luma, x, y) == black));
}

#[test]
fn text_is_drawn_where_its_glyphs_are_and_its_plate_is_filled_elsewhere() {
    let mut canvas = Canvas::new(PixelFormat::Rgb, 160, 120, 0);
    let label = Parts {
        label: true,
        ..Parts::default()
    };
    canvas.draw(label, &[detection(0, 20.0, 50.0, 60.0, 60.0)], &["L"]);
    // The plate of 9x10 pixels begins at 20, 40; the cell of 5x8 lies in its middle.
    let glyph = (40..50).map(|y| {
        let black = |x| canvas.rgb(x, y) == [0.0; 3];
        (20..29).map(|x| if black(x) { '#' } else { '.' }).collect()
    });
    let expected = [
        ".........",
        ".........",
        "..#......",
        "..#......",
        "..#......",
        "..#......",
        "..#......",
        "..####...",
        ".........",
        ".........",
    ];
    assert_eq!(glyph.collect::<Vec<String>>(), expected);
}
