//! The page for a privacy officer: what stands on it, and that nobody else's text becomes part of it.

use cohortium_audit::{AuditError, report};
use cohortium_dp::account::GENESIS;
use cohortium_messages::RevocationSubject;
use cohortium_messages::{Fact, Name};

use crate::world::*;

/// Where to leave the page of the good story, for who wants to look at it.
const LEAVE_AT: &str = "COHORTIUM_WRITE_PAGE";

fn page_of(story: &Story) -> cohortium_audit::Page {
    report(&story.write().0, &story.world.envelope).unwrap()
}

#[test]
fn the_page_says_who_asked_what_was_released_refused_and_paid_and_is_the_same_each_time() {
    let story = Story::good();
    let page = page_of(&story);
    if let Some(path) = std::env::var_os(LEAVE_AT) {
        std::fs::write(path, &page.html).unwrap();
    }
    assert!(page.verified && page.html == page_of(&story).html);
    for expected in [
        "<h2>Verified</h2>",
        "3 of 3 organisations cosigned",
        "SELECT COUNT(*) AS persons FROM heart GROUP BY sex",
        ">released</span>",
        "In the total: a, b, c.",
        "variance",
        "The hub says (entry 15): no answer in time from c",
        "c permitted the task",
        "<b>heart-study/purpose</b> \u{2013} The purpose must be one that the data were given for.",
        "In its own words: not for this",
        "given back: no row was read",
        "reserved; what became of it is not in the log",
        "Dataset heart: questions of rosa",
        "may be spent: 10.000",
        "signed revision 1 of the agreement",
        "Whether the released numbers are the sum",
        "It does not say that the released numbers are right",
        "As of entry 19 of the log, last cosigned at ",
        "3 questions: 1 answered, 1 ended without an answer, 1 refused. Refused: 1 by the hub.",
        "Privacy budget of dataset heart: \u{3b5} 0.",
        "of 10 spent or reserved, at the node that spent most.",
        "The study was never stopped.",
        "From dataset heart: how many rows there are, for each value of sex. All rows count.",
        "HMB: health, medical or biomedical research",
        "<section id=\"question-2\">",
        "; same plan: <a href=\"#question-1\">question 1</a> <a href=\"#question-3\">question 3</a>",
        "was not reached, or had not decided",
        "with 95 %, \u{b1} ",
    ] {
        assert!(page.html.contains(expected), "{expected}");
    }
    // c, who has not given back the second price, has a line of its own; a and b went alike.
    assert_eq!(page.html.matches("class=\"key\"").count(), 4);
    assert!(page.html.contains(" a, b</span>") && page.html.contains(" c</span>"));
}

/// Everything that researchers, hub and members write freely, at once hostile to HTML, attributes, SVG and terminals.
#[test]
fn hostile_text_stays_text() {
    const HOSTILE: &str =
        "</pre></style></svg>\"'><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}\u{1b}[2J&lt;";
    let mut story = Story::with(
        |agreement| {
            agreement.title = HOSTILE.into();
            agreement.risk_acceptance.accepted_by = HOSTILE.into();
            agreement.risk_acceptance.statement = HOSTILE.into();
        },
        |_| (),
    );
    if let Fact::Failure { reason, .. } = &mut story.lines[15].entry.fact {
        *reason = HOSTILE.into();
    }
    if let Fact::Refusal { clauses, why, .. } = &mut story.lines[REFUSAL].entry.fact {
        (*clauses, *why) = (vec![format!("x/{HOSTILE}")], HOSTILE.into());
    }
    let mut task = story.world.task("hostile", "HMB");
    task.sql = HOSTILE.into();
    story.lines.push(story.world.asked(&task, &story.world.researcher.key));
    let html = page_of(&story).html;
    let shown = "&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;\u{fffd}";
    assert!(html.matches(shown).count() >= 7, "{}", html.matches(shown).count());
    for markup in ["<script", "<img", "javascript:", "\u{202e}", "\u{1b}", "onerror=alert(1)>"] {
        assert!(!html.contains(markup), "{markup:?}");
    }
    // Tags open and close as if nothing had been said.
    for name in ["style", "svg", "pre", "section", "table", "script"] {
        let (opened, closed) = (html.matches(&format!("<{name}")).count(), html.matches(&format!("</{name}>")).count());
        assert_eq!(opened, closed, "{name}");
    }
}

/// A page is made of a log in which a member contradicts itself, and says so first.
#[test]
fn a_contradiction_stands_at_the_top() {
    let mut story = Story::good();
    story.account(PRICE_A, 0).previous = GENESIS.into();
    let page = page_of(&story);
    assert!(!page.verified);
    let verdict = page.html.find("Not verified: a member contradicts itself").unwrap();
    assert!(verdict < page.html.find("Who, and what was agreed").unwrap());
    assert!(page.html.contains("nothing that a says about its accounts is believed"));
    assert!(page.html.contains("not known: the node contradicts itself. It signed for 0.3"));
    assert_eq!(page.html.matches("not believed, it contradicts itself").count(), 3, "in each question");
    assert!(!page.html.contains(" a, b</span>"), "no line is drawn for a");
}

