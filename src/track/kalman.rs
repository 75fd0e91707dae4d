//! The motion of one box: a Kalman filter of constant velocity on its centre, aspect ratio and height.
//!
//! It is the filter of DeepSORT and ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every
//! Detection Box", 2022; its `kalman_filter.py`), with time in frames. In the matrices of that filter each coordinate
//! meets its own velocity alone, and the covariance is diagonal in the beginning: its eight dimensions are four filters
//! of two, which give the same numbers.

use crate::detection::BoundingBox;

/// Standard deviations of a position and of a velocity, as parts of the box's height.
const POSITION: f64 = 1.0 / 20.0;
const VELOCITY: f64 = 1.0 / 160.0;
/// Those of the aspect ratio: of what it is, of its velocity, and of what is measured.
const ASPECT: f64 = 1e-2;
const ASPECT_VELOCITY: f64 = 1e-5;
const ASPECT_MEASURED: f64 = 1e-1;

/// A coordinate and its velocity, with their variances and their covariance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Axis {
    position: f64,
    velocity: f64,
    position_variance: f64,
    covariance: f64,
    velocity_variance: f64,
}

impl Axis {
    /// `deviations` are the standard ones of position and velocity.
    fn at(position: f64, deviations: [f64; 2]) -> Self {
        let [position_variance, velocity_variance] = deviations.map(|deviation| deviation.powi(2));
        Self {
            position,
            position_variance,
            velocity_variance,
            ..Self::default()
        }
    }

    /// `deviations` are those of the noise that one frame adds.
    fn advance(&mut self, deviations: [f64; 2]) {
        let [position_noise, velocity_noise] = deviations.map(|deviation| deviation.powi(2));
        self.position += self.velocity;
        self.position_variance += 2.0 * self.covariance + self.velocity_variance + position_noise;
        self.covariance += self.velocity_variance;
        self.velocity_variance += velocity_noise;
    }

    fn correct(&mut self, measured: f64, deviation: f64) {
        let innovation = measured - self.position;
        let variance = self.position_variance + deviation.powi(2);
        let gain = self.position_variance / variance;
        let velocity_gain = self.covariance / variance;
        self.position += gain * innovation;
        self.velocity += velocity_gain * innovation;
        self.velocity_variance -= velocity_gain * self.covariance;
        self.covariance -= gain * self.covariance;
        self.position_variance -= gain * self.position_variance;
    }
}

/// Where a box is and how it moves, in pixels of the frame and frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// Centre x, centre y, width by height, height.
    axes: [Axis; 4],
}

impl Motion {
    /// Of a box that was seen for the first time.
    pub fn starting_at(bounding_box: &BoundingBox) -> Self {
        let measured = coordinates(bounding_box);
        let height = measured[3];
        let length = [2.0 * POSITION * height, 10.0 * VELOCITY * height];
        let deviations = [length, length, [ASPECT, ASPECT_VELOCITY], length];
        Self {
            axes: std::array::from_fn(|i| Axis::at(measured[i], deviations[i])),
        }
    }

    /// Goes on to the next frame.
    pub fn advance(&mut self) {
        let height = self.axes[3].position;
        let length = [POSITION * height, VELOCITY * height];
        let deviations = [length, length, [ASPECT, ASPECT_VELOCITY], length];
        for (axis, deviations) in self.axes.iter_mut().zip(deviations) {
            axis.advance(deviations);
        }
    }

    /// From now on the height stays as it is: what nobody sees must not grow or shrink for long.
    pub fn keep_height(&mut self) {
        self.axes[3].velocity = 0.0;
    }

    /// The box was seen in the frame that was advanced to.
    pub fn correct(&mut self, bounding_box: &BoundingBox) {
        let length = POSITION * self.axes[3].position;
        let deviations = [length, length, ASPECT_MEASURED, length];
        let measured = coordinates(bounding_box).into_iter().zip(deviations);
        for (axis, (measured, deviation)) in self.axes.iter_mut().zip(measured) {
            axis.correct(measured, deviation);
        }
    }

    /// Where the box should be; it may reach over the edges of the frame.
    pub fn bounding_box(&self) -> BoundingBox {
        let [x, y, aspect, height] = self.axes.map(|axis| axis.position);
        let height = height.max(0.0);
        let width = (aspect * height).max(0.0);
        BoundingBox::from_center(x as f32, y as f32, width as f32, height as f32)
    }
}

