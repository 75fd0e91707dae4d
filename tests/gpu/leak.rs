//! How much memory is gone after something is made and dropped many times.

use std::time::{Duration, Instant};

/// The first rounds fill what is kept for the life of the process.
const SETTLING: u32 = 20;
const ROUNDS: u32 = 400;
const TIME: Duration = Duration::from_secs(10);

pub fn print_head() {
    println!(
        "{:>34} {:>7} {:>9} {:>20} {:>15}",
        "made and dropped", "rounds", "ms each", "GPU KiB each, 1st/2nd", "host KiB each"
    );
}

/// Prints what each round of `work` leaves behind, on the GPU for the first and the second half of the rounds: what is
/// lost for good is lost in both. The driver takes the GPU's memory in pieces of 2 MiB.
pub fn print_row(name: &str, free_memory: impl Fn() -> usize, mut work: impl FnMut()) {
    (0..SETTLING).for_each(|_| work());
    let (free, host, start) = (free_memory(), resident_kib(), Instant::now());
    let mut rounds = 0;
    let mut half = None;
    while rounds < ROUNDS && start.elapsed() < TIME {
        work();
        rounds += 1;
        if half.is_none() && (rounds == ROUNDS / 2 || start.elapsed() > TIME / 2) {
            half = Some((rounds, free_memory()));
        }
    }
    let time = start.elapsed();
    let left = free_memory();
    let (first, free_then) = half.unwrap_or((rounds, left));
    let each = |before: usize, after: usize, rounds: u32| {
        (before as f64 - after as f64) / 1024.0 / f64::from(rounds.max(1))
    };
    println!(
        "{name:>34} {rounds:>7} {:>9.2} {:>10.1} {:>9.1} {:>15.1}",
        time.as_secs_f64() * 1e3 / f64::from(rounds.max(1)),
        each(free, free_then, first),
        each(free_then, left, rounds - first),
        (resident_kib() - host) / f64::from(rounds.max(1))
    );
}

/// This process's memory on the host.
fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.unwrap().split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}
