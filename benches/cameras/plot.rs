//! Frames a second over the number of cameras, as a picture.

use std::convert::Infallible;
use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::iso_8859_1::{FONT_7X13, FONT_10X20};
use embedded_graphics::pixelcolor::Rgb888;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Circle, Line, Polyline, PrimitiveStyle};
use embedded_graphics::text::{Alignment, Text};

const WIDTH: usize = 960;
const HEIGHT: usize = 600;
const LEFT: i32 = 90;
const RIGHT: i32 = 30;
const TOP: i32 = 60;
const BOTTOM: i32 = 70;
const GRID_LINES: u32 = 5;

/// Readable side by side, also for those who do not tell red from green.
const COLORS: [Rgb888; 3] = [
    Rgb888::new(0x00, 0x72, 0xb2),
    Rgb888::new(0xd5, 0x5e, 0x00),
    Rgb888::new(0x00, 0x9e, 0x73),
];
const GREY: Rgb888 = Rgb888::new(0xdd, 0xdd, 0xdd);

/// One table: for each number of cameras, the limit and what was reached.
pub struct Series {
    pub name: String,
    pub limit: &'static str,
    pub points: Vec<(usize, f64, f64)>,
}

struct Canvas(Vec<u8>);

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        Size::new(WIDTH as u32, HEIGHT as u32)
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(
        &mut self,
        pixels: I,
    ) -> Result<(), Infallible> {
        for Pixel(point, color) in pixels {
            if self.bounding_box().contains(point) {
                let at = 3 * (point.y as usize * WIDTH + point.x as usize);
                self.0[at..at + 3].copy_from_slice(&[color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

/// Where things are in the picture.
struct Axes {
    cameras: Vec<usize>,
    most: f64,
}

impl Axes {
    fn of(all: &[Series]) -> Self {
        let mut cameras: Vec<_> = all
            .iter()
            .flat_map(|s| s.points.iter().map(|p| p.0))
            .collect();
        cameras.sort_unstable();
        cameras.dedup();
        let rates = all
            .iter()
            .flat_map(|s| s.points.iter().flat_map(|p| [p.1, p.2]));
        let highest = rates.fold(1.0, f64::max);
        // A round number above it.
        let magnitude = 10f64.powf(highest.log10().floor());
        let most = [1.0, 2.0, 2.5, 5.0, 10.0].map(|factor| factor * magnitude);
        let most = most.into_iter().find(|most| *most >= highest);
        Self {
            cameras,
            most: most.unwrap_or(highest),
        }
    }

    /// The numbers of cameras are as far from each other as the rows are.
    fn x(&self, cameras: usize) -> i32 {
        let place = self
            .cameras
            .iter()
            .position(|other| *other == cameras)
            .unwrap_or(0) as i32;
        let steps = (self.cameras.len() as i32 - 1).max(1);
        LEFT + (WIDTH as i32 - LEFT - RIGHT) * place / steps
    }

    fn y(&self, rate: f64) -> i32 {
        let height = HEIGHT as i32 - TOP - BOTTOM;
        HEIGHT as i32 - BOTTOM - (f64::from(height) * rate / self.most) as i32
    }
}

pub fn write(path: &Path, title: &str, all: &[Series]) -> Result<(), Box<dyn Error>> {
    let mut canvas = Canvas(vec![0xff; 3 * WIDTH * HEIGHT]);
    let axes = Axes::of(all);
    draw_axes(&mut canvas, &axes, title)?;
    for (index, (series, color)) in all.iter().zip(COLORS.iter().cycle()).enumerate() {
        draw_series(&mut canvas, &axes, series, *color)?;
        let y = HEIGHT as i32 - 14;
        let x = LEFT + (WIDTH as i32 - LEFT - RIGHT) / all.len().max(1) as i32 * index as i32;
        let text = format!("{}: thick; {}: thin", series.name, series.limit);
        Text::new(
            &text,
            Point::new(x, y),
            MonoTextStyle::new(&FONT_7X13, *color),
        )
        .draw(&mut canvas)?;
    }
    let mut encoder = png::Encoder::new(
        BufWriter::new(File::create(path)?),
        WIDTH as u32,
        HEIGHT as u32,
    );
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&canvas.0)?;
    Ok(())
}

fn draw_axes(canvas: &mut Canvas, axes: &Axes, title: &str) -> Result<(), Infallible> {
    let black = MonoTextStyle::new(&FONT_7X13, Rgb888::BLACK);
    let large = MonoTextStyle::new(&FONT_10X20, Rgb888::BLACK);
    let middle = (LEFT + WIDTH as i32 - RIGHT) / 2;
    Text::with_alignment(title, Point::new(middle, 30), large, Alignment::Center).draw(canvas)?;
    for line in 0..=GRID_LINES {
        let rate = axes.most * f64::from(line) / f64::from(GRID_LINES);
        let y = axes.y(rate);
        Line::new(Point::new(LEFT, y), Point::new(WIDTH as i32 - RIGHT, y))
            .into_styled(PrimitiveStyle::with_stroke(GREY, 1))
            .draw(canvas)?;
        let place = Point::new(LEFT - 8, y + 4);
        Text::with_alignment(&format!("{rate:.0}"), place, black, Alignment::Right).draw(canvas)?;
    }
    for cameras in &axes.cameras {
        let place = Point::new(axes.x(*cameras), HEIGHT as i32 - BOTTOM + 18);
        Text::with_alignment(&cameras.to_string(), place, black, Alignment::Center).draw(canvas)?;
    }
    Text::new("frames a second", Point::new(8, TOP - 14), black).draw(canvas)?;
    let place = Point::new(middle, HEIGHT as i32 - BOTTOM + 36);
    Text::with_alignment("cameras", place, black, Alignment::Center).draw(canvas)?;
    Ok(())
}

fn draw_series(
    canvas: &mut Canvas,
    axes: &Axes,
    series: &Series,
    color: Rgb888,
) -> Result<(), Infallible> {
    let line = |of: fn(&(usize, f64, f64)) -> f64| {
        let points = series.points.iter();
        points
            .map(|point| Point::new(axes.x(point.0), axes.y(of(point))))
            .collect::<Vec<_>>()
    };
    for (points, width) in [(line(|p| p.1), 1), (line(|p| p.2), 3)] {
        let style = PrimitiveStyle::with_stroke(color, width);
        Polyline::new(&points).into_styled(style).draw(canvas)?;
        for point in points {
            let dot = Circle::with_center(point, 3 + 2 * width);
            dot.into_styled(PrimitiveStyle::with_fill(color))
                .draw(canvas)?;
        }
    }
    Ok(())
}
