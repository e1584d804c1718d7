//! `cohortium node show`: everything a person needs to say yes or no to one task, and nothing that they must take on trust.
//!
//! The words come from the plan that would run, the agreement as this house holds it, and this house's own account. What
//! only others say (who else permits it) is said to be so.

use std::fmt::Write as _;
use std::path::Path;

use cohortium_messages::{Agreement, Entry, Fact, Name, Party, Timestamp, ascii_json};
use cohortium_node::service::now;
use cohortium_node::{HeldRecord, RunRecord, RunState};
use cohortium_policy::Severity;
use cohortium_policy::words::{self, counted};
use cohortium_query::{Ask, ExpectedError, Per, Priced};

use crate::budgets::Budgets;
use crate::compare::Compared;
use crate::desk::{Case, held_for, lying, named, standstill, without_this_node};
use crate::output::{Failure, Output, plain, table};
use crate::query::{join, micro, number};
use crate::sandbox::{command_line, shown};
use crate::session::{fingerprint, node_home, open_view};

/// What this node knows of a task.
struct Shown {
    budgets: Budgets,
    case: Case,
    compared: Compared,
    expected: Vec<ExpectedError>,
    held: Option<HeldRecord>,
    home: String,
    /// What lies on the desk about this task and was not looked at yet.
    lying: Vec<String>,
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

/// Until when what is held back can still be let out, by this house's clock: the hub's wait began a little earlier.
pub fn held_until(agreement: &Agreement, held: &HeldRecord) -> Timestamp {
    held.record.made_at.plus_seconds(i64::from(agreement.approval.wait_hours).saturating_mul(3600))
}

/// A state in words of people.
pub fn state_in_words(state: RunState) -> String {
    match state {
        RunState::Masked => String::from("computed, not yet in the sum"),
        RunState::Void => String::from("ended without an answer, as the hub says"),
        state => state.to_string(),
    }
}

/// How a run ended or what it waits for at a node, for people: a no of its own is told as one of another member is.
pub fn why_here(parties: &[Party], here: &Name, run: &RunRecord) -> String {
    match run.state {
        RunState::Refused => words::how_it_ended(parties, &format!("{here} refuses: {}", run.why)),
        _ => words::how_it_ended(parties, &run.why),
    }
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
        let house = node_home(home)?;
        let node = house.connection()?.name;
        let view = open_view(home)?;
        let case = Case::find(&view, task)?;
        let is_about = |entry: &Entry| match &entry.fact {
            Fact::Approval { task, .. } | Fact::Dispatch { task, .. } => *task == case.hash,
            Fact::Freeze { .. } => entry.study == case.run.study,
            _ => false,
        };
        let plan = &case.task.plan;
        let priced = cohortium_query::check(plan, &case.agreement, plan.agreement).ok();
        let members = u32::try_from(case.agreement.parties.len()).unwrap_or(u32::MAX);
        let expected = match &priced {
            Some(priced) => cohortium_query::expected_error(priced, members).map_err(Failure::own)?,
            None => Vec::new(),
        };
        let ask = Ask { rho: plan.rho, draw: plan.draw };
        let again = cohortium_query::plan(&case.task.sql, &case.agreement, plan.agreement, ask);
        Ok(Self {
            budgets: Budgets::of(&view, &case, priced.as_ref())?,
            compared: Compared::find(&view, &case, &node)?,
            held: held_for(&view, case.hash)?,
            home: shown(home),
            lying: lying(&house, is_about)?,
            node,
            sql_is_plan: again.is_ok_and(|again| again == *plan),
            stopped: standstill(&view, &case.run.study)?,
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
            let doubt = self.doubt(&name);
            serde_json::json!({"column": name, "doubt": doubt, "meaning": meaning, "sensitivity": sensitivity, "uses": uses})
        };
        columns.map(value).collect()
    }

    /// What `study check` finds wrong with how a column is described.
    fn doubt(&self, column: &Name) -> Option<String> {
        let clause = format!("dataset {}: column {column}", self.case.task.plan.dataset);
        let findings = cohortium_policy::lint(&self.case.agreement, now()).into_iter();
        let mut doubts = findings.filter(|found| found.clause == clause && found.severity < Severity::Note);
        doubts.next().map(|found| found.words)
    }

    fn value(&self) -> Result<serde_json::Value, Failure> {
        let (case, run) = (&self.case, &self.case.run);
        let said: Vec<serde_json::Value> = case
            .said()
            .iter()
            .map(|(who, yes, why)| serde_json::json!({"approved": yes, "person": who, "why": why}))
            .collect();
        let last = self
            .compared
            .last
            .as_ref()
            .map(|(task, at, different)| serde_json::json!({"asked_at": at, "different": different, "task": task}));
        let may: Vec<&Name> = case.approvers(&self.node).iter().map(|person| &person.person).collect();
        let waits = (run.state == RunState::Waiting).then(|| waits_until(&case.agreement, run));
        Ok(serde_json::json!({
            "alarms": run.alarms, "asked_at": case.task.asked_at, "began_at": run.began_at, "budgets": self.budgets.each,
            "columns": self.columns(), "commands": self.commands(), "epsilon": self.epsilon(),
            "expected_error": self.expected, "held": self.held.as_ref().map(|held| held.message),
            "held_until": self.held.as_ref().map(|held| held_until(&case.agreement, held)), "last_approved": last,
            "may_decide": may, "near": self.compared.near, "on_desk": self.lying, "permitted_by": run.permitted_by,
            "plan": case.task.plan, "plan_hash": case.task.plan.hash().map_err(Failure::own)?,
            "purpose": case.task.purpose, "researcher": case.task.researcher,
            "researcher_fingerprint": self.researcher()?, "said": said, "same": self.compared.same,
            "sql": case.task.sql, "sql_is_plan": self.sql_is_plan, "state": run.state, "stopped": self.stopped,
            "study": run.study, "task": case.hash, "unpaid": self.budgets.unpaid, "valid_until": case.agreement.valid_until,
            "waits_until": waits, "why": run.why, "words": self.question(),
        }))
    }

    fn researcher(&self) -> Result<Option<String>, Failure> {
        self.case.agreement.researcher(&self.case.task.researcher).map(fingerprint).transpose()
    }

    fn question(&self) -> Option<String> {
        let plan = &self.case.task.plan;
        self.case.agreement.dataset(&plan.dataset).map(|terms| words::question(plan, terms))
    }

    /// The commands that may be typed now. While the study stands still neither a yes nor a dispatch would be heard.
    fn commands(&self) -> Vec<String> {
        let task = self.case.hash.short();
        let command = |verb: &str, about: &str, why: bool| {
            let mut arguments = vec!["--home", &self.home, "node", verb, about];
            if why {
                arguments.extend(["--why", "\"YOUR REASON\""]);
            }
            arguments.extend(["--as", "YOUR_FOLDER"]);
            command_line(&arguments)
        };
        let refuse = || command("refuse", &task, true);
        let unfreeze = || command("unfreeze", self.case.run.study.as_str(), true);
        match (self.case.run.state, &self.held, &self.stopped) {
            (RunState::Waiting, _, None) => vec![command("approve", &task, true), refuse()],
            (RunState::Waiting, _, Some(_)) => vec![refuse(), unfreeze()],
            (_, Some(_), None) => vec![command("dispatch", &task, false)],
            (_, Some(_), Some(_)) => vec![unfreeze()],
            _ => Vec::new(),
        }
    }

    fn text(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let parts =
            [self.first_of_all(), self.asked()?, self.computed()?, self.price(), self.remarkable(), self.decision()];
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let _ = writeln!(text, "{part}");
        }
        Ok(text)
    }

