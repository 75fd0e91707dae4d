//! Which row goes with which column, so that all pairs together gain most; rows and columns may stay alone.
//!
//! ByteTrack solves this with `lap.lapjv` and a limit of cost: a pair of cost c gains limit - c here. Boxes of one
//! frame seldom overlap many others, so the pairs that may be matched fall apart into small groups, each solved on
//! its own by shortest augmenting paths (Jonker and Volgenant, 1987). The crates that solve assignments want a full
//! matrix, which is the larger problem, and allocate for each.

/// A row and a column that may be matched.
#[derive(Clone, Copy, Debug)]
struct Pair {
    /// The group that it belongs to.
    group: u32,
    row: u32,
    column: u32,
    gain: f32,
}

/// No row, or no column.
const NONE: u32 = u32::MAX;

/// Keep one for many problems: its buffers are used again.
#[derive(Debug, Default)]
pub struct Assigner {
    pairs: Vec<Pair>,
    /// Of each row, and behind them of each column, somebody of the same group; the lowest of a group names itself.
    groups: Vec<u32>,
    columns_of_rows: Vec<u32>,
    rows: usize,
    group: Group,
}

/// The pairs of one group, with rows and columns counted from 0.
#[derive(Debug, Default)]
struct Group {
    rows: Vec<u32>,
    columns: Vec<u32>,
    /// By row and column; infinite where they may not be matched.
    costs: Vec<f64>,
    row_potentials: Vec<f64>,
    column_potentials: Vec<f64>,
    row_of: Vec<u32>,
    column_of: Vec<u32>,
    /// Of the search for one path: how far a column is, from which column it was reached, and whether it was passed.
    distances: Vec<f64>,
    reached_from: Vec<u32>,
    passed: Vec<bool>,
}

impl Assigner {
    /// Begins another problem.
    pub fn begin(&mut self, rows: usize, columns: usize) {
        self.pairs.clear();
        self.rows = rows;
        self.groups.clear();
        self.groups.extend(0..(rows + columns) as u32);
        self.columns_of_rows.clear();
        self.columns_of_rows.resize(rows, NONE);
    }

    /// A row and a column, each pair once, may be matched, which gains so much; nothing or less is not offered.
    pub fn offer(&mut self, row: usize, column: usize, gain: f32) {
        if gain > 0.0 {
            self.pairs.push(Pair {
                group: 0,
                row: row as u32,
                column: column as u32,
                gain,
            });
            let (a, b) = (self.group_of(row), self.group_of(self.rows + column));
            self.groups[a.max(b) as usize] = a.min(b);
        }
    }

    /// Matches them. Equal problems are always solved alike.
    pub fn solve(&mut self) {
        for index in 0..self.pairs.len() {
            self.pairs[index].group = self.group_of(self.pairs[index].row as usize);
        }
        self.pairs
            .sort_unstable_by_key(|pair| (pair.group, pair.row, pair.column));
        for pairs in self.pairs.chunk_by(|a, b| a.group == b.group) {
            match pairs {
                [pair] => self.columns_of_rows[pair.row as usize] = pair.column,
                _ => self.group.solve(pairs, &mut self.columns_of_rows),
            }
        }
    }

    /// The column that a row was matched with.
    pub fn column_of(&self, row: usize) -> Option<usize> {
        let column = self.columns_of_rows.get(row).copied();
        column
            .filter(|column| *column != NONE)
            .map(|column| column as usize)
    }

    fn group_of(&mut self, mut index: usize) -> u32 {
        while self.groups[index] as usize != index {
            let next = self.groups[index] as usize;
            // Halves the way for those who come later.
            self.groups[index] = self.groups[next];
            index = self.groups[index] as usize;
        }
        index as u32
    }
}

