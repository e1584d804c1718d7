//! `cohortium node show`: everything a person needs to say yes or no to one task, and nothing that they must take on trust.
//!
//! The words come from the plan that would run, the agreement as this house holds it, and this house's own account. What
//! only others say (who else permits it) is said to be so.

use std::fmt::Write as _;
use std::path::Path;

use cohortium_dp::account::{Reservation, Scope};
use cohortium_dp::{Account, Next};
use cohortium_messages::{Agreement, Hash, Name, Plan, Timestamp, ascii_json};
use cohortium_node::service::now;
use cohortium_node::view::View;
use cohortium_node::{HeldRecord, RunRecord, RunState};
use cohortium_query::{Ask, ExpectedError, Per, Priced};
use serde::Serialize;

use crate::desk::{Case, agreement_of, held_for};
use crate::output::{Failure, Output, plain, table};
use crate::query::{join, micro, number};
use crate::sandbox::{command_line, shown};
use crate::session::{fingerprint, node_home, open_view};
use crate::words;

/// One budget before and after.
#[derive(Serialize)]
struct Budget {
    /// Whose.
    of: String,
    total: f64,
    left: f64,
    /// What would be left; nothing where this task is in it already, or cannot be paid.
    after: Option<f64>,
}

/// What this node knows of a task.
struct Shown {
    budgets: Vec<Budget>,
    case: Case,
    expected: Vec<ExpectedError>,
    /// Why the budgets do not suffice, where they do not.
    unpaid: Option<String>,
    held: Option<HeldRecord>,
    home: String,
    /// The last task of this kind that people here approved, and what is different now.
    last: Option<(Hash, Timestamp, Vec<String>)>,
    node: Name,
    priced: Option<Priced>,
    /// Whether the SQL beside the plan gives this plan.
    sql_is_plan: bool,
    stopped: Option<String>,
}

pub fn run(home: &Path, task: &str, output: &Output) -> Result<(), Failure> {
    let shown = Shown::read(home, task)?;
    output.result(&shown.value()?, || shown.text().unwrap_or_else(|failure| format!("{failure:?}")))
}

/// Until when a task waits for people, by this house's clock: the hub's own clock decides.
pub fn waits_until(agreement: &Agreement, run: &RunRecord) -> Timestamp {
    run.began_at.plus_seconds(i64::from(agreement.approval.wait_hours).saturating_mul(3600))
}

/// How long until then, in words.
pub fn left_in_words(until: Timestamp) -> String {
    let left = until.seconds().saturating_sub(now().seconds());
    match left {
        ..=0 => String::from("over"),
        1..=5_399 => format!("{} minutes", left / 60 + 1),
        5_400..=431_999 => format!("{} hours", left / 3600),
        _ => format!("{} days", left / 86_400),
    }
}

impl Shown {
    fn read(home: &Path, task: &str) -> Result<Self, Failure> {
        let node = node_home(home)?.connection()?.name;
        let view = open_view(home)?;
        let case = Case::find(&view, task)?;
        let plan = &case.task.plan;
        let priced = cohortium_query::check(plan, &case.agreement, plan.agreement).ok();
        let members = u32::try_from(case.agreement.parties.len()).unwrap_or(u32::MAX);
        let expected = match &priced {
            Some(priced) => cohortium_query::expected_error(priced, members).map_err(Failure::own)?,
            None => Vec::new(),
        };
        let (budgets, unpaid) = budgets(&view, &case, priced.as_ref())?;
        let ask = Ask { rho: plan.rho, draw: plan.draw };
        let again = cohortium_query::plan(&case.task.sql, &case.agreement, plan.agreement, ask);
        Ok(Self {
            budgets,
            unpaid,
            held: held_for(&view, case.hash)?,
            home: shown(home),
            last: last_approved(&view, &case)?,
            node,
            sql_is_plan: again.is_ok_and(|again| again == *plan),
            stopped: view.stopped(&case.run.study)?.map(|stop| format!("{} on {}", stop.why, stop.since)),
            case,
            expected,
            priced,
        })
    }

    fn epsilon(&self) -> Option<f64> {
        self.priced.as_ref().map(|priced| micro(priced.facts().epsilon_micro))
    }