fn coordinates(bounding_box: &BoundingBox) -> [f64; 4] {
    let [x, y, width, height] = [
        bounding_box.x,
        bounding_box.y,
        bounding_box.width,
        bounding_box.height,
    ]
    .map(f64::from);
    // A box without height has no aspect ratio.
    let aspect = width / height.max(f64::from(f32::MIN_POSITIVE));
    [x + width / 2.0, y + height / 2.0, aspect, height]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Matrix = [[f64; 8]; 8];

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        std::array::from_fn(|i| std::array::from_fn(|j| (0..8).map(|k| a[i][k] * b[k][j]).sum()))
    }

    fn transposed(a: &Matrix) -> Matrix {
        std::array::from_fn(|i| std::array::from_fn(|j| a[j][i]))
    }

    /// The filter as the paper's code has it, with matrices of eight dimensions.
    struct Whole {
        mean: [f64; 8],
        covariance: Matrix,
    }

    impl Whole {
        fn starting_at(measured: [f64; 4]) -> Self {
            let h = measured[3];
            let (p, v) = (2.0 * h / 20.0, 10.0 * h / 160.0);
            let deviations = [p, p, 1e-2, p, v, v, 1e-5, v];
            let mut covariance = [[0.0; 8]; 8];
            for (i, deviation) in deviations.into_iter().enumerate() {
                covariance[i][i] = deviation * deviation;
            }
            let mut mean = [0.0; 8];
            mean[..4].copy_from_slice(&measured);
            Self { mean, covariance }
        }

        fn advance(&mut self) {
            let h = self.mean[3];
            let (p, v) = (h / 20.0, h / 160.0);
            let deviations = [p, p, 1e-2, p, v, v, 1e-5, v];
            let motion: Matrix = std::array::from_fn(|i| {
                std::array::from_fn(|j| f64::from(u8::from(i == j || j == i + 4)))
            });
            let moved = product(&product(&motion, &self.covariance), &transposed(&motion));
            self.covariance = moved;
            for (i, deviation) in deviations.into_iter().enumerate() {
                self.covariance[i][i] += deviation * deviation;
            }
            self.mean = std::array::from_fn(|i| (0..8).map(|j| motion[i][j] * self.mean[j]).sum());
        }

        fn correct(&mut self, measured: [f64; 4]) {
            let h = self.mean[3];
            let deviations = [h / 20.0, h / 20.0, 1e-1, h / 20.0];
            // S is inverted by Gauss and Jordan, without a look at what it holds.
            let mut s = [[0.0; 8]; 4];
            for i in 0..4 {
                s[i][..4].copy_from_slice(&self.covariance[i][..4]);
                s[i][i] += deviations[i] * deviations[i];
                s[i][4 + i] = 1.0;
            }
            for pivot in 0..4 {
                let divisor = s[pivot][pivot];
                s[pivot].iter_mut().for_each(|value| *value /= divisor);
                for row in (0..4).filter(|row| *row != pivot) {
                    let factor = s[row][pivot];
                    let pivot_row = s[pivot];
                    for (value, pivot) in s[row].iter_mut().zip(pivot_row) {
                        *value -= factor * pivot;
                    }
                }
            }
            let gain: [[f64; 4]; 8] = std::array::from_fn(|i| {
                std::array::from_fn(|j| (0..4).map(|k| self.covariance[i][k] * s[k][4 + j]).sum())
            });
            let innovation: [f64; 4] = std::array::from_fn(|i| measured[i] - self.mean[i]);
            for (mean, gain) in self.mean.iter_mut().zip(&gain) {
                *mean += (0..4).map(|j| gain[j] * innovation[j]).sum::<f64>();
            }
            let before = self.covariance;
            for (row, gain) in self.covariance.iter_mut().zip(&gain) {
                for (j, value) in row.iter_mut().enumerate() {
                    *value -= (0..4).map(|k| gain[k] * before[k][j]).sum::<f64>();
                }
            }
        }
    }

    fn assert_near(a: f64, b: f64) {
        assert!(
            (a - b).abs() <= 1e-6 * a.abs().max(b.abs()).max(1.0),
            "{a} {b}"
        );
    }

    proptest! {
        #[test]
        fn four_filters_of_two_dimensions_are_the_one_of_eight(
            boxes in prop::collection::vec(
                (prop::option::weighted(0.7, (0f32..2000.0, 0f32..2000.0, 4f32..500.0, 4f32..500.0)),), 1..40),
        ) {
            let first = BoundingBox::from_center(300.0, 200.0, 50.0, 120.0);
            let mut motion = Motion::starting_at(&first);
            let mut whole = Whole::starting_at(coordinates(&first));
            for (seen,) in boxes {
                motion.advance();
                whole.advance();
                if let Some((x, y, width, height)) = seen {
                    let seen = BoundingBox { x, y, width, height };
                    motion.correct(&seen);
                    whole.correct(coordinates(&seen));
                }
                for (i, axis) in motion.axes.iter().enumerate() {
                    assert_near(axis.position, whole.mean[i]);
                    assert_near(axis.velocity, whole.mean[i + 4]);
                    assert_near(axis.position_variance, whole.covariance[i][i]);
                    assert_near(axis.covariance, whole.covariance[i][i + 4]);
                    assert_near(axis.velocity_variance, whole.covariance[i + 4][i + 4]);
                }
            }
        }
    }

    #[test]
    fn a_box_that_moves_evenly_is_predicted_where_it_will_be() {
        let at = |frame: f32| {
            BoundingBox::from_center(50.0 + 6.0 * frame, 80.0 - 2.0 * frame, 40.0, 90.0)
        };
        let mut motion = Motion::starting_at(&at(0.0));
        for frame in 1..20u8 {
            motion.advance();
            motion.correct(&at(frame.into()));
        }
        for _ in 0..5 {
            motion.advance();
        }
        let iou = motion.bounding_box().iou(&at(24.0));
        assert!(iou > 0.95, "{iou}");
    }

    #[test]
    fn boxes_without_area_have_finite_motion() {
        for (width, height) in [(0.0, 0.0), (10.0, 0.0), (0.0, 10.0)] {
            let empty = BoundingBox {
                x: 5.0,
                y: 5.0,
                width,
                height,
            };
            let mut motion = Motion::starting_at(&empty);
            motion.advance();
            let predicted = motion.bounding_box();
            assert!(
                predicted.x.is_finite() && predicted.width.is_finite(),
                "{predicted:?}"
            );
        }
    }
}
