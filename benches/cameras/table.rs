//! Rows as text.

use std::time::Duration;

use crate::rows::Row;

/// Prints what the columns are; `limit` is what the frames a second are compared with.
pub fn print_head(limit: &str) {
    println!(
        "{:>7} {:>10} {:>10} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>5} {:>5} {:>8} {:>8} {:>7} {:>8}",
        "cameras",
        limit,
        "fps",
        "ratio",
        "p50 ms",
        "p99 ms",
        "CPU s/k",
        "decoding",
        "µs/frame",
        "GPU MiB",
        "MiB/more",
        "SM %",
        "dec %",
        "start ms",
        "prep. s",
        "late",
        "missing"
    );
}

/// `lone` is the table's row of one camera. `paced` is what each camera is fed with.
pub fn print(row: &Row, lone: Option<&Row>, paced: Option<f64>) {
    let window = &row.window;
    let milliseconds =
        |duration: Option<Duration>| number(duration.map(|d| 1e3 * d.as_secs_f64()), 2);
    let more = row.window.cpu_for_a_thousand() - row.cpu_of_decoding;
    let further = match (row.memory, lone.and_then(|lone| lone.memory)) {
        (Some(all), Some(one)) if row.cameras > 1 => Some((all - one) / (row.cameras - 1) as f64),
        _ => None,
    };
    let missing = paced.map(|rate| {
        let due = row.cameras as f64 * rate * window.elapsed.as_secs_f64();
        (due - window.frames as f64).max(0.0)
    });
    println!(
        "{:>7} {:>10.1} {:>10.1} {:>6.3} {:>8} {:>8} {:>8.3} {:>8.3} {:>8.1} {:>9} {:>8} {:>5} {:>5} {:>8} {:>8.1} {:>7} {:>8}",
        row.cameras,
        row.limit,
        window.frames_per_second(),
        row.ratio(),
        milliseconds(window.delays.quantile(0.5)),
        milliseconds(window.delays.quantile(0.99)),
        window.cpu_for_a_thousand(),
        row.cpu_of_decoding,
        1e3 * more,
        number(row.memory, 0),
        number(further, 2),
        number(window.load.map(|load| load.compute), 0),
        number(window.load.map(|load| load.decoder), 0),
        milliseconds(row.start),
        row.prepared.as_secs_f64(),
        number(paced.map(|_| window.late as f64), 0),
        number(missing, 0),
    );
}

/// A number, or a dash where it is unknown.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}