    fn columns(&self) -> Vec<serde_json::Value> {
        let terms = self.case.agreement.dataset(&self.case.task.plan.dataset);
        let columns = words::columns(&self.case.task.plan).into_iter();
        let value = |(name, uses): (Name, Vec<&str>)| {
            let column = terms.and_then(|terms| terms.schema.column(&name));
            let sensitivity = column.map(|column| column.sensitivity);
            let meaning = column.and_then(|column| column.meaning.clone());
            serde_json::json!({"column": name, "meaning": meaning, "sensitivity": sensitivity, "uses": uses})
        };
        columns.map(value).collect()
    }

    fn value(&self) -> Result<serde_json::Value, Failure> {
        let (case, run) = (&self.case, &self.case.run);
        let said: Vec<serde_json::Value> = case
            .said()
            .iter()
            .map(|(who, yes, why)| serde_json::json!({"approved": yes, "person": who, "why": why}))
            .collect();
        let last = self
            .last
            .as_ref()
            .map(|(task, at, different)| serde_json::json!({"asked_at": at, "different": different, "task": task}));
        let may: Vec<&Name> = case.approvers(&self.node).iter().map(|person| &person.person).collect();
        let waits = (run.state == RunState::Waiting).then(|| waits_until(&case.agreement, run));
        Ok(serde_json::json!({
            "alarms": run.alarms, "asked_at": case.task.asked_at, "began_at": run.began_at, "budgets": self.budgets,
            "columns": self.columns(), "commands": self.commands(), "epsilon": self.epsilon(),
            "expected_error": self.expected, "held": self.held.as_ref().map(|held| held.message),
            "last_approved": last, "may_decide": may, "permitted_by": run.permitted_by,
            "plan": case.task.plan, "plan_hash": case.task.plan.hash().map_err(Failure::own)?,
            "purpose": case.task.purpose, "researcher": case.task.researcher,
            "researcher_fingerprint": self.researcher()?, "said": said, "sql": case.task.sql,
            "sql_is_plan": self.sql_is_plan, "state": run.state, "stopped": self.stopped, "study": run.study,
            "task": case.hash, "unpaid": self.unpaid, "waits_until": waits, "why": run.why,
            "words": self.question(),
        }))
    }

    fn researcher(&self) -> Result<Option<String>, Failure> {
        self.case.agreement.researcher(&self.case.task.researcher).map(fingerprint).transpose()
    }

    fn question(&self) -> Option<String> {
        let plan = &self.case.task.plan;
        self.case.agreement.dataset(&plan.dataset).map(|terms| words::question(plan, terms))
    }

    /// The commands that may be typed now.
    fn commands(&self) -> Vec<String> {
        let task = self.case.hash.short();
        let command = |verb: &str, why: bool| {
            let mut arguments = vec!["--home", &self.home, "node", verb, &task];
            if why {
                arguments.extend(["--why", "\"YOUR REASON\""]);
            }
            arguments.extend(["--as", "YOUR_FOLDER"]);
            command_line(&arguments)
        };
        match (self.case.run.state, &self.held) {
            (RunState::Waiting, _) => vec![command("approve", true), command("refuse", true)],
            (_, Some(_)) => vec![command("dispatch", false)],
            _ => Vec::new(),
        }
    }

