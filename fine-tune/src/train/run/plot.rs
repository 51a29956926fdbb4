//! A plot of a run: losses above, the learning rate below.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::metrics::Line;

const SIZE: (u32, u32) = (960, 640);
/// Height of the plot of losses; the learning rate has the rest.
const LOSSES: u32 = 430;
/// The most points of a line: more than there are pixels show nothing more.
const MAX_POINTS: usize = 800;
const TRAIN: RGBColor = RGBColor(150, 170, 200);
const EVAL: RGBColor = RGBColor(200, 60, 40);
const RATE: RGBColor = RGBColor(60, 130, 80);

type Point = (f64, f64);

/// The plot as SVG. Without a step there is an empty sheet.
pub fn draw(lines: &[Line]) -> String {
    let (mut losses, mut evals, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        match line {
            Line::Step(line) => {
                losses.push((line.step as f64, line.loss));
                rates.push((line.step as f64, line.learning_rate));
            }
            Line::Eval(line) => evals.push((line.step as f64, line.eval_loss)),
        }
    }
    let mut svg = String::new();
    {
        let sheet = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        // Drawing into a string fails only where a range is empty, and those are widened below.
        let _ = sheet.fill(&WHITE);
        let (above, below) = sheet.split_vertically(LOSSES);
        let evaluated = Series {
            name: "evaluation",
            points: &evals,
            colour: EVAL,
            dots: true,
        };
        let trained = Series {
            name: "training",
            points: &thinned(&losses),
            colour: TRAIN,
            dots: false,
        };
        let rate = Series {
            name: "learning rate",
            points: &thinned(&rates),
            colour: RATE,
            dots: false,
        };
        let _ = chart(&above, "loss (nats a target)", &[trained, evaluated]);
        let _ = chart(&below, "learning rate", &[rate]);
        let _ = sheet.present();
    }
    svg
}

struct Series<'a> {
    name: &'a str,
    points: &'a [Point],
    colour: RGBColor,
    dots: bool,
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    series: &[Series<'_>],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || {
        series
            .iter()
            .flat_map(|series| series.points.iter().copied())
    };
    let last = points().map(|(step, _)| step).fold(1.0, f64::max);
    let low = points()
        .map(|(_, value)| value)
        .fold(f64::INFINITY, f64::min);
    let high = points().map(|(_, value)| value).fold(0.0, f64::max);
    let low = if low.is_finite() { low.min(0.0) } else { 0.0 };
    let high = if high > low { high * 1.05 } else { low + 1.0 };
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(80)
        .build_cartesian_2d(0.0..last, low..high)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("step")
        .y_desc(title)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    for series in series.iter().filter(|series| !series.points.is_empty()) {
        let (colour, style) = (series.colour, series.colour.stroke_width(2));
        let line = LineSeries::new(series.points.iter().copied(), style);
        let line = if series.dots {
            line.point_size(3)
        } else {
            line
        };
        chart
            .draw_series(line)?
            .label(series.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    if series.len() > 1 {
        chart
            .configure_series_labels()
            .border_style(BLACK.mix(0.3))
            .background_style(WHITE)
            .draw()?;
    }
    Ok(())
}

/// A number with few digits, however small.
fn number(value: f64) -> String {
    if value == 0.0 || value.abs() >= 0.01 {
        format!("{value:.2}")
    } else {
        format!("{value:.1e}")
    }
}

/// At most [`MAX_POINTS`] points, each the mean of its neighbours.
fn thinned(points: &[Point]) -> Vec<Point> {
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |points: &[Point]| {
        let count = points.len() as f64;
        let sum = points
            .iter()
            .fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
        (sum.0 / count, sum.1 / count)
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::super::metrics::{EvalLine, StepLine};
    use super::*;

    #[test]
    fn long_and_short_and_empty_runs_are_drawn() {
        let step = |step: u64| {
            Line::Step(StepLine {
                step,
                epoch: 0.0,
                loss: 1.0 / step as f64,
                learning_rate: 1e-4,
                gradient_norm: 1.0,
                tokens_per_second: 1.0,
            })
        };
        let eval = Line::Eval(EvalLine {
            step: 1,
            eval_loss: 0.5,
            targets: 1.0,
        });
        // Without steps there are only the axes.
        let lines = |svg: &str| svg.matches("<polyline").count();
        let empty = lines(&draw(&[]));
        for (count, more) in [(0, 0), (1, 1), (5000, 3)] {
            let run: Vec<Line> = (1..=count).map(step).chain([eval.clone()]).collect();
            let svg = draw(if count == 0 { &[] } else { &run });
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(lines(&svg) >= empty + more, "{count}");
            assert!(svg.len() < 200_000);
        }
    }
}
