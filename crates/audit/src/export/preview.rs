//! `ro-crate-preview.html`: the crate for eyes. It says nothing that is not in the crate.

use crate::export::Case;
use crate::export::metadata::safes;
use crate::export::parts::{self, Parts};
use crate::markup::{self, Markup, paragraph, points, table, tag};
use crate::report::asked;
use crate::report::chart::short;

const STYLE: &str = "
body { font: 15px/1.5 system-ui, 'Segoe UI', Helvetica, Arial, sans-serif; color: #1a1a1a; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.92em; } th, td { border: 1px solid #c8c8c8; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; } td { overflow-wrap: anywhere; }
pre { background: #f6f6f6; border: 1px solid #dcdcdc; padding: 0.6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
";

/// Adds the preview, once all other files but the metadata are there.
pub(crate) fn write(case: &Case<'_>, parts: &mut Parts) {
    let (task, document) = (&case.task.task, &case.released.document);
    let title = format!("Evidence of a release of study {}", case.agreement.study);
    let link = |path: &str| Markup::element("a", &[("href", &path)], Markup::text(path));
    let each_safe = safes(case, parts).into_iter().map(|safe| {
        let evidence = points(safe.evidence.iter().map(|path| link(path)));
        vec![Markup::text(safe.name), Markup::text(&safe.words).and(evidence)]
    });
    let each_safe: Vec<Vec<Markup>> = each_safe.collect();
    let files: Vec<Vec<Markup>> =
        parts.0.iter().map(|(path, part)| vec![link(path), Markup::text(&part.name)]).collect();
    let body = tag("h1", Markup::text(&title))
        .and(paragraph(&case.agreement.title))
        .and(paragraph(format!(
            "{} asked at {}; the hub released at {}. What was asked:",
            task.researcher, task.asked_at, document.released_at
        )))
        .and(tag("p", tag("b", Markup::text(asked::in_words(case.task)))))
        .and(tag("pre", Markup::text(&task.sql)))
        .and(answer(case))
        .and(said(case))
        .and(budget(case))
        .and(paragraph(format!(
            "{} verified the log at {} and signed the statements under attestations/. Everything else of weight is signed by \
             whoever made it; this page, the metadata and answer.json are signed by nobody.",
            case.attester.name, case.attester.at
        )))
        .and(tag("p", tag("b", Markup::text(case.part_of_attester().in_words(case.attester.name)))))
        .and(tag("h2", Markup::text("Five safes")))
        .and(table(["safe", "how, and the evidence"], each_safe))
        .and(tag("h2", Markup::text("What this evidence cannot show")))
        .and(points(
            [
                "That the released numbers are the sum: the nodes together know, and no one of them alone.",
                "That a node read the rows that it committed to, and that its rows are right.",
                "What else was asked: the log has it, this folder has not. That accounts were kept is the attester's word here.",
            ]
            .map(Markup::text),
        ))
        .and(tag("h2", Markup::text("Files")))
        .and(table(["file", "what it is"], files));
    let html = markup::page(&title, STYLE, body);
    parts.put("ro-crate-preview.html", "This crate for eyes", parts::HTML, html.into_bytes());
}

/// The table that was asked for.
fn answer(case: &Case<'_>) -> Markup {
    let heading = tag("h2", Markup::text("The answer"));
    match asked::table_of(case.task, &case.released.document) {
        Some(answer) => heading.and(asked::answered(&answer)),
        None => heading.and(paragraph("release.json has the numbers; they make no table.")),
    }
}

/// What people said before it was computed, with their houses and reasons.
fn said(case: &Case<'_>) -> Markup {
    let heading = tag("h2", Markup::text("What people said about the question"));
    if case.task.approvals.is_empty() {
        return heading.and(paragraph("Nobody: the agreement let the nodes decide, or the log has no word of anyone."));
    }
    heading.and(asked::approvals(case.task))
}

/// What the question cost, and what the study had spent by the head of the log.
fn budget(case: &Case<'_>) -> Markup {
    let dataset = &case.task.task.plan.dataset;
    let accounts = case.examined.accounts().filter(|account| account.dataset == *dataset);
    let rows = accounts.map(|account| {
        let cells = [account.node.to_string(), short(account.epsilon_spent), account.epsilon_total.to_string()];
        cells.map(Markup::text).to_vec()
    });
    let cost = format!(
        "The question cost \u{3b5} {} at each node, if it were the only one. By the whole log, of which this folder holds a part, \
         the study had spent or reserved in all:",
        asked::price(case.task)
    );
    tag("h2", Markup::text("The privacy budget"))
        .and(paragraph(cost))
        .and(table(["node", "spent or reserved", "of"], rows.collect::<Vec<_>>()))
}