    fn text(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let parts = [self.asked()?, self.computed()?, self.price(), self.remarkable(), self.decision()];
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let _ = writeln!(text, "{part}");
        }
        Ok(text)
    }

    /// Who asks, for what, and how it stands.
    fn asked(&self) -> Result<String, Failure> {
        let (case, run) = (&self.case, &self.case.run);
        let fingerprint = self.researcher()?.unwrap_or_else(|| String::from("not in the agreement"));
        let state = match run.state {
            RunState::Waiting => format!(
                "WAITS FOR YOU AND YOUR COLLEAGUES: {}. Time left: {} (until {})",
                run.why,
                left_in_words(waits_until(&case.agreement, run)),
                waits_until(&case.agreement, run)
            ),
            _ if self.held.is_some() => format!("{}: {}", run.state, run.why),
            state if run.why.is_empty() => state.to_string(),
            state => format!("{state}: {}", plain(&run.why)),
        };
        let agreement = &case.agreement;
        let mut text = format!("Task {}\n", case.hash);
        let _ = writeln!(text, "  state      {state}");
        let _ = writeln!(
            text,
            "  asked by   {} (fingerprint {fingerprint}), on {}",
            case.task.researcher, case.task.asked_at
        );
        let _ =
            writeln!(text, "  study      {} (revision {}): {}", run.study, agreement.revision, plain(&agreement.title));
        let _ = writeln!(text, "  purpose    {}", words::purpose(&case.task.purpose));
        let _ = writeln!(text, "             as agreed: {}", plain(&agreement.purpose_text));
        let _ = writeln!(text, "  affirms    {}", words::affirmed(&case.task.affirms));
        let _ = writeln!(
            text,
            "  rows of    {}; they never leave, only noised sums under masks do",
            join(&case.task.participants)
        );
        Ok(text)
    }

    /// What would be computed.
    fn computed(&self) -> Result<String, Failure> {
        let plan = &self.case.task.plan;
        let mut text = String::from("What would be computed\n");
        match self.question() {
            Some(question) => text.push_str(&wrapped(&question)),
            None => text.push_str("  The agreement has no such dataset.\n"),
        }
        let _ = writeln!(text, "  As the researcher wrote it:\n    {}", plain(&self.case.task.sql));
        if !self.sql_is_plan {
            text.push_str(
                "  WARNING: this SQL does not give the plan that would run. Believe the words above, not the SQL, and ask \
                 the researcher why.\n",
            );
        }
        let rows = self.columns().into_iter().map(|column| {
            let word = |key: &str| column.get(key).and_then(|value| value.as_str()).unwrap_or("–").replace('_', "-");
            let uses = column.get("uses").and_then(|uses| uses.as_array()).cloned().unwrap_or_default();
            let uses: Vec<&str> = uses.iter().filter_map(serde_json::Value::as_str).collect();
            vec![word("column"), uses.join(", "), word("sensitivity"), plain(&word("meaning"))]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        if rows.is_empty() {
            text.push_str("  Columns: none; rows are counted.\n");
        } else {
            text.push_str(&indented(&table(&["column", "used to", "sensitivity", "meaning"], rows)));
        }
        let _ = writeln!(text, "  Plan, exactly: {}", plan.hash().map_err(Failure::own)?);
        let _ = writeln!(text, "    {}", ascii_json(&serde_json::to_string(plan).map_err(Failure::own)?));
        Ok(text)
    }

    /// What it costs, what would be left, how good the answer would be.
    fn price(&self) -> String {
        let mut text = String::from("Price, at this node\n");
        let agreement = &self.case.agreement;
        match (self.epsilon(), &self.priced) {
            (Some(epsilon), Some(priced)) => {
                let _ = writeln!(
                    text,
                    "  ε = {epsilon:.3} for this task alone (δ = {}), {} numbers in the answer",
                    agreement.budgets.delta,
                    priced.layout().cells()
                );
            }
            _ => text.push_str("  The plan does not fit the agreement: it has no price, and cannot run.\n"),
        }
        let rows = self.budgets.iter().map(|budget| {
            let after = budget.after.map_or_else(|| String::from("–"), |after| format!("{after:.3}"));
            vec![budget.of.clone(), format!("{:.3}", budget.total), format!("{:.3}", budget.left), after]
        });
        text.push_str(&indented(&table(&["budget of", "ε in all", "ε left", "left after this"], rows)));
        if self.budgets.iter().any(|budget| budget.after.is_some()) {
            text.push_str(
                "  (ε of several tasks does not simply add up; what would be left is computed, not subtracted)\n",
            );
        }
        if let Some(why) = &self.unpaid {
            let _ = writeln!(text, "  It cannot be paid: {why}");
        }
        for error in &self.expected {
            let over = match error.per {
                Per::Cell => "",
                Per::ThousandRows => ", where it is over 1000 rows,",
            };
            let _ = writeln!(
                text,
                "  How good it would be: each {}{over} is within ± {} of the true number, 95 times of 100",
                plain(&error.output),
                number(error.half_width)
            );
        }
        text
    }

    /// What a person should know beside: what is like it, what others say, what the rules noticed.
    fn remarkable(&self) -> String {
        let mut text = String::from("To compare\n");
        match &self.last {
            None => text.push_str(
                "  Nothing of this kind (same dataset, same computations) was approved here by people before.\n",
            ),
            Some((task, at, different)) if different.is_empty() => {
                let _ = writeln!(text, "  The same plan was approved here before: task {}, of {at}.", task.short());
            }
            Some((task, at, different)) => {
                let _ = writeln!(
                    text,
                    "  The last of this kind that people approved here: task {}, of {at}. Different now:",
                    task.short()
                );
                for line in different {
                    let _ = writeln!(text, "    {line}");
                }
            }
        }
        let run = &self.case.run;
        let others: Vec<Name> = run.permitted_by.iter().cloned().collect();
        let _ = match others.as_slice() {
            [] => writeln!(text, "  No other member has permitted this very plan yet, as far as this node was told."),
            others => {
                writeln!(text, "  Members whose nodes permit this very plan (by their signatures): {}", join(others))
            }
        };
        for (who, yes, why) in self.case.said() {
            let word = if yes { "yes" } else { "no" };
            let _ = writeln!(text, "  {who} of this house said {word}: {}", plain(&why));
        }
        if run.alarms.is_empty() {
            text.push_str("  The rules of watching noticed nothing.\n");
        }
        for alarm in &run.alarms {
            let _ = writeln!(text, "  NOTICED: {}", plain(alarm));
        }
        if let Some(why) = &self.stopped {
            let _ = writeln!(text, "  THE STUDY STANDS STILL AT THIS NODE: {}", plain(why));
        }
        text
    }

    /// What is asked of the reader.
    fn decision(&self) -> String {
        let approval = &self.case.agreement.approval;
        let who = self.case.who_can(&self.node);
        let mut text = String::new();
        if self.case.run.state == RunState::Waiting {
            let needed = approval.needed;
            let yes = self.case.said().iter().filter(|(_, yes, _)| *yes).count();
            let _ = writeln!(
                text,
                "Your decision: {needed} of you must say yes, {yes} did; one no refuses. Who is asked: {who}"
            );
            text.push_str(&wrapped(
                "Every other clause of the agreement holds, as this node found when the task came; it looks again when you say yes.",
            ));
            text.push_str(&wrapped(&self.what_yes_does()));
            text.push_str(&wrapped(
                "On no: the task ends, for all members, at no price. Your reason goes to the researcher and into the log, where \
                 members and auditors read it: write nothing about patients.",
            ));
        } else if let Some(held) = &self.held {
            let _ = writeln!(text, "Held back until one of you lets it out ({who})");
            let _ = writeln!(text, "  message    {}", held.message);
            let _ = writeln!(text, "  holds      {}", plain(&held.record.words));
            text.push_str(&wrapped(
                "If it leaves: the hub adds it to the other members' and the sum becomes the answer. If nobody lets it out in \
                 time, the answer is made without this node, or not at all; the price stays charged, because rows were read.",
            ));
        } else {
            return text;
        }
        text.push_str("Type one of these:\n");
        for command in self.commands() {
            let _ = writeln!(text, "  {command}");
        }
        text.push_str("YOUR_FOLDER is the folder with your own key, made by `person init`.\n");
        text
    }

    fn what_yes_does(&self) -> String {
        let approval = &self.case.agreement.approval;
        let needed = usize::try_from(approval.needed).unwrap_or(usize::MAX);
        let yes = self.case.said().iter().filter(|(_, yes, _)| *yes).count();
        let first = match needed.saturating_sub(yes) {
            0 | 1 => String::from("On yes: this node decides again by the agreement and reserves the price."),
            more => format!(
                "On yes: it counts as one, and {} more must follow. Then this node decides again by the agreement and \
                             reserves the price.",
                more - 1
            ),
        };
        let held = if approval.hold {
            " What leaves is held back until one of you has looked at it and lets it out (`node dispatch`)."
        } else {
            ""
        };
        format!(
            "{first} When the nodes of all members permit it, each reads its rows, adds noise, and sends sums under masks; \
             only the noised sum of all is ever seen. From the moment rows are read the price is spent.{held}"
        )
    }
}

/// Every budget that this task draws on, before and after; and why they do not suffice, if they do not.
fn budgets(view: &View, case: &Case, priced: Option<&Priced>) -> Result<(Vec<Budget>, Option<String>), Failure> {
    let Some((record, account)) = view.accounts()?.into_iter().find(|(record, _)| record.name == case.run.dataset)
    else {
        return Ok((Vec::new(), Some(String::from("this node has no such dataset"))));
    };
    let (after, unpaid) = match priced {
        Some(priced) => paid(&account, case, priced),
        None => (None, None),
    };
    let terms = &case.agreement.budgets;
    let (study, researcher) = (&case.run.study, &case.run.researcher);
    let scopes = [
        (Scope::Dataset, format!("dataset {}, everyone", record.name), record.epsilon),
        (Scope::Study(study.to_string()), format!("study {study}"), terms.epsilon_total),
        (
            Scope::Researcher(format!("{study}/{researcher}")),
            format!("{researcher} in {study}"),
            terms.epsilon_per_researcher,
        ),
    ];
    let budgets = scopes.into_iter().filter_map(|(scope, of, total)| {
        let left = account.remaining_epsilon_of(&scope)?;
        let after = after.as_ref().and_then(|after| after.remaining_epsilon_of(&scope));
        Some(Budget { of, total: total.to_f64(), left, after })
    });
    Ok((budgets.collect(), unpaid))
}

/// The account as it would be with this task's price reserved; or why it cannot be. Nothing is written.
fn paid(account: &Account, case: &Case, priced: &Priced) -> (Option<Account>, Option<String>) {
    let reservation = Reservation {
        researcher: format!("{}/{}", case.run.study, case.run.researcher),
        study: case.run.study.to_string(),
        task: case.hash.to_string(),
        round: 0,
        price: priced.price().clone(),
        time: None,
    };
    match account.reserve(&reservation) {
        Ok(Next::Write(entry)) => {
            let mut after = account.clone();
            let applied = after.apply(&entry).is_ok();
            (applied.then_some(after), None)
        }
        Ok(Next::Already(_)) => (None, None),
        Err(refusal) => (None, Some(refusal.to_string())),
    }
}

/// The last task with the same dataset and computations that people here approved, and what is different in this one.
fn last_approved(view: &View, case: &Case) -> Result<Option<(Hash, Timestamp, Vec<String>)>, Failure> {
    let plan: &Plan = &case.task.plan;
    let mut last = None;
    for (hash, run) in view.runs()? {
        if hash == case.hash || run.study != case.run.study || run.began_at > case.run.began_at {
            continue;
        }
        let was_approved = !run.approvals.is_empty() && !matches!(run.state, RunState::Waiting | RunState::Refused);
        let task = run.task.peek::<cohortium_messages::Task>().map_err(Failure::own)?;
        let task = task.claims();
        let is_alike = task.plan.dataset == plan.dataset && words::analyses(&task.plan) == words::analyses(plan);
        if was_approved && is_alike {
            let mut different = words::differences(&task.plan, plan);
            let epsilon = |plan: &Plan| -> Result<Option<u64>, Failure> {
                let agreement = agreement_of(view, plan.agreement)?;
                let priced =
                    agreement.and_then(|agreement| cohortium_query::check(plan, &agreement, plan.agreement).ok());
                Ok(priced.map(|priced| priced.facts().epsilon_micro))
            };
            if let (Some(old), Some(new)) = (epsilon(&task.plan)?, epsilon(plan)?)
                && old != new
            {
                different.push(format!("price: was ε = {:.3}; is ε = {:.3}", micro(old), micro(new)));
            }
            last = Some((hash, task.asked_at, different));
        }
    }
    Ok(last)
}

/// Lines of at most 110 characters, indented, so that a terminal does not break them elsewhere.
fn wrapped(text: &str) -> String {
    let mut lines = String::from(" ");
    let mut width = 1;
    for word in text.split(' ') {
        let length = word.chars().count() + 1;
        if width + length > 110 {
            lines.push_str("\n ");
            width = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        width += length;
    }
    lines.push('\n');
    lines
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
