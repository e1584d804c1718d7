//! Random agreements near a given one, and random tasks near what an agreement permits, for this room's tests.
//!
//! Everything follows from a seed, which a test prints when it fails.

use std::collections::BTreeSet;

use chacha20::ChaCha20Rng;
use cohortium_messages::{
    Agreement, Analysis, AnalysisTerms, ApprovalClass, Column, ColumnRole, Condition, Decimal, Modifier, Name,
    PhaseKind, ProjectPhase, ReleaseMode, ResearcherEntry, ResearcherTerms, Role, RosterEntry, Sensitivity, SigningKey,
    Timestamp,
};
use rand_core::{Rng as _, SeedableRng as _};

use crate::approval::{Approval, Automatic};
use crate::clause::Asked;
use crate::fixtures::name;
use crate::log_policy::{LogTerms, log_policy};

/// Draws from one seed.
pub struct Draw(ChaCha20Rng);

impl Draw {
    pub fn seeded(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha20Rng::from_seed(bytes))
    }

    /// From 0 to below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.next_u32() as usize % limit.max(1)
    }

    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    pub fn some_of<T: Clone>(&mut self, items: &[T]) -> Vec<T> {
        items.iter().filter(|_| self.one_in(2)).cloned().collect()
    }
}

const ANALYSES: [Analysis; 3] = [Analysis::Count, Analysis::Mean, Analysis::Sum];
const MODIFIERS: [Modifier; 4] = [Modifier::Gs, Modifier::Irb, Modifier::Ncu, Modifier::Pub];
const PURPOSES: [&str; 6] = ["NRES", "GRU", "HMB", "POA", "DS:MONDO:0005267", "DS:other"];
const EPSILONS: [&str; 6] = ["0.01", "0.5", "0.999999", "1", "1.0000005", "2"];
const DAY_S: i64 = 86_400;

type Edit = fn(&mut Agreement, &mut Draw);

