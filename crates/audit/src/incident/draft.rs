//! The draft of a notification by Art. 33(3), for a person to finish, in Markdown.
//!
//! What people and logs say stands in it as quotations that end nothing but themselves: each character that Markdown reads
//! (CommonMark 0.31, sections 2.4 and 3) is escaped, and whatever ends a line ends the line of the quotation.
//!
//! It states what the logs show and nothing else. Who signs a notification answers for each sentence in it.

use std::fmt::Write as _;

use cohortium_messages::{IncidentStep, Name, Timestamp, plain};

use crate::incident::Incident;
use crate::incident::folder::AnswerOut;

/// The text.
pub(crate) fn notification(incident: &Incident, answers: Option<&[AnswerOut]>, organisation: &Name) -> String {
    let mut text = format!(
        "# Draft of a notification under Art. 33 GDPR: {}\n\nController: {organisation}. Study: {}. Aware since {}; to be \
         notified by {} unless there is no risk to people.\n\n",
        incident.incident, incident.study, incident.aware_at, incident.deadline
    );
    for (field, stated) in incident.notification.fields() {
        let stated = stated.map_or_else(|| String::from("**TO BE FILLED IN**"), |stated| quoted(stated));
        let _ = writeln!(text, "## {field}\n\n{stated}\n");
    }
    text.push_str(&told(incident));
    text.push_str("## What was done\n\n");
    for step in &incident.steps {
        let word = match step.step {
            IncidentStep::Action => "action",
            IncidentStep::Close => "closed",
            IncidentStep::Open => "opened",
        };
        let _ = writeln!(
            text,
            "- {} ({}, {word}, entry {} of the node's own log):\n\n{}\n",
            step.at,
            step.by,
            step.entry,
            quoted(&step.what)
        );
    }
    text.push_str("## Answers that left the study\n\n");
    match answers {
        None => text.push_str("The hub's log was not at hand: ask the hub's operator for a copy of the folder `log` in the hub's home, and export \
             again with it to list them.\n",
        ),
        Some([]) => text.push_str("None in the entries that were handed over.\n"),
        Some(answers) => answers.iter().for_each(|answer| {
            let doubt = if answer.checked { "" } else { "; NOT CHECKED, see problems.json" };
            let _ = writeln!(
                text,
                "- {}: task {} (entry {} of the hub's log{doubt})",
                answer.at, answer.task, answer.entry
            );
        }),
    }
    text.push_str(
        "\nBy the agreement each is a noised sum over members; the signed questions and answers are in `hub-log`. These logs \
         cannot show what left a house in any other way: **TO BE FILLED IN**, if anything is known of that.\n\n`own-log` and \
         `hub-log` hold the signed entries of the study. Each has a `.path` beside it: with `checkpoint` after it, that is a \
         proof that the entry is in its log (C2SP tlog-proof).\n",
    );
    text
}

/// Who was told when, and why late, if it was (Art. 33(1), Art. 34).
fn told(incident: &Incident) -> String {
    let known = &incident.notification;
    let reason = match (&known.late, known.authority_at) {
        (Some(reason), _) => quoted(reason),
        (None, Some(at)) if at <= incident.deadline => String::from("None: it was told within 72 hours."),
        (None, Some(_)) => String::from("**TO BE FILLED IN**"),
        (None, None) => format!("Only if it is told after {}: **TO BE FILLED IN**", incident.deadline),
    };
    let at = |time: Option<Timestamp>| time.map_or_else(|| String::from("not written down"), |time| time.to_string());
    format!(
        "## Who was told\n\n- The authority: {}\n- The data subjects (Art. 34, if their risk is high): {}\n\n\
         ## Reasons for a delay (Art. 33(1))\n\n{reason}\n\n",
        at(known.authority_at),
        at(known.people_at)
    )
}

/// A person's words as a block of Markdown that ends nothing but itself.
fn quoted(text: &str) -> String {
    let ends_line = ['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}'];
    let lines = text.split(ends_line).map(|line| format!("> {}", escaped(&plain(line))));
    lines.collect::<Vec<_>>().join("\n")
}

