//! The tasks of a study, one by one: who asked for what, who permitted it, what it cost, how it ended.

use cohortium_messages::{Author, Name, decode_cells};
use cohortium_query::{Answer, AnswerCell, answer};

use crate::markup::{Markup, paragraph, points, table, tag};
use crate::outcome::{Outcome, who};
use crate::report::words;
use crate::task::{Refusal, Released, TaskRecord};

/// The most rows of a released table that the page shows; the rest stands in the release.
const ROWS_SHOWN: usize = 40;

/// What a task alone costs, in words.
pub(crate) fn price(task: &TaskRecord) -> String {
    match &task.priced {
        Ok(priced) => format!("{:.3}", priced.facts().epsilon_micro as f64 / 1e6),
        Err(_) => String::from("\u{2013}"),
    }
}

/// How a task ended, in a word.
pub(crate) fn ending(task: &TaskRecord) -> Markup {
    let (class, text) = match task.outcome() {
        Outcome::Failed { .. } => ("failed", "no answer"),
        Outcome::Open => ("open", "not ended"),
        Outcome::Refused { .. } => ("refused", "refused"),
        Outcome::Released { .. } => ("released", "released"),
    };
    Markup::element("span", &[("class", &class)], Markup::text(text))
}

/// All about one task. Of who is `contradicted`, nothing about prices is believed.
pub(crate) fn section(number: usize, task: &TaskRecord, contradicted: &[&Name]) -> Markup {
    let document = &task.task;
    let facts = [
        ("Asked by", document.researcher.to_string()),
        ("Asked at", format!("{} (the researcher's clock), entry {} of the log", document.asked_at, task.index)),
        ("Purpose", document.purpose.to_string()),
        ("Dataset", document.plan.dataset.to_string()),
        ("Price at each node", format!("\u{3b5} {} if it were the only question", price(task))),
        ("Plan", task.plan.to_string()),
        ("Task", document.hash().to_string()),
    ];
    let rows = facts.map(|(name, value)| vec![Markup::text(name), Markup::text(value)]);
    let sql = Markup::element("pre", &[("class", &"sql")], Markup::text(&document.sql));
    let heading = Markup::text(format!("Question {number}: ")).and(ending(task));
    let body = tag("h3", heading)
        .and(paragraph("As the researcher wrote it; the nodes run the plan made from it, not this text:"))
        .and(sql)
        .and(table([], rows))
        .and(approvals(task))
        .and(at_nodes(task, contradicted))
        .and(refusals(task))
        .and(task.release.as_ref().map_or_else(Markup::default, |release| released(task, release)));
    let failure = task
        .failure
        .as_ref()
        .map(|(index, reason)| paragraph(format!("No answer. The hub says (entry {index}): {reason}")));
    Markup::element("section", &[], body.and(failure.unwrap_or_default()))
}

/// What each node said, and what became of its price.
fn at_nodes(task: &TaskRecord, contradicted: &[&Name]) -> Markup {
    let nodes = task.study.agreement.participants();
    let rows = nodes.iter().map(|node| {
        let permitted = match task.permits.get(node) {
            Some((time, snapshot)) => format!("permitted at {time}, rows committed to as {}", snapshot.short()),
            None if task.refusals.iter().any(|refusal| refusal.author == Author::Node(node.clone())) => {
                String::from("refused")
            }
            None => String::from("said nothing in the log"),
        };
        let paid = match (task.permits.contains_key(node), task.settled.get(node)) {
            (_, Some(Some(number))) => format!("paid (account entry {number})"),
            (_, Some(None)) => String::from("given back: no row was read"),
            (true, None) => String::from("reserved; what became of it is not in the log"),
            (false, None) => String::from("nothing"),
        };
        let doubt = if contradicted.contains(&node) { "; not believed, it contradicts itself" } else { "" };
        let paid = paid + doubt;
        let in_total = task.release.as_ref().map(|release| release.document.survivors.contains(node));
        let part = match in_total {
            Some(true) => "in the total",
            Some(false) => "not in the total",
            None => "\u{2013}",
        };
        [node.to_string(), permitted, paid, part.to_owned()].map(Markup::text).to_vec()
    });
    table(["node", "decision, by its own clock", "price", "answer"], rows)
}

