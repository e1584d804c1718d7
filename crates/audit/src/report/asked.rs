//! The tasks of a study, one by one: who asked for what, who permitted it, what it cost, how it ended.

use cohortium_messages::{Author, Name, ReleaseDocument, decode_cells};
use cohortium_query::{Answer, AnswerCell, answer};

use crate::markup::{Markup, link, paragraph, points, table, tag};
use crate::outcome::{Outcome, who};
use crate::report::words;
use crate::task::{Refusal, Released, TaskRecord};

/// The most rows of a released table that the page shows; the rest stands in the release.
const ROWS_SHOWN: usize = 40;
/// The most columns of which the noise is said in words; the table has it for all.
const COLUMNS_SAID: usize = 8;
/// The most questions that a repeated one is linked to.
const REPEATS_SHOWN: usize = 12;

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

/// Where on the page a question is told.
pub(crate) fn anchor(number: usize) -> String {
    format!("question-{number}")
}

/// Which other questions had the very same plan. Empty for most.
pub(crate) fn repeats(tasks: &[&TaskRecord], task: &TaskRecord, number: usize) -> Markup {
    let alike = tasks.iter().zip(1..).filter(|(other, place)| other.plan == task.plan && *place != number);
    let link = |place: usize| Markup::text(" ").and(link(&anchor(place), &format!("question {place}")));
    let links: Vec<Markup> = alike.take(REPEATS_SHOWN).map(|(_, place)| link(place)).collect();
    if links.is_empty() { Markup::default() } else { Markup::text("; same plan:").and(links.into_iter().collect()) }
}

/// What was asked, in words, from the plan that the nodes ran.
pub(crate) fn in_words(task: &TaskRecord) -> String {
    let plan = &task.task.plan;
    match task.study.agreement.dataset(&plan.dataset) {
        Some(terms) => cohortium_policy::words::question(plan, terms),
        None => format!("The agreement has no dataset {}.", plan.dataset),
    }
}

/// All about one of these tasks. Of who is `contradicted`, nothing about prices is believed.
pub(crate) fn section(number: usize, task: &TaskRecord, tasks: &[&TaskRecord], contradicted: &[&Name]) -> Markup {
    let document = &task.task;
    let facts = [
        ("Asked by", document.researcher.to_string()),
        ("Asked at", format!("{} (the researcher's clock), entry {} of the log", document.asked_at, task.index)),
        ("Purpose", cohortium_policy::words::purpose(&document.purpose)),
        ("Dataset", document.plan.dataset.to_string()),
        ("Price at each node", format!("\u{3b5} {} if it were the only question", price(task))),
        ("Plan", task.plan.to_string()),
        ("Task", document.hash().to_string()),
    ];
    let rows = facts.map(|(name, value)| vec![Markup::text(name), Markup::text(value)]);
    let sql = Markup::element("pre", &[("class", &"sql")], Markup::text(&document.sql));
    let heading = Markup::text(format!("Question {number}: ")).and(ending(task)).and(repeats(tasks, task, number));
    let body = tag("h3", heading)
        .and(tag("p", tag("b", Markup::text(in_words(task)))))
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
    Markup::element("section", &[("id", &anchor(number))], body.and(failure.unwrap_or_default()))
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
            None => String::from("was not reached, or had not decided"),
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
pub(crate) fn approvals(task: &TaskRecord) -> Markup {
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
    let shown = table_of(task, document);
    let survivors: Vec<String> = document.survivors.iter().map(ToString::to_string).collect();
    let summary = points(
        [
            format!("Released at {} by the hub's clock, entry {} of the log.", document.released_at, release.index),
            format!(
                "In the total: {}. Receipts of all of them and {} signatures on who they are were checked.",
                survivors.join(", "),
                document.consents.len()
            ),
            noise(shown.as_ref(), &document.noise_variance),
            format!("Release {}.", document.hash()),
        ]
        .map(Markup::text),
    );
    summary.and(shown.map_or_else(Markup::default, |answer| answered(&answer)))
}

/// The table that was asked for, as far as it can be made from what was released.
pub(crate) fn table_of(task: &TaskRecord, document: &ReleaseDocument) -> Option<Answer> {
    let cells = decode_cells(&document.cells)?;
    answer(task.priced.as_ref().ok()?, &cells, document.noise_variance.parse().ok()?).ok()
}

/// How much noise there is, in units of the answer where it has a table.
fn noise(answer: Option<&Answer>, variance: &str) -> String {
    let columns = answer.map(|answer| answer.columns.as_slice()).unwrap_or_default().iter().enumerate();
    let widest = |place: usize| {
        let cells = answer.iter().flat_map(|answer| &answer.rows).filter_map(|row| row.get(place));
        let halves = cells.filter_map(|cell| match cell {
            AnswerCell::Estimate { low, high, .. } => Some((high - low) / 2.0),
            AnswerCell::Key(_) | AnswerCell::Suppressed { .. } => None,
        });
        halves.reduce(f64::max)
    };
    let widths = columns.filter_map(|(place, name)| Some(format!("\u{b1} {} in {name}", rounded(widest(place)?))));
    let widths: Vec<String> = widths.take(COLUMNS_SAID).collect();
    let said = if widths.is_empty() {
        String::new()
    } else {
        format!(" with 95 %, {} (the widest interval of each column);", widths.join(", "))
    };
    format!("Noise:{said} variance {variance} in steps of the lattice squared, which follows from plan and price.")
}

/// The size of noise, for people.
fn rounded(size: f64) -> String {
    if size >= 10.0 { format!("{size:.0}") } else { format!("{size:.2}") }
}

/// The released table, each number with the interval of its noise.
pub(crate) fn answered(answer: &Answer) -> Markup {
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
