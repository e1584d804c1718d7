//! `ro-crate-preview.html`: the crate for eyes. It says nothing that is not in the crate.

use crate::export::Case;
use crate::export::metadata::safes;
use crate::export::parts::{self, Parts};
use crate::markup::{self, Markup, paragraph, points, table, tag};

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
        .and(tag("pre", Markup::text(&task.sql)))
        .and(paragraph(format!(
            "{} verified the log at {} and signed the statements under attestations/. Everything else of weight is signed by \
             whoever made it; this page, the metadata and answer.json are signed by nobody.",
            case.attester.name, case.attester.at
        )))
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