/// Each touches one key or a few that belong together. What makes an agreement invalid is not done.
const EDITS: [(&str, Edit); 36] = [
    ("analysis removed", |a, d| {
        a.analyses.remove(d.below(a.analyses.len()));
    }),
    ("analysis added", |a, d| {
        let (analysis, max_epsilon) = (*d.pick(&ANALYSES), epsilon(d));
        a.analyses.push(AnalysisTerms { analysis, max_cells: 10, max_epsilon });
    }),
    ("max_cells", |a, d| {
        let at = d.below(a.analyses.len());
        a.analyses[at].max_cells = *d.pick(&[1, 2, 999, 1000, 1001]);
    }),
    ("max_epsilon", |a, d| {
        let at = d.below(a.analyses.len());
        a.analyses[at].max_epsilon = epsilon(d);
    }),
    ("needed", |a, d| a.approval.needed = d.below(4) as u32),
    ("approval roles", |a, d| a.approval.roles = d.some_of(&[Role::PrivacyOfficer, Role::Steward])),
    ("hold", |a, d| a.approval.hold = d.one_in(2)),
    ("wait", |a, d| a.approval.wait_hours = *d.pick(&[1, 24, 48])),
    ("approved_plans", |a, d| a.approval.automatic.approved_plans = d.one_in(2)),
    ("class added", |a, d| {
        let datasets: Vec<Name> = a.datasets.iter().map(|terms| terms.name.clone()).collect();
        let class = ApprovalClass {
            analyses: d.some_of(&ANALYSES),
            datasets: d.some_of(&datasets),
            max_cells: *d.pick(&[1, 10, 1000]),
            max_epsilon: epsilon(d),
        };
        a.approval.automatic.classes.push(class);
    }),
    ("classes removed", |a, _| a.approval.automatic.classes.clear()),
    ("class narrowed", |a, d| {
        if let Some(class) = a.approval.automatic.classes.first_mut() {
            class.max_cells = 1 + class.max_cells / 2;
            class.analyses = d.some_of(&class.analyses);
        }
    }),
    ("attack thresholds", |a, d| a.attack_thresholds.membership_advantage = *d.pick(&[Decimal::ZERO, Decimal::ONE])),
    ("delta", |a, d| a.budgets.delta = d.pick(&["0.000001", "0.00001", "0.0000001"]).parse().unwrap()),
    ("epsilon_per_query", |a, d| a.budgets.epsilon_per_query = epsilon(d)),
    ("epsilon_total", |a, d| a.budgets.epsilon_total = (8 + d.below(5) as i32).into()),
    ("conditions", |a, d| {
        let stated = d.some_of(&MODIFIERS).into_iter();
        let detail = d.pick(&["number 7", "number 8"]).to_string();
        a.conditions = stated.map(|modifier| Condition { detail: detail.clone(), modifier }).collect();
    }),
    ("dataset removed", |a, d| {
        let gone = a.datasets.remove(d.below(a.datasets.len())).name;
        a.approval.automatic.classes.iter_mut().for_each(|class| class.datasets.retain(|name| *name != gone));
    }),
    ("mode", |a, d| dataset(a, d).mode = *d.pick(&[ReleaseMode::Exact, ReleaseMode::Noised])),
    ("minimum_cohort", |a, d| dataset(a, d).minimum_cohort = *d.pick(&[0, 5, 10])),
    ("max_rows", |a, d| dataset(a, d).schema.max_rows_per_person = 1 + d.below(4) as u32),
    ("max_groups", |a, d| dataset(a, d).schema.max_groups_per_person = 1 + d.below(4) as u32),
    ("roles", |a, d| {
        let roles = [ColumnRole::Aggregate, ColumnRole::Filter, ColumnRole::Group, ColumnRole::Label];
        column(a, d).roles = d.some_of(&roles);
    }),
    ("column declared otherwise", |a, d| {
        let (column, odd) = (column(a, d), d.one_in(2));
        match &mut column.domain {
            Some(domain) if odd => drop(domain.pop()),
            _ => column.nullable = !column.nullable,
        }
        column.bounds = column.bounds.map(|[low, high]| if d.one_in(3) { [low, 1000.into()] } else { [low, high] });
        column.sensitivity = *d.pick(&[Sensitivity::Ordinary, Sensitivity::Sensitive]);
    }),
    ("column removed", |a, d| {
        let columns = &mut dataset(a, d).schema.columns;
        columns.remove(d.below(columns.len()));
    }),
    ("party removed", |a, d| drop(a.parties.remove(d.below(a.parties.len())))),
    ("person removed", |a, d| {
        let party = d.below(a.parties.len());
        let people = &mut a.parties[party].people;
        people.remove(d.below(people.len()));
    }),
    ("person in another role", |a, d| {
        let party = d.below(a.parties.len());
        let people = &mut a.parties[party].people;
        let who = d.below(people.len());
        people[who].role = *d.pick(&[Role::Auditor, Role::Operator, Role::PrivacyOfficer, Role::Steward]);
    }),
    ("researcher added", |a, d| {
        let key = SigningKey::generate(&mut ChaCha20Rng::from_seed([77; 32])).public();
        let researcher = name("ruth");
        a.researchers.push(ResearcherTerms { entry: ResearcherEntry { key, researcher } });
        if d.one_in(2) {
            a.researchers.remove(0);
        }
    }),
    ("phases", |a, d| {
        a.phases = (0..d.below(3)).map(|at| phase(a, at, d)).collect();
    }),
    ("price in a phase", |a, d| {
        let limit = epsilon(d);
        a.phases.iter_mut().take(1).for_each(|phase| phase.epsilon_per_query = limit);
    }),
    ("two phases become one, or one becomes two", |a, d| match a.phases.as_mut_slice() {
        [first, second] => {
            first.until = second.until;
            a.phases.truncate(1);
        }
        [only] => {
            let mut rest = only.clone();
            only.until = only.from.plus_seconds(10 * DAY_S);
            rest.from = only.until.plus_seconds(DAY_S * d.below(2) as i64);
            a.phases.push(rest);
        }
        _ => a.phases.clear(),
    }),
    ("purposes", |a, d| {
        a.purposes = d.some_of(&PURPOSES).into_iter().map(|text| text.parse().unwrap()).collect();
    }),
    ("secure_sum", |a, d| {
        (a.secure_sum.colluders, a.secure_sum.threshold) = *d.pick(&[(1, 3), (1, 4), (2, 4)]);
    }),
    ("term", |a, d| {
        a.valid_from = a.valid_from.plus_seconds(DAY_S * (d.below(5) as i64 - 2));
        a.valid_until = a.valid_until.plus_seconds(DAY_S * (d.below(5) as i64 - 2));
    }),
    ("words", |a, d| {
        let text = d.pick(&["one", "two"]).to_string();
        a.title.clone_from(&text);
        a.purpose_text.clone_from(&text);
        a.retention_days = *d.pick(&[100, 365, 400]);
        a.ownership.models = text;
    }),
];

