//! The box at the top of a page: whether the log verified, and what happened in a few lines.
//!
//! A reader who stops here must not have read too much into it: so it says first what "verified" means, and what happened
//! besides questions is counted here and told below, once.

use std::collections::BTreeMap;

use cohortium_messages::{Author, Name};

use crate::AuditError;
use crate::examine::Examined;
use crate::markup::{Markup, link, paragraph, points, tag};
use crate::outcome::{Finding, FindingKind, LogReport, Outcome};
use crate::report::chart::short;
use crate::report::noted;
use crate::task::TaskRecord;

/// What the word in the heading says, and what it does not.
const MEANING: &str = "This says that the records agree with each other and with the agreement. It does not say that the released \
    numbers are right, nor that what was agreed is lawful.";

/// The verdict on the study whose agreement was handed in, and what happened in it in a few lines.
pub(crate) fn write(examined: &Examined, tasks: &[&TaskRecord]) -> Result<Markup, AuditError> {
    let (log, met) = (LogReport::of(&examined.log), examined.met());
    let (given, current) = (&examined.given.agreement, &examined.current);
    let unchecked = examined.unchecked();
    let (class, heading) = match (examined.contradicted().next(), unchecked) {
        (None, None) => ("verdict good", "Verified"),
        (Some(_), _) => ("verdict bad", "Not verified: a member contradicts itself"),
        (None, Some(_)) => ("verdict bad", "Not verified: entries of this study could not be checked"),
    };
    let every = match unchecked {
        None => String::from("Every entry of this study is signed by its author"),
        Some((count, first)) => format!(
            "{count} entries of this study, the first at {first}, could not be checked: the log does not hold their agreement \
             signed by all its custodians. Every other entry of it is signed by its author"
        ),
    };
    let in_force = if current.agreement.hash() == given.hash() {
        String::new()
    } else {
        let agreement = &current.agreement;
        format!(
            " Amended since: revision {}, fingerprint {}, is in force from entry {}.",
            agreement.revision,
            agreement.hash().fingerprint(),
            current.from
        )
    };
    let members = log.cosigned_by.iter().filter(|by| met.participants().iter().any(|n| n.as_str() == by.organisation));
    let cosigners: Vec<String> = members.map(|by| format!("{} at {}", by.organisation, by.time)).collect();
    let checked = [
        format!(
            "The log of hub {} has {} entries, with the root {}. Every hash was computed anew.",
            log.origin, log.size, log.root
        ),
        format!(
            "{} of {} organisations cosigned this state of it, and {} must: {}.",
            cosigners.len(),
            met.parties.len(),
            cohortium_policy::log_terms(met).map_err(crate::unusable)?.quorum,
            cosigners.join(", ")
        ),
        format!(
            "All custodians signed the agreement that was handed in, revision {}, fingerprint {}.{in_force}",
            given.revision,
            given.hash().fingerprint()
        ),
        format!(
            "{every}; every permit, price, account and release was decided and computed again, from the signed question and the signed agreement."
        ),
    ];
    let body = tag("h2", Markup::text(heading))
        .and(tag("p", tag("b", Markup::text(MEANING))))
        .and(paragraph(as_of(&log)))
        .and(points(summary(examined, tasks)))
        .and(paragraph("What was checked:"))
        .and(points(checked.map(Markup::text)))
        .and(to_be_known(examined));
    Ok(Markup::element("div", &[("class", &class)], body))
}

/// The page's date: it holds no clock of its own, so that it is the same bytes whenever it is made.
fn as_of(log: &LogReport) -> String {
    let newest = log.cosigned_by.iter().map(|by| by.time).max();
    let dated = newest.map_or_else(String::new, |time| format!(", last cosigned at {time}"));
    format!("As of entry {} of the log{dated}. What was logged later is not on this page.", log.size.saturating_sub(1))
}

/// What happened, counted.
fn summary(examined: &Examined, tasks: &[&TaskRecord]) -> Vec<Markup> {
    let mut lines = vec![Markup::text(questions(tasks))];
    lines.extend(budgets(examined).into_iter().map(Markup::text));
    let count = |kind: FindingKind| {
        examined.findings_of_the_study().0.into_iter().filter(|finding| finding.kind == kind).count()
    };
    let alerts = noted::alerts(examined).len();
    let besides = format!(
        "Alerts: {alerts}. Steps of incidents: {}. Agreements and keys taken back: {}. More about that ",
        count(FindingKind::Incident),
        count(FindingKind::Revocation)
    );
    lines.push(Markup::text(stops(examined)));
    lines.push(Markup::text(besides).and(link(noted::ANCHOR, "at the end")).and(Markup::text(".")));
    lines
}

