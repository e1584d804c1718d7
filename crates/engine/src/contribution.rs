//! What one person may add to the answer, enforced on integers after every float is gone.
//!
//! Contribution bounding in one pass (Wilson, Zhang, Lam, Desfontaines, Simmons-Marengo, Gipson 2020, "Differentially
//! private SQL with bounded user contribution", with the choice of groups by keyed hash instead of at random): of the
//! groups that a person's rows fall into at most `max_groups` count, and in each the person's sum of every measure is
//! clamped to ± `max_rows`·W, where W is the lattice.
//!
//! **Sensitivity.** Argued: the sums of one person depend on that person's rows, the key, the plan and nothing else. The
//! choice of groups looks at no other person, so adding or removing a person adds or removes one vector with at most
//! `max_groups` × measures cells that are not zero, each at most `max_rows`·W: its squared L2 norm is at most
//! `max_groups`·measures·`max_rows`²·W². Where every row is another person, that vector is one row, with one group.
//!
//! **Why by keyed hash.** The same person keeps the same groups however often the same plan runs, so repeating a plan
//! shows nothing new; without the key nobody can craft rows that displace another group of the same person.
//!
//! **No overflow.** One row adds at most W ≤ 2^20 per cell and a snapshot has at most 2^31 rows: 2^51 within a person.
//! A person adds at most `max_rows`·W ≤ 2^24 and there are at most 2^31: 2^55 in a cell. Sums saturate all the same.

use std::collections::HashMap;

use hmac::Mac as _;

use crate::snapshot::keyed;

/// What bounds a contribution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many groups the answer has.
    pub groups: usize,
    /// How many sums per group, at least 1.
    pub measures: usize,
    /// In how many groups one person counts.
    pub max_groups: usize,
    /// ± `max_rows`·W.
    pub max_sum: i64,
}

impl Limits {
    const fn cells(&self) -> usize {
        self.groups.saturating_mul(self.measures)
    }
}

/// Sums in the making.
pub(crate) enum Tally {
    /// Every row is another person.
    Rows {
        /// What bounds a contribution.
        limits: Limits,
        /// The sums so far.
        cells: Vec<i64>,
    },
    /// Rows of one person are added up first. About 100 bytes for each person and group.
    Persons {
        /// What bounds a contribution.
        limits: Limits,
        /// Persons by number, in order of appearance.
        persons: HashMap<Box<str>, u32>,
        /// Where the sums of a person in a group stand, in units of `measures`.
        slots: HashMap<(u32, u32), usize>,
        /// Sums per slot and measure.
        sums: Vec<i64>,
    },
}

impl Tally {
    /// Nothing yet.
    pub fn new(limits: Limits, rows_are_persons: bool) -> Self {
        if rows_are_persons {
            Self::Rows { limits, cells: vec![0; limits.cells()] }
        } else {
            Self::Persons { limits, persons: HashMap::new(), slots: HashMap::new(), sums: Vec::new() }
        }
    }

    /// Adds a row of `person` that falls into `group`: one value per measure.
    ///
    /// Total: a group outside the answer, or a row without a person where there should be one, adds nothing.
    pub fn add(&mut self, person: Option<&str>, group: u32, values: &[i64]) {
        match self {
            Self::Rows { limits, cells } => {
                let row = values.iter().map(|value| (*value).clamp(-limits.max_sum, limits.max_sum));
                add_at(cells, group as usize, limits.measures, row);
            }
            Self::Persons { limits, persons, slots, sums } => {
                let Some(person) = person.and_then(|person| number(persons, person)) else { return };
                if group as usize >= limits.groups {
                    return;
                }
                let next = slots.len();
                let slot = *slots.entry((person, group)).or_insert(next);
                if slot == next {
                    sums.resize(sums.len() + limits.measures, 0);
                }
                add_at(sums, slot, limits.measures, values.iter().copied());
            }
        }
    }

    /// The bounded sums, group by group, `groups` × `measures` of them whatever was added.
    ///
    /// Promise: given rows, returns a vector that one person's rows change by an L2 norm of at most
    /// √(`max_groups`·`measures`)·`max_sum`; argued in the module text.
    pub fn finish(self, key: &[u8; 32], plan_hash: &[u8; 32]) -> Vec<i64> {
        match self {
            Self::Rows { cells, .. } => cells,
            Self::Persons { limits, persons, slots, sums } => {
                let mut names: Vec<&str> = vec![""; persons.len()];
                for (name, number) in &persons {
                    if let Some(place) = names.get_mut(*number as usize) {
                        *place = name;
                    }
                }
                let mut entries: Vec<Entry> =
                    slots.into_iter().map(|((person, group), slot)| Entry { person, group, slot }).collect();
                entries.sort_unstable_by_key(|entry| (entry.person, entry.group));
                let mut cells = vec![0; limits.cells()];
                for of_one in entries.chunk_by(|a, b| a.person == b.person) {
                    let name = of_one.first().and_then(|entry| names.get(entry.person as usize)).unwrap_or(&"");
                    for entry in chosen(of_one, limits.max_groups, name, key, plan_hash) {
                        let sums = sums.chunks_exact(limits.measures).nth(entry.slot).unwrap_or(&[]);
                        let bounded = sums.iter().map(|sum| (*sum).clamp(-limits.max_sum, limits.max_sum));
                        add_at(&mut cells, entry.group as usize, limits.measures, bounded);
                    }
                }
                cells
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Entry {
    person: u32,
    group: u32,
    slot: usize,
}

/// The groups in which one person counts: the first `max_groups` by HMAC-SHA256(key, plan hash ‖ person ‖ group).
/// Only the middle part varies in length, so no two inputs look alike.
fn chosen(of_one: &[Entry], max_groups: usize, person: &str, key: &[u8; 32], plan_hash: &[u8; 32]) -> Vec<Entry> {
    let mut kept = of_one.to_vec();
    if kept.len() > max_groups {
        kept.sort_by_cached_key(|entry| {
            let mut mac = keyed(key);
            mac.update(plan_hash);
            mac.update(person.as_bytes());
            mac.update(&entry.group.to_be_bytes());
            <[u8; 32]>::from(mac.finalize().into_bytes())
        });
        kept.truncate(max_groups);
    }
    kept
}

/// The number of a person. None beyond 2^32 persons, more than a snapshot has rows.
fn number(persons: &mut HashMap<Box<str>, u32>, person: &str) -> Option<u32> {
    if let Some(number) = persons.get(person) {
        return Some(*number);
    }
    let number = u32::try_from(persons.len()).ok()?;
    persons.insert(person.into(), number);
    Some(number)
}

/// Adds `values` to the `index`-th run of `width` sums, if there is one.
fn add_at(sums: &mut [i64], index: usize, width: usize, values: impl Iterator<Item = i64>) {
    let start = index.saturating_mul(width);
    let run = sums.get_mut(start..start.saturating_add(width)).unwrap_or_default();
    for (sum, value) in run.iter_mut().zip(values) {
        *sum = sum.saturating_add(value);
    }
}