impl Group {
    /// `pairs` are sorted by row and column.
    fn solve(&mut self, pairs: &[Pair], columns_of_rows: &mut [u32]) {
        self.prepare(pairs);
        for row in 0..self.rows.len() {
            self.add(row);
        }
        for (row, column) in self.rows.iter().zip(&self.column_of) {
            let column = self.columns.get(*column as usize);
            columns_of_rows[*row as usize] = column.copied().unwrap_or(NONE);
        }
    }

    fn prepare(&mut self, pairs: &[Pair]) {
        self.rows.clear();
        self.rows.extend(pairs.iter().map(|pair| pair.row));
        self.rows.dedup();
        self.columns.clear();
        self.columns.extend(pairs.iter().map(|pair| pair.column));
        self.columns.sort_unstable();
        self.columns.dedup();
        let (rows, columns) = (self.rows.len(), self.columns.len());
        self.costs.clear();
        self.costs.resize(rows * columns, f64::INFINITY);
        for pair in pairs {
            let row = self.rows.partition_point(|row| *row < pair.row);
            let column = self.columns.partition_point(|column| *column < pair.column);
            self.costs[row * columns + column] = -f64::from(pair.gain);
        }
        for (list, length) in [
            (&mut self.row_potentials, rows),
            (&mut self.column_potentials, columns),
        ] {
            list.clear();
            list.resize(length, 0.0);
        }
        for (list, length) in [(&mut self.row_of, columns), (&mut self.column_of, rows)] {
            list.clear();
            list.resize(length, NONE);
        }
    }

    /// Takes one more row in. The way that changes the matching at the least cost ends at a column that was free, or at
    /// a row that is alone from then on, which costs nothing.
    fn add(&mut self, new: usize) {
        let columns = self.columns.len();
        self.distances.clear();
        self.distances.resize(columns, f64::INFINITY);
        self.reached_from.clear();
        self.reached_from.resize(columns, NONE);
        self.passed.clear();
        self.passed.resize(columns, false);
        let (mut row, mut from) = (new, NONE);
        let (mut alone, mut alone_distance) = (new, f64::INFINITY);
        let end = loop {
            let mut nearest = (NONE, f64::INFINITY);
            for column in 0..columns {
                if self.passed[column] {
                    continue;
                }
                let cost = self.costs[row * columns + column];
                let reduced = cost - self.row_potentials[row] - self.column_potentials[column];
                if reduced < self.distances[column] {
                    self.distances[column] = reduced;
                    self.reached_from[column] = from;
                }
                if self.distances[column] < nearest.1 {
                    nearest = (column as u32, self.distances[column]);
                }
            }
            if -self.row_potentials[row] < alone_distance {
                (alone, alone_distance) = (row, -self.row_potentials[row]);
            }
            let step = nearest.1.min(alone_distance);
            self.row_potentials[new] += step;
            for column in 0..columns {
                if self.passed[column] {
                    self.row_potentials[self.row_of[column] as usize] += step;
                    self.column_potentials[column] -= step;
                } else {
                    self.distances[column] -= step;
                }
            }
            alone_distance -= step;
            if nearest.1 > step {
                let freed = self.column_of[alone];
                self.column_of[alone] = NONE;
                break freed;
            }
            let column = nearest.0 as usize;
            if self.row_of[column] == NONE {
                break nearest.0;
            }
            self.passed[column] = true;
            (row, from) = (self.row_of[column] as usize, nearest.0);
        };
        self.rematch(end, new as u32);
    }

