//! The page from top to bottom: the verdict, what it cannot show, who, the budgets, the questions, what happened besides.

use cohortium_messages::{Agreement, Fact, Name, Timestamp};
use cohortium_policy::words::purpose;

use crate::AuditError;
use crate::account::History;
use crate::examine::Examined;
use crate::markup::{self, Markup, link, paragraph, points, table, tag};
use crate::outcome::AccountReport;
use crate::report::chart::{self, Chart, short};
use crate::report::{Page, asked, noted, verdict};
use crate::task::TaskRecord;

/// For screens and for paper; no font and no picture from elsewhere.
pub(crate) const STYLE: &str = "
body { font: 15px/1.5 system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; color: #1a1a1a; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0.2rem; } h2 { border-bottom: 2px solid #1a1a1a; margin-top: 2.2rem; } h3 { margin-top: 1.8rem; }
table { border-collapse: collapse; width: 100%; margin: 0.6rem 0; font-size: 0.92em; }
th, td { border: 1px solid #c8c8c8; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; }
th { background: #f0f0f0; } td { overflow-wrap: anywhere; }
pre { background: #f6f6f6; border: 1px solid #dcdcdc; padding: 0.6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; } svg text { fill: #333; font-family: inherit; } svg.swatch { width: 34px; height: 12px; }
.key { margin-right: 1.4rem; } .interval { color: #555; font-size: 0.9em; }
.verdict { border: 3px solid; padding: 0.4rem 1rem; margin: 1rem 0; } .good { border-color: #1b6e3c; } .bad { border-color: #b00020; }
.verdict h2 { border: 0; margin: 0.4rem 0; } .good h2 { color: #1b6e3c; } .bad h2 { color: #b00020; }
.released { color: #1b6e3c; font-weight: 600; } .refused, .failed { color: #b00020; font-weight: 600; } .open { font-weight: 600; }
@media print { body { margin: 0; max-width: none; font-size: 11px; } section, table, svg, .verdict { break-inside: avoid; } h2, h3 { break-after: avoid; } }
";

/// The most researchers of whom a picture is drawn; the table has them all.
const PICTURES_MAX: usize = 12;

/// Writes the page from what was examined.
pub(crate) fn write(examined: &Examined) -> Result<Page, AuditError> {
    let agreement = &*examined.current.agreement;
    let tasks = examined.tasks.of(&agreement.study);
    let verified = examined.contradicted().next().is_none() && examined.unchecked().is_none();
    let title = format!("Study {}", agreement.study);
    let body = tag("h1", Markup::text(&title))
        .and(paragraph(&agreement.title))
        .and(verdict::write(examined, &tasks)?)
        .and(limits())
        .and(people(examined, agreement))
        .and(budgets(examined, agreement)?)
        .and(questions(examined, &tasks))
        .and(besides(examined, &tasks));
    Ok(Page { html: markup::page(&title, STYLE, body), verified, wrong: None })
}

fn people(examined: &Examined, agreement: &Agreement) -> Markup {
    let fingerprint = |key: &cohortium_messages::PublicKey| key.key_id();
    let party = |party: &cohortium_messages::Party| {
        [
            party.entry.organisation.to_string(),
            String::from("custodian, with a node beside its rows"),
            format!(
                "{} (agreements), {} (node)",
                fingerprint(&party.entry.agreement_key),
                fingerprint(&party.entry.message_key)
            ),
        ]
    };
    let researcher = |terms: &cohortium_messages::ResearcherTerms| {
        [terms.entry.researcher.to_string(), String::from("researcher, who may ask"), fingerprint(&terms.entry.key)]
    };
    let hub = [
        agreement.hub.hub.to_string(),
        String::from("hub, which coordinates and holds no data"),
        fingerprint(&agreement.hub.message_key),
    ];
    let mut rows: Vec<[String; 3]> = agreement.parties.iter().map(party).collect();
    rows.extend(agreement.researchers.iter().map(researcher));
    // Who took part under an earlier revision and left: tasks of that time are theirs too.
    for earlier in examined.revisions.iter().rev() {
        let now =
            earlier.agreement.parties.iter().map(party).chain(earlier.agreement.researchers.iter().map(researcher));
        for [name, part, keys] in now {
            if !rows.iter().any(|[known, _, known_keys]| (known, known_keys) == (&name, &keys)) {
                rows.push([name, format!("{part}; until revision {}", earlier.agreement.revision), keys]);
            }
        }
    }
    let rows = rows.into_iter().chain([hub]);
    let rows = rows.map(|row| row.map(Markup::text).to_vec());
    let agreed = Markup::element("pre", &[], Markup::text(cohortium_policy::describe(agreement)));
    tag("h2", Markup::text("Who, and what was agreed"))
        .and(table(["name", "part", "keys"], rows))
        .and(paragraph("The agreement in plain words, as its custodians read it before they signed:"))
        .and(agreed)
}

fn budgets(examined: &Examined, agreement: &Agreement) -> Result<Markup, AuditError> {
    let times: Vec<Timestamp> = examined.leaves.iter().map(|leaf| leaf.claims().time).collect();
    let (dates, size) = (chart::dated(&times), times.len() as u64);
    let mut body = tag("h2", Markup::text("Privacy budgets")).and(paragraph(format!(
        "In \u{3b5} at \u{3b4} = {}, for one person at one node: what all questions together may reveal. Reserved counts as spent.",
        agreement.budgets.delta
    )));
    for dataset in agreement.datasets.iter().map(|terms| &terms.name) {
        let histories = examined.books.histories(&examined.revisions, dataset, &examined.tasks)?;
        let draw = |cap: f64, of: &dyn Fn(&crate::account::Step) -> f64| {
            let spent: Vec<_> = histories.iter().map(|history| (history.node.clone(), series(history, of))).collect();
            Chart { cap, dates: &dates, size, spent: &spent }.draw()
        };
        let accounts = examined.accounts().filter(|account| account.dataset == *dataset);
        body = body
            .and(tag("h3", Markup::text(format!("Dataset {dataset}: the whole study"))))
            .and(draw(agreement.budgets.epsilon_total.to_f64(), &|step| step.epsilon.0))
            .and(table(["node", "spent or reserved", "of", "last account entry"], accounts.map(account)));
        let spenders = spenders(&histories);
        for researcher in spenders.iter().take(PICTURES_MAX) {
            let of = |step: &crate::account::Step| step.epsilon.1.get(*researcher).copied().unwrap_or_default();
            body = body
                .and(tag("h3", Markup::text(format!("Dataset {dataset}: questions of {researcher}"))))
                .and(draw(agreement.budgets.epsilon_per_researcher.to_f64(), &of));
        }
        if spenders.len() > PICTURES_MAX {
            let more = spenders.len() - PICTURES_MAX;
            body = body.and(paragraph(format!("{more} more researchers asked; of them no picture is drawn.")));
        }
    }
    Ok(body)
}

fn series(history: &History, of: &dyn Fn(&crate::account::Step) -> f64) -> Vec<(u64, f64)> {
    let mut series: Vec<(u64, f64)> = history.steps.iter().map(|step| (step.index, of(step))).collect();
    // The chain's order is the account's; two runs under way at once may be logged the other way round.
    series.sort_by_key(|(index, _)| *index);
    series
}

/// The researchers on whose behalf anything was spent or reserved.
fn spenders(histories: &[History]) -> Vec<&Name> {
    let last = histories.iter().filter_map(|history| history.steps.last());
    let spent = last.flat_map(|step| &step.epsilon.1).filter(|(_, epsilon)| **epsilon > 0.0).map(|(name, _)| name);
    spent.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn account(account: &AccountReport) -> Vec<Markup> {
    let spent = if account.contradicted {
        format!("not known: the node contradicts itself. It signed for {} in all", short(account.epsilon_spent))
    } else {
        short(account.epsilon_spent)
    };
    [account.node.to_string(), spent, account.epsilon_total.to_string(), account.sequence.to_string()]
        .map(Markup::text)
        .to_vec()
}

fn questions(examined: &Examined, tasks: &[&TaskRecord]) -> Markup {
    let heading = tag("h2", Markup::text("What was asked, and what became of it"));
    if tasks.is_empty() {
        return heading.and(paragraph("Nothing was asked."));
    }
    let rows = tasks.iter().zip(1..).map(|(task, number)| {
        let document = &task.task;
        let cells = [document.asked_at.to_string(), document.researcher.to_string(), purpose(&document.purpose)];
        let more = [document.plan.dataset.to_string(), asked::price(task)];
        let cells = cells.into_iter().chain(more).map(Markup::text);
        let ending = asked::ending(task).and(asked::repeats(tasks, task, number));
        [link(&asked::anchor(number), &number.to_string())].into_iter().chain(cells).chain([ending]).collect()
    });
    let overview = table(["question", "asked", "by", "purpose", "dataset", "\u{3b5} alone", "ending"], rows);
    let contradicted: Vec<&Name> = examined.contradicted().map(|(name, _)| name).collect();
    let each = tasks.iter().zip(1..).map(|(task, number)| asked::section(number, task, tasks, &contradicted));
    heading.and(overview).and(each.collect())
}

/// What was said besides questions: alerts, stops, incidents, what was taken back; and how the agreement changed.
fn besides(examined: &Examined, tasks: &[&TaskRecord]) -> Markup {
    let own = examined.leaves.iter().filter(|leaf| examined.is_of_the_study(leaf));
    let signed = own.filter_map(|leaf| match &leaf.claims().fact {
        Fact::Agreement { revision, .. } => Some(Markup::text(format!(
            "Entry {}, {}: {} signed revision {revision} of the agreement.",
            leaf.index,
            leaf.claims().time,
            leaf.claims().author
        ))),
        _ => None,
    });
    let heading = tag("h2", Markup::text("Alerts, stops, incidents, and what was taken back"));
    Markup::element("section", &[("id", &noted::ANCHOR)], heading.and(noted::list(examined, tasks)))
        .and(tag("h2", Markup::text("The agreement and its amendments")))
        .and(points(signed))
        .and(amendments(examined))
}

/// What each amendment changed, clause by clause.
fn amendments(examined: &Examined) -> Markup {
    let pairs = examined.revisions.iter().zip(examined.revisions.iter().skip(1));
    let each = pairs.map(|(old, new)| {
        let heading = format!("Revision {}, in force from entry {}", new.agreement.revision, new.from);
        let changes = cohortium_policy::diff(&old.agreement, &new.agreement);
        tag("h3", Markup::text(heading)).and(points(changes.into_iter().map(Markup::text)))
    });
    each.collect()
}

fn limits() -> Markup {
    let cannot = [
        "Whether the released numbers are the sum: the nodes together know, and no one of them alone.",
        "Whether a node read the rows that it committed to, and whether its rows are right.",
        "What was never logged, and whether this directory is an older state of the log: compare the number of entries with a receipt or an earlier page.",
        "The house's own cap for a dataset over all studies, which stands in no agreement.",
        "The right time: every time is its author's own clock.",
        "What readers of the answers did with them.",
    ];
    tag("h2", Markup::text("What this page cannot show"))
        .and(points(cannot.map(Markup::text)))
        .and(paragraph(
            "The page is not signed. It follows from the log and the agreement alone: who doubts it makes it again and compares.",
        ))
}