/// How many questions there were, and how they ended; who said no to those that were refused.
fn questions(tasks: &[&TaskRecord]) -> String {
    let (mut endings, mut refused) = (BTreeMap::<&str, usize>::new(), BTreeMap::<&str, usize>::new());
    for task in tasks {
        let ending = match task.outcome() {
            Outcome::Released { .. } => "answered",
            Outcome::Refused { .. } => "refused",
            Outcome::Failed { .. } => "ended without an answer",
            Outcome::Open => "not ended",
        };
        *endings.entry(ending).or_default() += 1;
        if ending == "refused" {
            *refused.entry(who_refused(task)).or_default() += 1;
        }
    }
    let list = |counts: &BTreeMap<&str, usize>| {
        counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    };
    let by = if refused.is_empty() { String::new() } else { format!(" Refused: {}.", list(&refused)) };
    match tasks.len() {
        0 => String::from("No question was asked."),
        1 => format!("1 question: {}.{by}", list(&endings)),
        number => format!("{number} questions: {}.{by}", list(&endings)),
    }
}

/// Who said no first. Where a person did, the refusal of that house's node only follows.
fn who_refused(task: &TaskRecord) -> &'static str {
    let first = task.refusals.iter().min_by_key(|refusal| refusal.index).map(|refusal| &refusal.author);
    match first {
        Some(Author::Node(node)) => {
            let is_of_people = task.approvals.iter().any(|said| !said.approved && said.organisation == *node);
            if is_of_people { "by people" } else { "by nodes" }
        }
        _ => "by the hub",
    }
}

/// Of each dataset what the node that spent most has spent.
fn budgets(examined: &Examined) -> Vec<String> {
    let mut most: BTreeMap<&Name, Option<f64>> = BTreeMap::new();
    for account in examined.accounts() {
        let spent = most.entry(&account.dataset).or_default();
        if !account.contradicted {
            *spent = Some(spent.map_or(account.epsilon_spent, |most| most.max(account.epsilon_spent)));
        }
    }
    let total = examined.current.agreement.budgets.epsilon_total;
    let line = |(dataset, spent): (&Name, Option<f64>)| match spent {
        Some(spent) => format!(
            "Privacy budget of dataset {dataset}: \u{3b5} {} of {total} spent or reserved, at the node that spent most.",
            short(spent)
        ),
        None => format!("Privacy budget of dataset {dataset}: what was spent of {total} is not known."),
    };
    most.into_iter().map(line).collect()
}

/// How often the study was stopped somewhere, and where it still is.
fn stops(examined: &Examined) -> String {
    let (begun, standing) = examined.tasks.stops(&examined.given.agreement.study);
    let still: Vec<String> =
        standing.iter().map(|(organisation, entry)| format!("{organisation} (since entry {entry})")).collect();
    match (begun, still.is_empty()) {
        (0, _) => String::from("The study was never stopped."),
        (1, true) => String::from("The study was stopped once, and went on."),
        (begun, true) => {
            format!("The study was stopped {begun} times, each at one organisation; all stops have ended.")
        }
        (begun, false) => format!("Stops of the study: {begun}. It stands still at {}.", still.join(", ")),
    }
}

/// What is left open; what is told below, or counted above, is not told twice.
fn to_be_known(examined: &Examined) -> Markup {
    let (own, others) = examined.findings_of_the_study();
    let mut list: Vec<Markup> = own.into_iter().filter(|finding| !noted::is_noted(finding.kind)).map(finding).collect();
    if others > 0 {
        list.push(Markup::text(format!(
            "Findings about other studies in the same log, which its audit names: {others}."
        )));
    }
    if list.is_empty() { paragraph("Nothing else is left open.") } else { paragraph("To be known:").and(points(list)) }
}

/// A finding in a line.
pub(crate) fn finding(finding: &Finding) -> Markup {
    match finding.entry {
        Some(entry) => Markup::text(format!("Entry {entry}: {}", finding.text)),
        None => Markup::text(&finding.text),
    }
}