/// Whoever asked for the page of a log that breaks a rule got nothing to hand on: only an error on a terminal.
#[test]
fn repro_a_log_that_breaks_a_rule_gives_a_page_that_says_so_first() {
    let mut story = Story::good();
    story.lines.swap(PRICE_C, RELEASE);
    let page = page_of(&story);
    let wrong = page.wrong.as_deref().unwrap();
    assert!(!page.verified && wrong.contains("entry 9"), "{wrong}");
    let body = page.html.find("<body>").unwrap();
    let first = page.html.find("NOT VERIFIED: this log breaks a rule").unwrap();
    assert!(body < first && first < page.html.find("<h1>").unwrap());
    for expected in [wrong, "Entry 9, as it stands in the log", "<td>release</td>", "a log of 20 entries under a head"]
    {
        assert!(page.html.contains(expected), "{expected}");
    }
    for told in ["What was asked", "<svg", "In the total", "<h2>Verified"] {
        assert!(!page.html.contains(told), "{told}");
    }
    assert_eq!(page, page_of(&story));

    let story = Story::good();
    let scratch = story.write();
    put(&scratch, "body/stray", b"no document");
    let page = report(&scratch.0, &story.world.envelope).unwrap();
    assert!(page.wrong.is_some_and(|wrong| wrong.contains("stray")) && page.html.contains("NOT VERIFIED"));

    let unsigned = signed_by_all(&story.world.agreement, &story.world.houses[..2]);
    let error = report(&story.write().0, &unsigned).unwrap_err();
    assert!(matches!(error, AuditError::Agreement { .. }), "{error}");
}

/// The box at the top held every alert, and the list below held them again; hub and nodes said the same, each for itself.
#[test]
fn repro_an_event_is_told_once_whoever_noticed_it() {
    let mut story = Story::good();
    let task = Some(hash_of(&opened::<cohortium_messages::Task>(&story.lines[REFUSED])));
    let alert = |rule: &str, task, why: &str| Fact::Alert { froze: false, rule: rule.into(), task, why: why.into() };
    for key in [Key::Hub, Key::Node(0), Key::Node(1)] {
        let line = story.world.line(key, alert("repeated", task, "asked again"), None);
        story.lines.push(line);
    }
    let mut stopping = alert("log-of-member", None, "the log of c forks");
    if let Fact::Alert { froze, .. } = &mut stopping {
        *froze = true;
    }
    let line = story.world.line(Key::Node(1), stopping, None);
    story.lines.push(line);
    let subject = RevocationSubject::Agreement;
    let line = story.world.line(Key::Custodian(2), Fact::Revocation { subject, why: "enough".into() }, None);
    story.lines.push(line);
    let html = page_of(&story).html;
    assert_eq!(html.matches("asked again").count(), 1);
    assert_eq!(html.matches("enough").count(), 1);
    for expected in [
        "Entries 20, 21, 22: ",
        " report an alert (repeated) about <a href=\"#question-3\">question 3</a> (<span class=\"refused\">",
        "Stops of the study: 1. It stands still at b (since entry 23).",
        "Alerts: 2. Steps of incidents: 0. Agreements and keys taken back: 1.",
    ] {
        assert!(html.contains(expected), "{expected}");
    }
}

/// What custodians propose is about this study and binds nobody; it was counted as a finding about others.
#[test]
fn repro_a_proposed_amendment_is_told_as_one() {
    let mut story = Story::good();
    let mut next = (*story.world.agreement).clone();
    (next.revision, next.previous) = (2, Some(story.world.agreement.hash()));
    let lines = story.world.agreed(&next, &[0]);
    story.lines.extend(lines);
    let html = page_of(&story).html;
    assert!(
        html.contains("Verified</h2>") && html.contains("(revision 2) is proposed and not signed by all custodians")
    );
    assert!(html.contains("(1 so far): it is not in force"));
    assert!(!html.contains("other studies in the same log"));
}

/// A line at the bottom of a picture says nothing: where hardly any of a budget is spent, the picture fits what is.
#[test]
fn a_picture_fits_what_was_spent() {
    let story = Story::with(|agreement| agreement.budgets.epsilon_total = 1000.into(), |_| ());
    let html = page_of(&story).html;
    assert!(html.contains("may be spent: 1000, far above this picture"));
    assert!(!page_of(&Story::good()).html.contains("may be spent: 1000"));
}

/// The same log, asked for the page of another study in it.
#[test]
fn a_page_shows_its_own_study_alone() {
    let mut story = Story::good();
    let world = &story.world;
    let other = agreement("other-study", world.agreement.hub.clone(), &world.houses[2..], &world.researcher);
    story.lines.extend(world.agreed(&other, &[2, 3]));
    let envelope = signed_by_all(&other, &story.world.houses[2..]);
    let scratch = story.write_leaves(&story.leaves(), &[0, 1, 2, 3]);
    let html = report(&scratch.0, &envelope).unwrap().html;
    assert!(html.contains("Study other-study") && html.contains("Nothing was asked."));
    for foreign in ["heart-study", "no answer in time", "GRU", "In the total"] {
        assert!(!html.contains(foreign), "{foreign}");
    }
    assert!(html.contains("which its audit names: 1."));
    assert!(Name::new("other-study").is_ok_and(|name| name == other.study));
}
