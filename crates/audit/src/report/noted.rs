//! What was said besides questions and answers: alerts, stops, incidents, what was taken back.
//!
//! Hub and nodes look at the same tasks with the same rules, and each logs what it notices. To a reader that is one event,
//! and here it is one.

use cohortium_messages::{Author, Fact, Hash};

use crate::examine::Examined;
use crate::markup::{Markup, link, paragraph, points};
use crate::outcome::{FindingKind, printable};
use crate::report::{asked, verdict};
use crate::task::TaskRecord;

/// Where on the page the list is.
pub(crate) const ANCHOR: &str = "besides";

/// The most different reasons that are told of one event.
const REASONS_SHOWN: usize = 5;

/// One event, whoever noticed it.
pub(crate) struct Alert<'a> {
    /// Who reported it, and with which entry, in the order of the log.
    by: Vec<(u64, &'a Author)>,
    /// At whom it stopped the study.
    froze: Vec<&'a Author>,
    rule: &'a str,
    task: Option<Hash>,
    /// What they say of it: each reason once.
    why: Vec<&'a str>,
}

/// Whether a finding is told in this list.
pub(crate) const fn is_noted(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::Alert | FindingKind::Freeze | FindingKind::Incident | FindingKind::Revocation)
}

/// All alerts of the study, each event once: what names the same rule and the same task, or, without a task, gives the
/// same reason.
pub(crate) fn alerts(examined: &Examined) -> Vec<Alert<'_>> {
    let mut alerts: Vec<Alert<'_>> = Vec::new();
    for leaf in examined.leaves.iter().filter(|leaf| examined.is_of_the_study(leaf)) {
        let claims = leaf.claims();
        let Fact::Alert { froze, rule, task, why } = &claims.fact else { continue };
        let is_known = |alert: &&mut Alert<'_>| {
            let is_alike = task.is_some() || alert.why.contains(&why.as_str());
            alert.rule == rule && alert.task == *task && is_alike
        };
        let known = match alerts.iter_mut().find(is_known) {
            Some(known) => known,
            None => {
                let (by, froze, why) = (Vec::new(), Vec::new(), Vec::new());
                alerts.push(Alert { by, froze, rule, task: *task, why });
                let Some(new) = alerts.last_mut() else { continue };
                new
            }
        };
        known.by.push((leaf.index, &claims.author));
        if *froze {
            known.froze.push(&claims.author);
        }
        if !known.why.contains(&why.as_str()) {
            known.why.push(why);
        }
    }
    alerts
}

/// All of it, in the order of the log.
pub(crate) fn list(examined: &Examined, tasks: &[&TaskRecord]) -> Markup {
    let alerts = alerts(examined);
    let first = |alert: &Alert<'_>| alert.by.first().map_or(0, |(entry, _)| *entry);
    let mut lines: Vec<(u64, Markup)> = alerts.iter().map(|alert| (first(alert), in_words(alert, tasks))).collect();
    let others = examined.findings_of_the_study().0.into_iter();
    let others = others.filter(|found| is_noted(found.kind) && found.kind != FindingKind::Alert);
    lines.extend(others.map(|found| (found.entry.unwrap_or_default(), verdict::finding(found))));
    lines.sort_by_key(|(entry, _)| *entry);
    if lines.is_empty() { paragraph("None were logged.") } else { points(lines.into_iter().map(|(_, line)| line)) }
}

fn in_words(alert: &Alert<'_>, tasks: &[&TaskRecord]) -> Markup {
    let each = |all: &mut dyn Iterator<Item = String>| all.collect::<Vec<_>>().join(", ");
    let entries = each(&mut alert.by.iter().map(|(entry, _)| entry.to_string()));
    let (plural, verb) = if alert.by.len() == 1 { ("Entry", "reports") } else { ("Entries", "report") };
    let by = each(&mut alert.by.iter().map(|(_, author)| author.to_string()));
    let mut reasons: Vec<String> = alert.why.iter().take(REASONS_SHOWN).map(|why| printable(why)).collect();
    if alert.why.len() > REASONS_SHOWN {
        reasons.push(format!("{} more reasons stand in the log", alert.why.len() - REASONS_SHOWN));
    }
    let head = format!("{plural} {entries}: {by} {verb} an alert ({})", printable(alert.rule));
    let mut text = Markup::text(head);
    let about = tasks.iter().zip(1..).find(|(task, _)| Some(task.task.hash()) == alert.task);
    if let Some((task, number)) = about {
        text = text
            .and(Markup::text(" about "))
            .and(link(&asked::anchor(number), &format!("question {number}")))
            .and(Markup::text(" ("))
            .and(asked::ending(task))
            .and(Markup::text(")"));
    }
    let froze = if alert.froze.is_empty() {
        String::new()
    } else {
        let at = each(&mut alert.froze.iter().map(ToString::to_string));
        format!("; the study was stopped by {at}")
    };
    text.and(Markup::text(format!(": {}{froze}", reasons.join("; "))))
}