    /// What nobody may overlook.
    fn first_of_all(&self) -> String {
        let mut lines = self.compared.first_of_all(self.case.run.state);
        if let Some(why) = &self.stopped {
            lines.push(format!("THE STUDY STANDS STILL AT THIS NODE: {}", plain(why)));
        }
        lines.extend(
            self.lying
                .iter()
                .map(|said| format!("Signed, and not looked at by the node yet (is it running?): {}", plain(said))),
        );
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// How the task stands here.
    fn state(&self) -> String {
        let (case, run) = (&self.case, &self.case.run);
        let words = state_in_words(run.state);
        match (run.state, &self.held) {
            (RunState::Waiting, _) => {
                let until = waits_until(&case.agreement, run);
                format!(
                    "WAITS FOR YOU AND YOUR COLLEAGUES: {}. Time left: {} (until {until})",
                    run.why,
                    left_in_words(until)
                )
            }
            (_, Some(held)) => {
                let until = held_until(&case.agreement, held);
                format!("HELD BACK until one of you lets it out. Time left: {} (until {until})", left_in_words(until))
            }
            _ if run.why.is_empty() => words,
            _ => format!("{words}: {}", plain(&why_here(&case.agreement.parties, &self.node, run))),
        }
    }

    /// Who asks, for what, and how it stands.
    fn asked(&self) -> Result<String, Failure> {
        let (case, run) = (&self.case, &self.case.run);
        let fingerprint = self.researcher()?.unwrap_or_else(|| String::from("not in the agreement"));
        let agreement = &case.agreement;
        let mut text = format!("Task {}\n", case.hash);
        let _ = writeln!(text, "  state      {}", self.state());
        let _ = writeln!(
            text,
            "  asked by   {} (fingerprint {fingerprint}), on {}",
            case.task.researcher, case.task.asked_at
        );
        let _ = writeln!(
            text,
            "  study      {} (revision {}, until {}): {}",
            run.study,
            agreement.revision,
            agreement.valid_until,
            plain(&agreement.title)
        );
        let _ = writeln!(text, "  purpose    {}", words::purpose(&case.task.purpose));
        let _ = writeln!(text, "             as agreed: {}", plain(&agreement.purpose_text));
        let _ = writeln!(text, "  affirms    {}", words::affirmed(&case.task.affirms));
        let _ = writeln!(text, "  rows of    {}", join(&case.task.participants));
        text.push_str(&wrapped(
            "Rows stay where they are. What leaves a node is a sum with random noise, which nobody can read before the sums of \
             all members are added.",
        ));
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
        for (column, _) in words::columns(plan) {
            if let Some(doubt) = self.doubt(&column) {
                text.push_str(&wrapped(&format!("`study check` doubts how {column} is described: {}", plain(&doubt))));
            }
        }
        let _ = writeln!(text, "  Plan, exactly: {}", plan.hash().map_err(Failure::own)?);
        text.push_str(&broken(&ascii_json(&serde_json::to_string(plan).map_err(Failure::own)?)));
        Ok(text)
    }

    /// What it costs, what would be left, how good the answer would be.
    fn price(&self) -> String {
        let mut text = String::from("Price, at this node\n");
        let agreement = &self.case.agreement;
        match (self.epsilon(), &self.priced) {
            (Some(epsilon), Some(priced)) => {
                let cells = u32::try_from(priced.layout().cells()).unwrap_or(u32::MAX);
                let _ = writeln!(
                    text,
                    "  ε = {epsilon:.3} for this task alone (δ = {}), {} in the answer",
                    agreement.budgets.delta,
                    counted(cells, "number")
                );
            }
            _ => text.push_str("  The plan does not fit the agreement: it has no price, and cannot run.\n"),
        }
        text.push_str(&self.budget_table());
        if let Some(why) = &self.budgets.unpaid {
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

    /// The budgets, with what the task would take while that is open, and what became of its price afterwards.
    fn budget_table(&self) -> String {
        use cohortium_dp::RunState as Paid;
        let is_open = self.case.run.state == RunState::Waiting;
        let rows = self.budgets.each.iter().map(|budget| {
            let mut row = vec![budget.of.clone(), format!("{:.3}", budget.total), format!("{:.3}", budget.left)];
            if is_open {
                let word = |value: Option<f64>| value.map_or_else(|| String::from("–"), |value| format!("{value:.3}"));
                row.extend([word(budget.after.map(|after| budget.left - after)), word(budget.after)]);
            }
            row
        });
        let headings = ["budget of", "ε in all", "ε left", "takes now", "left after this"];
        let headings = if is_open { &headings[..] } else { headings.split_at(3).0 };
        let mut text = indented(&table(headings, rows));
        text.push_str(match (is_open, self.budgets.account) {
            (true, _) if self.budgets.unpaid.is_none() => {
                "  A first question takes more than its own ε, later ones less: they are counted together.\n"
            }
            (true, _) => "",
            (false, Some(Paid::Reserved)) => "  The price is already reserved for this task, and in what is left.\n",
            (false, Some(Paid::Reading | Paid::Spent)) => {
                "  The price is already charged for this task, and in what is left.\n"
            }
            (false, Some(Paid::Refunded)) => "  The price was given back: no row was read.\n",
            (false, None) => "  Nothing was reserved for this task.\n",
        });
        text
    }

    /// What a person should know beside: what is like it, what others say, what the rules noticed.
    fn remarkable(&self) -> String {
        let mut text = String::from("To compare\n");
        match &self.compared.last {
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
        text.push_str(&self.others());
        for (who, yes, why) in self.case.said() {
            let word = if yes { "yes" } else { "no" };
            let _ = writeln!(text, "  {who} of this house said {word}: {}", plain(&why));
        }
        let noticed = self.noticed();
        if noticed.is_empty() {
            text.push_str("  The rules of watching noticed nothing.\n");
        }
        for line in noticed {
            text.push_str(&wrapped(&line));
        }
        text
    }

    /// What the other members say to it, as far as that is known here and matters still.
    fn others(&self) -> String {
        let (run, task) = (&self.case.run, self.case.hash.short());
        let others: Vec<Name> = run.permitted_by.iter().cloned().collect();
        let known = match (run.state, others.as_slice()) {
            (RunState::Waiting, []) => {
                String::from("No other member had permitted this very plan when this node was last told.")
            }
            (RunState::Waiting, others) => {
                format!("Members whose nodes permit this very plan (by their signatures): {}.", join(others))
            }
            (RunState::Permitted, _) => String::from("This node permits it."),
            (RunState::Reading | RunState::Masked | RunState::Signed | RunState::Revealed, _) => {
                return wrapped("All members permit it: before that no node reads a row.");
            }
            _ => return String::new(),
        };
        let ask = command_line(&["--home", &self.home, "task", "show", &task]);
        format!("{}    {ask}\n", wrapped(&format!("{known} How far the others are, the hub knows:")))
    }

    /// What the rules noticed when the task came, with the tasks that they speak of named as they are called here.
    fn noticed(&self) -> Vec<String> {
        let mut lines = self.compared.warnings();
        let is_named = !lines.is_empty();
        for alarm in &self.case.run.alarms {
            let alarm = plain(alarm);
            match alarm.split_once(": ") {
                Some(("differencing", _)) if is_named => {}
                Some(("first-pair", why)) => lines.push(format!("New here: {why}.")),
                Some((_, why)) => lines.push(format!("NOTICED: {why}.")),
                None => lines.push(format!("NOTICED: {alarm}")),
            }
        }
        lines
    }

    /// What is asked of the reader.
    fn decision(&self) -> String {
        let mut text = match (self.case.run.state, &self.held) {
            (RunState::Waiting, _) => self.to_say(),
            (_, Some(held)) => self.to_let_out(held),
            _ => return self.nothing_to_do(),
        };
        text.push_str("Type one of these:\n");
        for command in self.commands() {
            let _ = writeln!(text, "  {command}");
        }
        text.push_str("YOUR_FOLDER is the folder with your own key, made by `person init`.\n");
        text
    }

    /// Yes or no.
    fn to_say(&self) -> String {
        let said = self.case.said();
        let yes = said.iter().filter(|(_, yes, _)| *yes).count();
        let still = self.case.approvers(&self.node).into_iter();
        let still: Vec<_> = still.filter(|person| said.iter().all(|(who, ..)| *who != person.person)).collect();
        let needed = self.case.agreement.approval.needed;
        let mut text = String::new();
        let _ = writeln!(
            text,
            "Your decision: {needed} of you must say yes, {yes} did; one no refuses. Still to say: {}",
            named(&still)
        );
        if let Some(why) = &self.stopped {
            text.push_str(&wrapped(&still_standing(why, self.case.run.study.as_str())));
            text.push_str(&wrapped(&format!(
                "Until then no yes is taken. The task can wait {} more.",
                left_in_words(waits_until(&self.case.agreement, &self.case.run))
            )));
        } else {
            text.push_str(&wrapped(
                "Every other clause of the agreement holds, as this node found when the task came; it looks again when you say yes.",
            ));
            text.push_str(&wrapped(&self.what_yes_does()));
        }
        text.push_str(&wrapped(
            "On no: the task ends, for all members, at no price. Your reason goes to the researcher and into the log, where \
             members and auditors read it: write nothing about patients.",
        ));
        text
    }

    /// Let it out, or not.
    fn to_let_out(&self, held: &HeldRecord) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "Held back until one of you lets it out ({})", self.case.who_can(&self.node));
        let _ = writeln!(text, "  message    {}", held.message);
        let _ = writeln!(text, "  holds      {}", plain(&held.record.words));
        text.push_str(&wrapped(&format!(
            "Look before: is this the task that was approved ({}), is the exact plan above the one you mean, did the rules notice \
             anything, is the price the one you expected? The numbers themselves say nothing: they are masked.",
            self.case.hash.short()
        )));
        if let Some(why) = &self.stopped {
            text.push_str(&wrapped(&still_standing(why, self.case.run.study.as_str())));
            text.push_str(&wrapped("Until then nothing is let out."));
        }
        text.push_str(&wrapped("If it leaves: the hub adds it to the other members' and the sum becomes the answer."));
        text.push_str(&wrapped(&format!(
            "Not letting it out is the no: nothing needs to be typed. {}",
            without_this_node(&self.case.agreement)
        )));
        text
    }

    /// What to know of a task that asks nothing of anybody here.
    fn nothing_to_do(&self) -> String {
        let task = self.case.hash.short();
        match self.case.run.state {
            RunState::Released => format!(
                "Nothing to do: the answer is out. {} has it, and it stands in the hub's log (`audit export --release {task}`).\n",
                self.case.run.researcher
            ),
            RunState::LeftOut => String::from(
                "Nothing to do: this node took no further part; whether there is an answer the hub knows.\n",
            ),
            RunState::Refused | RunState::Void => String::from("Nothing to do: the task is over.\n"),
            _ => format!(
                "Nothing to do now: the nodes work on it. To stop the study here: {}\n",
                command_line(&["--home", &self.home, "node", "freeze", self.case.run.study.as_str()])
            ),
        }
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

/// Why the study stands still, and who must act.
pub fn still_standing(why: &str, study: &str) -> String {
    format!("The study is stopped here ({}). A privacy officer can let it go on: `node unfreeze {study}`.", plain(why))
}

/// Lines of 104 characters, indented, of a text without spaces.
fn broken(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(104).map(|line| format!("    {}\n", line.iter().collect::<String>())).collect()
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