/// What people said about it, and why.
fn approvals(task: &TaskRecord) -> Markup {
    let each = task.approvals.iter().map(|said| {
        let word = if said.approved { "approved" } else { "refused" };
        Markup::text(format!(
            "{} of {} ({}) {word} at {} (entry {}): {}",
            said.person, said.organisation, said.role, said.time, said.entry, said.why
        ))
    });
    if task.approvals.is_empty() { Markup::default() } else { points(each) }
}

fn refusals(task: &TaskRecord) -> Markup {
    let each = |refusal: &Refusal| {
        let role = if matches!(refusal.author, Author::Hub(_)) { "The hub" } else { "The node" };
        let heading = format!("{role} {} refused at {} (entry {}):", who(&refusal.author), refusal.time, refusal.index);
        let clauses = refusal.clauses.iter().map(|clause| {
            let words = words::clause(clause).unwrap_or("A clause that this version has no words for.");
            tag("b", Markup::text(clause)).and(Markup::text(format!(" \u{2013} {words}")))
        });
        let own_words = paragraph(format!("In its own words: {}", refusal.why));
        paragraph(heading).and(points(clauses)).and(own_words)
    };
    task.refusals.iter().map(each).collect()
}

fn released(task: &TaskRecord, release: &Released) -> Markup {
    let document = &release.document;
    let survivors: Vec<String> = document.survivors.iter().map(ToString::to_string).collect();
    let summary = points(
        [
            format!("Released at {} by the hub's clock, entry {} of the log.", document.released_at, release.index),
            format!(
                "In the total: {}. Receipts of all of them and {} signatures on who they are were checked.",
                survivors.join(", "),
                document.consents.len()
            ),
            format!(
                "Noise: variance {} in each number, in steps of the lattice squared; it follows from plan and price.",
                document.noise_variance
            ),
            format!("Release {}.", document.hash()),
        ]
        .map(Markup::text),
    );
    let shown = task.priced.as_ref().ok().and_then(|priced| {
        let cells = decode_cells(&document.cells)?;
        answer(priced, &cells, document.noise_variance.parse().ok()?).ok()
    });
    summary.and(shown.map_or_else(Markup::default, |answer| answered(&answer)))
}

/// The released table, each number with the interval of its noise.
fn answered(answer: &Answer) -> Markup {
    let rows = answer.rows.iter().take(ROWS_SHOWN).map(|row| row.iter().map(cell).collect());
    let rows: Vec<Vec<Markup>> = rows.collect();
    let shown = table(answer.columns.iter().map(String::as_str), rows);
    let left_out = answer.rows.len().saturating_sub(ROWS_SHOWN);
    let note = match left_out {
        0 => String::from("With 95 % intervals, which speak of the noise alone."),
        _ => format!("With 95 % intervals, which speak of the noise alone. {left_out} more rows stand in the release."),
    };
    shown.and(paragraph(note))
}

fn cell(cell: &AnswerCell) -> Markup {
    match cell {
        AnswerCell::Key(Some(value)) => Markup::text(value),
        AnswerCell::Key(None) => tag("i", Markup::text("not recorded")),
        AnswerCell::Estimate { value, low, high } => Markup::text(format!("{value:.1}")).and(Markup::element(
            "span",
            &[("class", &"interval")],
            Markup::text(format!(" {low:.1} to {high:.1}")),
        )),
        AnswerCell::Suppressed { fewer_than } => {
            tag("i", Markup::text(format!("not shown: fewer than {fewer_than} persons")))
        }
    }
}
