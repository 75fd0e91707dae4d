//! The ways that tracked objects have come: where the middle of each was in the latest pictures.

use std::collections::HashMap;

/// Places that are remembered of an object.
pub const LENGTH: usize = 32;

/// Pictures after which an object that was in none of them is forgotten. Those of a batch count one by one.
const FORGOTTEN: u64 = 1024;

/// Rectangles that a piece is drawn with, at most.
const MOST_STEPS: i32 = 64;

/// A pixel of the frame: column and row.
pub type Point = (i32, i32);

#[derive(Debug)]
struct Tail {
    /// A ring.
    points: [Point; LENGTH],
    filled: usize,
    next: usize,
    /// The latest picture that it was in.
    latest: u64,
}

/// Keep one for many pictures: its memory is used again.
#[derive(Debug, Default)]
pub struct Tails {
    by_object: HashMap<u64, Tail>,
    picture: u64,
}

impl Tails {
    /// Begins another picture.
    pub fn begin(&mut self) {
        self.picture += 1;
        let now = self.picture;
        self.by_object
            .retain(|_, tail| now - tail.latest <= FORGOTTEN);
    }

    /// An object is there in this picture.
    pub fn extend(&mut self, object_id: u64, place: Point) {
        let tail = self.by_object.entry(object_id).or_insert(Tail {
            points: [place; LENGTH],
            filled: 0,
            next: 0,
            latest: 0,
        });
        tail.latest = self.picture;
        tail.points[tail.next] = place;
        tail.next = (tail.next + 1) % LENGTH;
        tail.filled = (tail.filled + 1).min(LENGTH);
    }

    /// The pieces of an object's way, the latest last: from where to where, and how many pictures ago it was there.
    pub fn pieces(&self, object_id: u64) -> impl Iterator<Item = (Point, Point, usize)> + '_ {
        let tail = self.by_object.get(&object_id);
        tail.into_iter().flat_map(|tail| {
            let at = |age: usize| tail.points[(tail.next + LENGTH - 1 - age) % LENGTH];
            let ages = (0..tail.filled.saturating_sub(1)).rev();
            ages.map(move |age| (at(age + 1), at(age), age))
        })
    }
}

/// A line without its last pixel, as rectangles (left, top, right, bottom) side by side along its longer axis, none
/// over another.
pub fn rectangles(from: Point, to: Point, thickness: i32) -> impl Iterator<Item = [i32; 4]> {
    let (across, down) = (to.0 - from.0, to.1 - from.1);
    let length = across.abs().max(down.abs());
    let step = ((thickness + 1) / 2).max(length / MOST_STEPS + 1);
    let at = move |start: i32, way: i32, place: i32| {
        start + (i64::from(way) * i64::from(place) / i64::from(length)) as i32
    };
    (0..length).step_by(step as usize).map(move |place| {
        let end = (place + step).min(length);
        let along = |start, way| {
            let (a, b) = (at(start, way, place), at(start, way, end));
            [a.min(b), a.max(b)]
        };
        let beside = |start, way| {
            let first = at(start, way, (place + end) / 2) - thickness / 2;
            [first, first + thickness]
        };
        let ([left, right], [top, bottom]) = match across.abs() >= down.abs() {
            true => (along(from.0, across), beside(from.1, down)),
            false => (beside(from.0, across), along(from.1, down)),
        };
        [left, top, right, bottom]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_no_gap_and_no_pixel_twice_and_goes_where_it_should() {
        for (from, to) in [
            ((10, 10), (50, 10)),
            ((50, 40), (10, 45)),
            ((30, 60), (33, 5)),
            ((9, 9), (10, 10)),
            ((0, 0), (4000, 2000)),
        ] {
            for thickness in [1, 2, 5] {
                let all: Vec<_> = rectangles(from, to, thickness).collect();
                assert!(all.len() <= MOST_STEPS as usize);
                let length = (to.0 - from.0).abs().max((to.1 - from.1).abs());
                let area: i32 = all.iter().map(|[l, t, r, b]| (r - l) * (b - t)).sum();
                assert_eq!(area, length * thickness);
                for [left, top, right, bottom] in all {
                    // The middle is no further from the line than the steps are wide.
                    let (x, y) = (f64::from(left + right) / 2.0, f64::from(top + bottom) / 2.0);
                    let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
                    let (rx, ry) = (x - f64::from(from.0), y - f64::from(from.1));
                    let off = (rx * dy - ry * dx).abs() / dx.hypot(dy);
                    assert!(off <= 1.5, "{from:?} {to:?} {thickness}: {off}");
                }
            }
        }
        assert_eq!(rectangles((5, 5), (5, 5), 3).count(), 0);
    }

    #[test]
    fn a_tail_is_the_latest_places_in_their_order_and_ends_when_its_object_is_gone_for_long() {
        let mut tails = Tails::default();
        for step in 0..40 {
            tails.begin();
            tails.extend(7, (step, 2 * step));
        }
        tails.extend(8, (1, 1));
        let pieces: Vec<_> = tails.pieces(7).collect();
        assert_eq!(pieces.len(), LENGTH - 1);
        assert_eq!(pieces[0], ((8, 16), (9, 18), 30));
        assert_eq!(pieces[30], ((38, 76), (39, 78), 0));
        assert_eq!(tails.pieces(8).count(), 0);
        assert_eq!(tails.pieces(9).count(), 0);
        (0..FORGOTTEN).for_each(|_| tails.begin());
        assert_eq!(tails.pieces(7).count(), LENGTH - 1);
        tails.begin();
        assert_eq!(tails.pieces(7).count(), 0);
    }
}