    /// Moves each row on the way to `end` one column on, and the new one to the first.
    fn rematch(&mut self, mut end: u32, new: u32) {
        while end != NONE {
            let from = self.reached_from[end as usize];
            let row = match from {
                NONE => new,
                from => self.row_of[from as usize],
            };
            self.row_of[end as usize] = row;
            self.column_of[row as usize] = end;
            end = from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The most that rows from `row` on can gain with the columns that are left.
    fn brute_force(gains: &[Vec<f32>], row: usize, free: &mut [bool]) -> f64 {
        let Some(of_row) = gains.get(row) else {
            return 0.0;
        };
        let mut best = brute_force(gains, row + 1, free);
        for column in 0..free.len() {
            if free[column] && of_row[column] > 0.0 {
                free[column] = false;
                let rest = brute_force(gains, row + 1, free);
                best = best.max(f64::from(of_row[column]) + rest);
                free[column] = true;
            }
        }
        best
    }

    fn solve(assigner: &mut Assigner, gains: &[Vec<f32>], columns: usize) -> Vec<Option<usize>> {
        assigner.begin(gains.len(), columns);
        for (row, of_row) in gains.iter().enumerate() {
            for (column, gain) in of_row.iter().enumerate() {
                assigner.offer(row, column, *gain);
            }
        }
        assigner.solve();
        (0..gains.len())
            .map(|row| assigner.column_of(row))
            .collect()
    }

    fn gain_of(gains: &[Vec<f32>], matched: &[Option<usize>]) -> f64 {
        let pairs = gains.iter().zip(matched);
        pairs
            .filter_map(|(row, column)| Some(f64::from(row[(*column)?])))
            .sum()
    }

    fn any_gains() -> impl Strategy<Value = (usize, Vec<Vec<f32>>)> {
        (0usize..7, 0usize..7).prop_flat_map(|(rows, columns)| {
            // Few different gains make many ties; most pairs are none.
            let gain = prop_oneof![
                3 => Just(0f32),
                3 => 0.001f32..1.0,
                2 => proptest::sample::select(vec![0.25f32, 0.5, 0.75, 1.0]),
            ];
            let row = prop::collection::vec(gain, columns);
            (Just(columns), prop::collection::vec(row, rows))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn no_other_matching_gains_more(problems in prop::collection::vec(any_gains(), 1..4)) {
            let mut assigner = Assigner::default();
            for (columns, gains) in problems {
                let matched = solve(&mut assigner, &gains, columns);
                let mut taken: Vec<_> = matched.iter().flatten().collect();
                taken.sort();
                taken.dedup();
                prop_assert_eq!(taken.len(), matched.iter().flatten().count());
                for (row, column) in matched.iter().enumerate() {
                    prop_assert!(column.is_none_or(|column| gains[row][column] > 0.0));
                }
                let best = brute_force(&gains, 0, &mut vec![true; columns]);
                prop_assert!((gain_of(&gains, &matched) - best).abs() < 1e-6, "{} {}", gain_of(&gains, &matched), best);
                prop_assert_eq!(&matched, &solve(&mut Assigner::default(), &gains, columns));
            }
        }
    }

    #[test]
    fn the_best_pair_is_given_up_where_two_others_gain_more() {
        let gains = [vec![0.9, 0.8], vec![0.7, 0.0]];
        let matched = solve(&mut Assigner::default(), &gains, 2);
        assert_eq!(matched, [Some(1), Some(0)]);
        let gains = [vec![0.9, 0.1], vec![0.7, 0.0]];
        let matched = solve(&mut Assigner::default(), &gains, 2);
        assert_eq!(matched, [Some(0), None]);
    }

    #[test]
    fn a_hundred_rows_that_may_all_be_matched_with_all_columns_are_solved() {
        let gains: Vec<Vec<f32>> = (0..100u32)
            .map(|row| {
                (0..100u32)
                    .map(|column| (((row * 37 + column * 91) % 101) + 1) as f32)
                    .collect()
            })
            .collect();
        let matched = solve(&mut Assigner::default(), &gains, 100);
        assert_eq!(matched.iter().flatten().count(), 100);
        // No exchange of two columns gains anything.
        for a in 0..100 {
            for b in 0..a {
                let (of_a, of_b) = (matched[a].unwrap(), matched[b].unwrap());
                assert!(gains[a][of_a] + gains[b][of_b] >= gains[a][of_b] + gains[b][of_a]);
            }
        }
    }
}