/// A line without anything that Markdown would read as more than text.
fn escaped(line: &str) -> String {
    let mut escaped = String::with_capacity(line.len());
    let digits = line.chars().take_while(char::is_ascii_digit).count();
    for (place, c) in line.chars().enumerate() {
        // A heading, a list or a rule begins at the start of a line; links, emphasis, code and HTML anywhere.
        let begins = (place == 0 && "#+-=".contains(c)) || (place == digits && digits > 0 && ".)".contains(c));
        if begins || "\\`*_[]<>&~|$!".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use cohortium_messages::Notification;

    use super::*;
    use crate::incident::Step;

    #[test]
    fn what_begins_something_in_markdown_is_escaped() {
        for (text, shown) in [
            ("# heading", "> \\# heading"),
            ("a\rb\r\nc", "> a\n> b\n> \n> c"),
            ("- list\n12. list\n1) list", "> \\- list\n> 12\\. list\n> 1\\) list"),
            ("    code", "> code"),
            ("![x](http://example.org) <b>", "> \\!\\[x\\](http://example.org) \\<b\\>"),
            ("a\u{2028}b\u{202e}c", "> a\n> b\u{fffd}c"),
            ("65.5 persons - or so", "> 65\\.5 persons - or so"),
        ] {
            assert_eq!(quoted(text), shown, "{text:?}");
        }
    }

    /// Everything that a person can write, at once hostile to Markdown and terminals.
    #[test]
    fn hostile_text_stays_text_in_every_field() {
        const HOSTILE: &str = "x\r# Controller: nobody\n\n## None\n</details><script>\u{1b}[2J\u{202e}`]( ";
        let hostile = || Some(HOSTILE.to_owned());
        let time = Timestamp::from_seconds(1_800_000_000);
        let name = |text: &str| Name::new(text).unwrap();
        let step = |step| Step { at: time, by: name("paula"), entry: 1, step, what: HOSTILE.to_owned() };
        let incident = Incident {
            aware_at: time,
            deadline: time,
            incident: name("leak"),
            notification: Notification {
                authority_at: None,
                consequences: hostile(),
                contact: hostile(),
                late: hostile(),
                measures: hostile(),
                nature: hostile(),
                people: hostile(),
                people_at: None,
                records: hostile(),
            },
            over: true,
            steps: vec![step(IncidentStep::Open), step(IncidentStep::Action), step(IncidentStep::Close)],
            study: name("heart"),
        };
        let text = notification(&incident, Some(&[]), &name("northside"));
        assert!(!text.chars().any(|c| c != '\n' && cohortium_messages::hides(c)));
        assert_eq!(
            text.matches("> x\n> \\# Controller: nobody\n> \n> \\## None\n> \\</details\\>\\<script\\>").count(),
            10
        );
        let headings = text.lines().filter(|line| line.starts_with('#')).count();
        assert_eq!(headings, 1 + 6 + 2 + 2, "{text}");
    }
    /// told at, hours after the deadline; a reason; what the draft says of a delay
    #[test]
    fn a_draft_asks_for_reasons_where_the_authority_is_told_late() {
        let time = Timestamp::from_seconds(1_800_000_000);
        let name = |text: &str| Name::new(text).unwrap();
        for (told, late, says) in [
            (None, None, "Only if it is told after 2027-01-15T08:00:00Z: **TO BE FILLED IN**"),
            (Some(0), None, "None: it was told within 72 hours."),
            (Some(1), None, "## Reasons for a delay (Art. 33(1))\n\n**TO BE FILLED IN**"),
            (Some(1), Some("a holiday"), "> a holiday"),
        ] {
            let incident = Incident {
                aware_at: time,
                deadline: time,
                incident: name("leak"),
                notification: Notification {
                    authority_at: told.map(|hours| time.plus_seconds(hours * 3600)),
                    late: late.map(str::to_owned),
                    ..Notification::default()
                },
                over: false,
                steps: Vec::new(),
                study: name("heart"),
            };
            let text = notification(&incident, None, &name("northside"));
            assert!(text.contains(says), "{says:?} in {text}");
            assert_eq!(text.contains("- The authority: not written down"), told.is_none());
        }
    }
}
