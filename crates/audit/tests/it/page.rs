//! The page for a privacy officer: what stands on it, and that nobody else's text becomes part of it.

use cohortium_audit::{AuditError, report};
use cohortium_dp::account::GENESIS;
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

/// A page is made of a log in which a member contradicts itself, and says so first; of no log that is wrong otherwise.
#[test]
fn a_contradiction_stands_at_the_top_and_what_cannot_be_believed_makes_no_page() {
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

    story.lines.swap(PRICE_C, RELEASE);
    let error = report(&story.write().0, &story.world.envelope).unwrap_err();
    assert!(matches!(error, AuditError::Entry { .. }), "{error}");
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
