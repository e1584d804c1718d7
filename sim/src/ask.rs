//! The researcher: plans, prices, signs, submits; believes an answer only after everything about it was checked.

use cohortium_messages::{
    Author, Call, Entry, Envelope, Fact, Hash, Modifier, Name, PROTOCOL_VERSION, Plan, ReleaseDocument, Reply, Task,
    TaskState, TaskStatus, Verified, canonical_bytes, decode_cells,
};
use cohortium_query::{Answer, Ask, Priced};

use crate::world::{RESEARCHER, SimError, World, broken, draw};

/// A signed question.
#[derive(Clone)]
pub struct Asked {
    /// The researcher's log entry.
    pub entry: Envelope,
    /// What the task is called by.
    pub hash: Hash,
    /// What is asked.
    pub plan: Plan,
    /// The signed task.
    pub task: Envelope,
}

/// A verified answer.
pub struct Answered {
    /// The table that was asked for.
    pub answer: Answer,
    /// The released sums, in lattice steps.
    pub cells: Vec<i64>,
    /// Plan, layout and price, derived anew.
    pub priced: Priced,
    /// The release.
    pub release: Verified<ReleaseDocument>,
    /// The task.
    pub task: Hash,
    /// The variance of the noise in each cell, in lattice steps squared, as stated.
    pub variance: u128,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The question cannot be planned or paid; it was not asked.
    #[error("not asked: {0}")]
    NotAsked(String),
    /// The hub refused it when it was submitted.
    #[error("refused: {why} {clauses:?}")]
    Refused {
        /// Every failing clause.
        clauses: Vec<String>,
        /// In words.
        why: String,
    },
    /// It ended without an answer.
    #[error("ended: {0:?}")]
    Ended(Box<TaskStatus>),
    /// Something else happened.
    #[error(transparent)]
    World(#[from] SimError),
}

impl World {
    /// Asks and waits: plan, task, entry, submission, all rounds, and every check on what comes back.
    ///
    /// # Errors
    /// [`Unanswered`], with the reason.
    pub fn ask(&mut self, sql: &str, epsilon: &str) -> Result<Answered, Unanswered> {
        let asked = self.prepare(sql, epsilon, 0)?;
        self.ask_prepared(&asked)
    }

    /// [`Self::ask`] for a task that is signed already.
    ///
    /// # Errors
    /// [`Unanswered`], with the reason.
    pub fn ask_prepared(&mut self, asked: &Asked) -> Result<Answered, Unanswered> {
        match self.submit(asked) {
            Ok(_) => {}
            Err(SimError::Refused(refused)) => {
                return Err(Unanswered::Refused { clauses: refused.clauses, why: refused.why });
            }
            Err(error) => return Err(error.into()),
        }
        let status = self.settle(asked)?;
        match status.state {
            TaskState::Released => Ok(self.verify(asked, &status)?),
            _ => Err(Unanswered::Ended(Box::new(status))),
        }
    }

    /// Plans and signs a question. The `draw`-th repetition of a question is another plan.
    ///
    /// # Errors
    /// [`Unanswered::NotAsked`].
    pub fn prepare(&mut self, sql: &str, epsilon: &str, draw: u32) -> Result<Asked, Unanswered> {
        let no = |why: String| Unanswered::NotAsked(why);
        let epsilon = epsilon.parse().map_err(|error: cohortium_messages::DecimalError| no(error.to_string()))?;
        let rho = cohortium_query::rho_for_epsilon(epsilon, self.agreement().budgets.delta);
        let rho = rho.map_err(|error| no(error.to_string()))?;
        let plan = cohortium_query::plan(sql, self.agreement(), self.agreement().hash(), Ask { rho, draw });
        let plan = plan.map_err(|error| no(error.to_string()))?;
        Ok(self.sign_task(plan, sql)?)
    }

    /// Signs a plan as a task, whatever it says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sign_task(&mut self, plan: Plan, sql: &str) -> Result<Asked, SimError> {
        let researcher = Name::new(RESEARCHER).map_err(broken)?;
        let mut affirms: Vec<Modifier> = self.agreement().conditions.iter().map(|one| one.modifier).collect();
        affirms.sort_unstable();
        let task = Task {
            affirms,
            asked_at: self.clock(),
            nonce: draw(&mut self.rng),
            participants: self.agreement().participants(),
            plan,
            protocol: PROTOCOL_VERSION,
            purpose: "HMB".parse().map_err(broken)?,
            researcher,
            rounds: 1,
            sql: sql.to_owned(),
            study: self.agreement().study.clone(),
        };
        self.sign_as_asked(task)
    }