fn dataset<'a>(agreement: &'a mut Agreement, draw: &mut Draw) -> &'a mut cohortium_messages::DatasetTerms {
    let at = draw.below(agreement.datasets.len());
    &mut agreement.datasets[at]
}

fn column<'a>(agreement: &'a mut Agreement, draw: &mut Draw) -> &'a mut Column {
    let columns = &mut dataset(agreement, draw).schema.columns;
    let at = draw.below(columns.len());
    &mut columns[at]
}

fn epsilon(draw: &mut Draw) -> Decimal {
    draw.pick(&EPSILONS).parse().unwrap()
}

fn phase(agreement: &Agreement, position: usize, draw: &mut Draw) -> ProjectPhase {
    let from = agreement.valid_from.plus_seconds(DAY_S * (position as i64 * 100 + draw.below(3) as i64));
    let until = from.plus_seconds(DAY_S * *draw.pick(&[50, 97, 98]));
    let kind = *draw.pick(&[PhaseKind::Analyse, PhaseKind::Explore, PhaseKind::Publish]);
    ProjectPhase { analyses: draw.some_of(&ANALYSES), epsilon_per_query: epsilon(draw), from, kind, until }
}

/// An agreement that differs from `base` by at most so many edits, and is valid.
pub fn edited(base: &Agreement, edits: usize, draw: &mut Draw) -> Agreement {
    let mut agreement = base.clone();
    for _ in 0..edits {
        let (_, edit) = draw.pick(&EDITS);
        let mut next = agreement.clone();
        edit(&mut next, draw);
        let (parties, secure_sum, quorum) = (next.parties.len(), next.secure_sum, next.secure_sum.threshold);
        if draw.one_in(9) || parties != agreement.parties.len() || secure_sum != agreement.secure_sum {
            let parties: Vec<&RosterEntry> = next.parties.iter().map(|party| &party.entry).collect();
            let terms = LogTerms { post_quantum: draw.one_in(2), quorum };
            let Ok(policy) = log_policy(&next.hub, &parties, secure_sum, terms) else { continue };
            next.log_policy = policy.to_string();
        }
        if next.validate().is_ok() {
            agreement = next;
        }
    }
    agreement
}

/// Which facts of a task are drawn without looking at the agreement: mostly one of them, at times many or none.
struct Breaks {
    many: bool,
    one: usize,
}

impl Breaks {
    fn drawn(draw: &mut Draw) -> Self {
        Self { many: draw.one_in(5), one: draw.below(20) }
    }

    fn at(&self, fact: usize, draw: &mut Draw) -> bool {
        self.one == fact || (self.many && draw.one_in(6))
    }
}

/// A task near what the agreement permits: most facts fit, and those that have a limit are often at it.
pub fn asked(agreement: &Agreement, draw: &mut Draw) -> Asked {
    let breaks = Breaks::drawn(draw);
    let terms = draw.pick(&agreement.datasets);
    let now = if breaks.at(0, draw) { border(agreement, draw) } else { inside(agreement, draw) };
    let columns = |fact: usize, role: ColumnRole, draw: &mut Draw| {
        let any = breaks.at(fact, draw);
        let fitting = terms.schema.columns.iter().filter(|column| any || column.allows(role));
        let names: Vec<Name> = fitting.map(|column| column.name.clone()).collect();
        draw.some_of(&names).into_iter().collect::<BTreeSet<Name>>()
    };
    let permitted: Vec<Analysis> = agreement.analyses.iter().map(|terms| terms.analysis).collect();
    let permitted = match agreement.phase(now) {
        Some(phase) => permitted.into_iter().filter(|analysis| phase.analyses.contains(analysis)).collect(),
        None => permitted,
    };
    let analyses = match permitted.is_empty() || breaks.at(1, draw) {
        // One that is not permitted, where there is one.
        true => ANALYSES.into_iter().filter(|analysis| !permitted.contains(analysis) || draw.one_in(4)).collect(),
        false => vec![*draw.pick(&permitted)],
    };
    let mut affirms: BTreeSet<Modifier> = draw.some_of(&MODIFIERS).into_iter().collect();
    if !breaks.at(2, draw) {
        affirms.extend(agreement.conditions.iter().map(|condition| condition.modifier));
    }
    let mut participants: BTreeSet<Name> = agreement.participants().into_iter().collect();
    if breaks.at(3, draw) {
        participants = draw.some_of(&["a", "b", "c", "d", "e"]).into_iter().map(name).collect();
    }
    let granted = draw.pick(&agreement.purposes).clone();
    let limit = |fact: usize, limit: u32, draw: &mut Draw| limit + u32::from(breaks.at(fact, draw));
    Asked {
        affirms,
        aggregate_columns: columns(4, ColumnRole::Aggregate, draw),
        analyses: analyses.iter().copied().collect(),
        approval: approval(agreement, breaks.at(5, draw), draw),
        cells: cells(agreement, &analyses, breaks.at(6, draw), draw),
        counts_groups: !breaks.at(7, draw),
        dataset: if breaks.at(8, draw) { name("other") } else { terms.name.clone() },
        epsilon_micro: epsilon_micro(agreement, &analyses, now, breaks.at(9, draw), draw),
        filter_columns: columns(10, ColumnRole::Filter, draw),
        frozen: breaks.at(11, draw),
        group_columns: columns(12, ColumnRole::Group, draw),
        max_groups: limit(13, terms.schema.max_groups_per_person, draw),
        max_rows: limit(14, terms.schema.max_rows_per_person, draw),
        now,
        participants,
        purpose: if breaks.at(15, draw) { draw.pick(&PURPOSES).parse().unwrap() } else { granted },
        researcher: match breaks.at(16, draw) {
            true => name(["rosa", "ruth", "mallory"][draw.below(3)]),
            false => draw.pick(&agreement.researchers).entry.researcher.clone(),
        },
        revoked: breaks.at(17, draw),
    }
}

