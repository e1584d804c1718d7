//! The page of a log that breaks a rule: that it does, where, and nothing else.
//!
//! Whoever asks for a page of such a log needs one more than anybody: something to hand on that nobody takes for the page of a
//! log that verified. Nothing that the log says is told here as a fact; the entry that is wrong is shown as it stands.

use std::path::Path;

use cohortium_messages::{Agreement, Verified};

use crate::AuditError;
use crate::head::{self, Head};
use crate::leaf::Leaf;
use crate::markup::{self, Markup, paragraph, points, table, tag};
use crate::outcome::printable;
use crate::report::Page;
use crate::report::page::STYLE;

/// The page of the study, from the log in `dir`, of which this is wrong.
pub(crate) fn write(dir: &Path, given: &Verified<Agreement>, error: &AuditError) -> Page {
    let wrong = printable(&error.to_string());
    // Only where the directory is a log at all has it entries.
    let head = match error {
        AuditError::Log(_) => None,
        _ => head::verify_log(dir, given).ok(),
    };
    let found = match (error, &head) {
        (AuditError::Entry { index, .. }, Some(head)) => head.leaves.iter().find(|leaf| leaf.index == *index),
        _ => None,
    };
    let title = format!("Study {}", given.study);
    let says = [
        String::from(
            "The audit ended at the first thing that is wrong. What this log says of questions, permits, prices and answers \
             must not be relied on, and is not shown.",
        ),
        who_must_act(error).to_owned(),
        head.as_ref().map_or_else(
            || {
                String::from(
                    "Not even that the directory is the log that was signed and cosigned could be established.",
                )
            },
            in_its_favour,
        ),
        format!(
            "The agreement that was handed in is signed by all its custodians: revision {}, fingerprint {}.",
            given.revision,
            given.hash().fingerprint()
        ),
    ];
    let body = tag("h2", Markup::text("NOT VERIFIED: this log breaks a rule"))
        .and(tag("p", tag("b", Markup::text(&wrong))))
        .and(points(says.map(Markup::text)));
    let body = Markup::element("div", &[("class", &"verdict bad")], body);
    let body = body.and(tag("h1", Markup::text(&title))).and(paragraph(&given.title));
    let body = body.and(found.map_or_else(Markup::default, |leaf| entry(leaf, given)));
    Page { html: markup::page(&format!("NOT VERIFIED: {title}"), STYLE, body), verified: false, wrong: Some(wrong) }
}

const fn who_must_act(error: &AuditError) -> &'static str {
    match error {
        AuditError::Agreement { .. } => {
            "The agreement and this log do not go together: whoever made this page brings the log of that agreement's hub, \
             or the custodians mend the agreement."
        }
        AuditError::Body { .. } => "The hub's operator must erase that document, or explain it.",
        AuditError::Entry { .. } => {
            "The author of the entry, whose signature it should bear, or the hub, which logged it, must answer for it."
        }
        AuditError::Log(_) => {
            "The files are not the log that was signed, or a copy of it that is not whole. Copy the log again; if that does \
             not help, the hub must answer for it."
        }
        AuditError::NotCovered { .. } => "The hub must show the agreement that these entries are under.",
        AuditError::Members { .. } => "The members that contradict their own accounts must answer for it.",
    }
}

fn in_its_favour(head: &Head) -> String {
    format!(
        "The directory is a log of {} entries under a head that is signed and cosigned as was agreed: no entry was changed or \
         added afterwards.",
        head.leaves.len()
    )
}

/// The entry that is wrong, as it stands.
fn entry(leaf: &Leaf, given: &Agreement) -> Markup {
    let claims = leaf.claims();
    let heading = tag("h2", Markup::text(format!("Entry {}, as it stands in the log", leaf.index)));
    if claims.study != given.study {
        return heading.and(paragraph("It is about another study in the same log, whose audit shows it."));
    }
    let rows = [
        ("kind", claims.fact.kind().to_owned()),
        ("by", claims.author.to_string()),
        ("at, by its author's clock", claims.time.to_string()),
        ("agreement", claims.agreement.to_string()),
    ];
    let rows = rows.map(|(name, value)| vec![Markup::text(name), Markup::text(value)]);
    let whole = serde_json::to_string_pretty(claims).unwrap_or_default();
    heading
        .and(paragraph("What it says of itself; none of it need be true."))
        .and(table([], rows))
        .and(tag("pre", Markup::text(whole)))
}