    /// Signs a task as it is, and the log entry that names it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn sign_as_asked(&self, task: Task) -> Result<Asked, SimError> {
        let key = self.researcher_key();
        let envelope = Envelope::sign(&task, &key).map_err(broken)?;
        let hash = Hash::of(&canonical_bytes(&task).map_err(broken)?);
        let fact = Fact::Task {
            body: Hash::of(&canonical_bytes(&envelope).map_err(broken)?),
            plan: task.plan.hash().map_err(broken)?,
            task: hash,
        };
        let entry = Entry {
            agreement: self.agreement().hash(),
            author: Author::Researcher(task.researcher.clone()),
            fact,
            study: task.study.clone(),
            time: self.clock(),
        };
        let entry = Envelope::sign(&entry, &key).map_err(broken)?;
        Ok(Asked { entry, hash, plan: task.plan, task: envelope })
    }

    /// Hands a task to the hub. Again is fine: it is the same task.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn submit(&mut self, asked: &Asked) -> Result<TaskStatus, SimError> {
        status_of(self.call_as_researcher(Call::Submit { entry: asked.entry.clone(), task: asked.task.clone() })?)
    }

    /// How a task stands.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn status(&mut self, task: Hash) -> Result<TaskStatus, SimError> {
        status_of(self.call_as_researcher(Call::Status { known: 0, task, wait_ms: 0 })?)
    }

    /// Lets the world run, and time pass where nothing else helps, until the task has ended and all is quiet.
    ///
    /// # Errors
    /// When it does not end: every task must.
    pub fn settle(&mut self, asked: &Asked) -> Result<TaskStatus, SimError> {
        let timeout_s = i64::from(self.config().phase_timeout_s) + 1;
        for _ in 0..6 {
            self.run_until_quiet()?;
            let status = self.status(asked.hash)?;
            let is_proven = status.state != TaskState::Released || status.inclusion.is_some();
            if status.state.is_terminal() && is_proven {
                return Ok(status);
            }
            self.advance(timeout_s)?;
        }
        Err(broken("the task reaches no end"))
    }

    /// Everything that a researcher can check about an answer: the hub's signature, receipts, price and noise against
    /// the plan, and that the release stands in a log that a quorum of members has cosigned.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self, asked: &Asked, status: &TaskStatus) -> Result<Answered, SimError> {
        let missing = |what: &str| broken(format!("a released task without {what}"));
        let agreement = self.agreement();
        let task: Verified<Task> = asked.task.open(&self.researcher_key().public()).map_err(broken)?;
        let priced = cohortium_query::check(&task.plan, agreement, agreement.hash()).map_err(broken)?;
        let envelope = status.release.as_ref().ok_or_else(|| missing("release"))?;
        let release = envelope.open::<ReleaseDocument>(&agreement.hub.message_key).map_err(broken)?;
        cohortium_policy::verify_release(&release, agreement, &task, &priced).map_err(broken)?;
        let entry = status.release_entry.as_ref().ok_or_else(|| missing("log entry"))?;
        let logged = entry.open::<Entry>(&agreement.hub.message_key).map_err(broken)?;
        let body = Hash::of(&canonical_bytes(envelope).map_err(broken)?);
        if logged.fact != (Fact::Release { body, release: release.hash(), task: asked.hash }) {
            return Err(broken("the log entry names another release"));
        }
        let inclusion = status.inclusion.as_ref().ok_or_else(|| missing("inclusion"))?;
        cohortium_policy::verify_inclusion(agreement, entry, inclusion).map_err(broken)?;
        let cells = decode_cells(&release.cells).ok_or_else(|| missing("cells"))?;
        let variance = release.noise_variance.parse().map_err(broken)?;
        let answer = cohortium_query::answer(&priced, &cells, variance).map_err(broken)?;
        Ok(Answered { answer, cells, priced, release, task: asked.hash, variance })
    }
}

fn status_of(reply: Reply) -> Result<TaskStatus, SimError> {
    match reply {
        Reply::Status(status) => Ok(status),
        _ => Err(broken("the hub answers something else than a status")),
    }
}