/// At or beside the smallest limit of what is computed, or anything.
fn cells(agreement: &Agreement, analyses: &[Analysis], any: bool, draw: &mut Draw) -> u64 {
    let limits = analyses.iter().filter_map(|analysis| agreement.analysis(*analysis)).map(|terms| terms.max_cells);
    let limit = u64::from(limits.min().unwrap_or(1));
    if any { *draw.pick(&[1, limit + 1, 1 << 40]) } else { *draw.pick(&[1, limit]) }
}

/// At or beside the smallest limit that holds, or anything.
fn epsilon_micro(agreement: &Agreement, analyses: &[Analysis], now: Timestamp, any: bool, draw: &mut Draw) -> u64 {
    let of_analyses = analyses.iter().filter_map(|analysis| agreement.analysis(*analysis)).map(|t| t.max_epsilon);
    let of_phase = agreement.phase(now).map(|phase| phase.epsilon_per_query);
    let smallest = of_analyses.chain(of_phase).chain([agreement.budgets.epsilon_per_query]).min().unwrap();
    let limit = u64::try_from(smallest.nano() / 1000).unwrap();
    if any { *draw.pick(&[0, limit + 1, 1_000_000, u64::MAX]) } else { *draw.pick(&[1.min(limit), limit]) }
}

/// A moment at or beside a border of the term or of a phase.
fn border(agreement: &Agreement, draw: &mut Draw) -> Timestamp {
    let mut borders = vec![agreement.valid_from, agreement.valid_until];
    borders.extend(agreement.phases.iter().flat_map(|phase| [phase.from, phase.until]));
    draw.pick(&borders).plus_seconds(*draw.pick(&[-1, 0, 1]))
}

/// The first, the last or some moment of the term, or of a phase where there are phases.
fn inside(agreement: &Agreement, draw: &mut Draw) -> Timestamp {
    let (from, until) = match agreement.phases.is_empty() {
        true => (agreement.valid_from, agreement.valid_until),
        false => {
            let phase = draw.pick(&agreement.phases);
            (phase.from, phase.until)
        }
    };
    *draw.pick(&[from, until.plus_seconds(-1), from.plus_seconds(DAY_S)])
}

/// What suffices, or anything.
fn approval(agreement: &Agreement, any: bool, draw: &mut Draw) -> Option<Approval> {
    let people = |count: u32| Approval::ByPeople((0..count).map(|at| name(&format!("person-{at}"))).collect());
    let (terms, automatic) = (&agreement.approval, Approval::Automatic(Automatic::Plan));
    let why = String::from("no");
    if any {
        let count = draw.below(4) as u32;
        let all = [
            automatic,
            people(count),
            Approval::Missing { have: 1, needed: 2 },
            Approval::Impossible,
            Approval::RefusedBy { person: name("paula"), why },
        ];
        return Some(draw.pick(&all).clone());
    }
    let runs_alone = terms.automatic.approved_plans || !terms.automatic.classes.is_empty();
    match (draw.below(3), terms.needed) {
        (0, _) => None,
        (1, needed) if needed > 0 => Some(people(needed)),
        _ if runs_alone => Some(automatic),
        _ => None,
    }
}
