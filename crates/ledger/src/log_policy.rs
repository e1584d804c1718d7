//! Which logs are believed, and who must have cosigned: C2SP tlog-policy, one text for node, hub, researcher and auditor.
//!
//! Why this exists. A quorum that each program states in its own way is a quorum that two of them state differently. The
//! text can stand in an agreement, be signed, and be handed to a stranger's verifier.
//!
//! ```text
//! log hub+…
//! witness northside/ed25519 northside+…
//! witness northside/ml-dsa-44 northside+…
//! group northside all northside/ed25519 northside/ml-dsa-44
//! witness southside southside+…
//! group members 2 northside southside
//! quorum members
//! ```
//!
//! A group may name only what stands above it, and every name is a member once at most: so groups are a forest, nothing
//! can be circular, and a witness counts in one way. Policies are evaluated from the top without recursion.
//!
//! Stricter than the specification where it allows an implementation to be or where ours has to be: the text is UTF-8;
//! there are limits; numbers have no leading zeros; a witness's key is not a log's; no two keys share name and id, since a
//! line could then be by either. [`LogPolicy::is_met`] refuses `quorum none`: a head under it is evidence of nothing.
//!
//! What it does not do: judge times. When somebody cosigned is returned, and whether that is too long ago is the caller's
//! to say.
//!
//! Adversary: whoever wrote the text (a limit on everything, errors with their line) and whoever shows the head. Promise of
//! [`LogPolicy::is_met`] (argued; EUF-CMA of the signatures): given a head, returns evidence only if one of the logs
//! signed it and a set of witnesses that satisfies the quorum cosigned it; never counts a witness twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::checkpoint::{Checkpoint, CheckpointError, QuorumCheckpoint, SignedCheckpoint, Witnessed};
use crate::key::{KeyKind, VerifierKey};
use crate::note::{Note, NoteError, SIGNATURES_MAX, check_name};

/// Longest policy, in bytes (512 KiB). 60 members with two keys and names of 63 bytes need 150 kB.
pub const POLICY_BYTES_MAX: usize = 512 << 10;

/// Most logs; the specification recommends at least 32.
pub const LOGS_MAX: usize = 32;

/// Most witnesses: more could not sign one note. The specification recommends at least 32.
pub const WITNESSES_MAX: usize = SIGNATURES_MAX;

/// Most groups; the specification recommends at least 32.
pub const GROUPS_MAX: usize = WITNESSES_MAX;

/// Deepest nesting of groups. A rule that is deeper is not one that people agreed to.
pub const DEPTH_MAX: usize = 16;

/// The name of the group over all members in [`LogPolicy::of_members`].
const MEMBERS: &str = "members";

/// Why a policy is refused, or a head under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A line is wrong.
    #[error("operator: line {line} of the log policy: {what}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The text as a whole is wrong.
    #[error("operator: log policy: {0}")]
    Text(&'static str),
    /// There is too much of something.
    #[error("operator: log policy over its limit of {limit} {what}")]
    TooLarge {
        /// Of what, in its unit.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The members of an agreement cannot be made into a policy.
    #[error("operator: {name} cannot be a member of a log policy: {what}")]
    Member {
        /// Who.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The head is malformed, or a signature on it is wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The head is of a log that the policy does not list.
    #[error("peer: the log policy does not list the log {origin} with the key that signed")]
    UnknownLog {
        /// What the head names as its log.
        origin: String,
    },
    /// The policy says `quorum none`.
    #[error("operator: the log policy demands no cosignature; a head under it is evidence of nothing")]
    NothingDemanded,
    /// Not all who must have cosigned did.
    #[error("peer: {quorum} is not met: {found} of {needed} cosigned; not by: {}", missing.join(", "))]
    NotMet {
        /// The witness or group that the quorum line names.
        quorum: String,
        /// How many of its members must be met.
        needed: usize,
        /// How many are.
        found: usize,
        /// The witnesses whose cosignatures are missing, as the policy names them.
        missing: Vec<String>,
    },
}

impl From<NoteError> for PolicyError {
    fn from(error: NoteError) -> PolicyError {
        PolicyError::Checkpoint(error.into())
    }
}

/// A policy. Its text form, [`fmt::Display`], has the logs first, then witnesses and groups in their order, then the
/// quorum; no comments. For policies of our own making ([`LogPolicy::of_members`]) parsing it and printing it again gives
/// the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    logs: Vec<Listed>,
    definitions: Vec<Definition>,
    /// Position in `definitions`.
    quorum: Option<usize>,
}

/// A key, and where its owner is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    key: VerifierKey,
    url: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Definition {
    name: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Witness(Box<Listed>),
    /// Members are positions in `definitions`, all smaller than the group's own.
    Group {
        threshold: Threshold,
        members: Vec<usize>,
    },
}

/// How many members of a group must be met, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Threshold {
    All,
    Any,
    AtLeast(usize),
}

impl Threshold {
    fn of(self, members: usize) -> usize {
        match self {
            Threshold::All => members,
            Threshold::Any => 1,
            Threshold::AtLeast(number) => number,
        }
    }
}

/// A member of an agreement, as a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyMember {
    /// The member's name, which is also the name of its keys.
    pub name: String,
    /// Its key of kind [`KeyKind::Witness`].
    pub ed25519: VerifierKey,
    /// Its key of kind [`KeyKind::WitnessMlDsa44`]; where there is one, both must cosign.
    pub ml_dsa_44: Option<VerifierKey>,
}

impl LogPolicy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError::Line`] with the first line that is wrong, [`PolicyError::Text`], [`PolicyError::TooLarge`].
    pub fn parse(text: &[u8]) -> Result<LogPolicy, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::TooLarge { what: "bytes", limit: POLICY_BYTES_MAX });
        }
        let text = std::str::from_utf8(text).map_err(|_| PolicyError::Text("not UTF-8"))?;
        let lines = text.strip_suffix('\n').ok_or(PolicyError::Text("the last line does not end in a newline"))?;
        let mut reader = Reader::default();
        for (number, line) in (1..).zip(lines.split('\n')) {
            reader.line(line).map_err(|problem| problem.at(number))?;
        }
        let quorum = reader.quorum.ok_or(PolicyError::Text("no quorum line"))?;
        Ok(LogPolicy { logs: reader.logs, definitions: reader.definitions, quorum })
    }

    /// The policy of an agreement: one log, and at least `quorum` of its members as witnesses. A member with two keys counts
    /// when both have cosigned. Members are put in the order of their names, so that the same members make the same text.
    ///
    /// # Errors
    /// [`PolicyError::Member`] for a key of the wrong kind or under another name, a name that is taken twice, is `none` or
    /// `members`, or cannot stand in a policy; [`PolicyError::Line`] for a quorum of none or of more than all, and for a
    /// key that is there twice; [`PolicyError::TooLarge`].
    pub fn of_members(log: &VerifierKey, members: &[PolicyMember], quorum: usize) -> Result<LogPolicy, PolicyError> {
        let members: BTreeMap<&str, &PolicyMember> = {
            let mut sorted = BTreeMap::new();
            for member in members {
                check_member(member)?;
                if sorted.insert(member.name.as_str(), member).is_some() {
                    return Err(PolicyError::Member { name: member.name.clone(), what: "it is there twice" });
                }
            }
            sorted
        };
        let mut text = format!("log {log}\n");
        for (name, member) in &members {
            match &member.ml_dsa_44 {
                None => text.push_str(&format!("witness {name} {}\n", member.ed25519)),
                Some(second) => text.push_str(&format!(
                    "witness {name}/ed25519 {}\nwitness {name}/ml-dsa-44 {second}\n\
                     group {name} all {name}/ed25519 {name}/ml-dsa-44\n",
                    member.ed25519
                )),
            }
        }
        let names: Vec<&str> = members.into_keys().collect();
        text.push_str(&format!("group {MEMBERS} {quorum} {}\nquorum {MEMBERS}\n", names.join(" ")));
        LogPolicy::parse(text.as_bytes())
    }

    /// The quorum and the members, in the order of their names, if this is exactly what [`LogPolicy::of_members`] makes of
    /// them and of its one log; `None` if it is any other policy, even one that means the same.
    pub fn flat_quorum(&self) -> Option<(usize, Vec<PolicyMember>)> {
        let [log] = self.logs.as_slice() else { return None };
        let Rule::Group { threshold: Threshold::AtLeast(quorum), members } = &self.definitions.get(self.quorum?)?.rule
        else {
            return None;
        };
        let members: Vec<PolicyMember> =
            members.iter().map(|position| self.member(*position)).collect::<Option<_>>()?;
        let again = LogPolicy::of_members(&log.key, &members, *quorum).ok()?;
        (again == *self).then_some((*quorum, members))
    }

    /// The keys of the logs.
    pub fn logs(&self) -> impl Iterator<Item = &VerifierKey> {
        self.logs.iter().map(|log| &log.key)
    }

    /// The keys of the witnesses.
    pub fn witnesses(&self) -> impl Iterator<Item = &VerifierKey> {
        self.definitions.iter().filter_map(|definition| match &definition.rule {
            Rule::Witness(witness) => Some(&witness.key),
            Rule::Group { .. } => None,
        })
    }

    /// Reads a note and verifies that one of the logs signed it. Cosignatures are not looked at: see [`LogPolicy::is_met`].
    ///
    /// # Errors
    /// [`PolicyError::UnknownLog`] when no log of that name is listed, [`PolicyError::Checkpoint`] for everything else.
    pub fn open(&self, note: &[u8]) -> Result<SignedCheckpoint, PolicyError> {
        let parsed = Note::parse(note)?;
        let origin = Checkpoint::parse(parsed.text())?.origin().to_owned();
        let logs: Vec<VerifierKey> = self.logs().filter(|log| log.name() == origin).cloned().collect();
        let first = logs.first().ok_or_else(|| PolicyError::UnknownLog { origin: origin.clone() })?;
        // All listed keys of this name are looked for: a line that claims to be by one of them must verify.
        let signed = parsed.verify(&logs)?;
        let log = signed.first().and_then(|(position, _)| logs.get(*position)).unwrap_or(first);
        Ok(SignedCheckpoint::open(note, log)?)
    }

    /// Evidence that the quorum cosigned this head, and who did and when, in the order of lines.
    ///
    /// # Errors
    /// [`PolicyError::NotMet`] naming who is missing; [`PolicyError::UnknownLog`] when the head is of a log that is not
    /// listed; [`PolicyError::Checkpoint`] when a line claims to be by a witness and is not, or is there twice;
    /// [`PolicyError::NothingDemanded`].
    pub fn is_met(&self, head: &SignedCheckpoint) -> Result<QuorumCheckpoint, PolicyError> {
        let quorum = self.quorum.ok_or(PolicyError::NothingDemanded)?;
        if !self.logs().any(|log| log == head.log_key()) {
            return Err(PolicyError::UnknownLog { origin: head.checkpoint().origin().to_owned() });
        }
        let keys: Vec<VerifierKey> = self.witnesses().cloned().collect();
        let mut cosigned_by = Vec::new();
        let mut signed = BTreeSet::new();
        for (position, time_s) in head.note().verify(&keys)? {
            let (Some(witness), Some(time_s)) = (keys.get(position), time_s) else { continue };
            signed.insert(position);
            cosigned_by.push(Witnessed { witness: witness.clone(), time_s });
        }
        let met = self.met(&signed);
        if met.get(quorum) == Some(&true) {
            return Ok(QuorumCheckpoint::new(head.clone(), cosigned_by));
        }
        Err(self.not_met(quorum, &met))
    }

    /// Which definitions are met when these witnesses (numbered among the witnesses) have signed. What a group names stands
    /// above it.
    fn met(&self, signed: &BTreeSet<usize>) -> Vec<bool> {
        let mut witness = 0;
        let mut met: Vec<bool> = Vec::new();
        for definition in &self.definitions {
            let is_met = match &definition.rule {
                Rule::Witness(_) => {
                    witness += 1;
                    signed.contains(&(witness - 1))
                }
                Rule::Group { threshold, members } => {
                    let count = members.iter().filter(|member| met.get(**member) == Some(&true)).count();
                    count >= threshold.of(members.len())
                }
            };
            met.push(is_met);
        }
        met
    }

    fn not_met(&self, quorum: usize, met: &[bool]) -> PolicyError {
        let Some(Definition { name, rule }) = self.definitions.get(quorum) else {
            return PolicyError::Text("no quorum line");
        };
        let is_met = |position: &usize| met.get(*position) == Some(&true);
        let (needed, found) = match rule {
            Rule::Witness(_) => (1, 0),
            Rule::Group { threshold, members } => {
                (threshold.of(members.len()), members.iter().filter(|member| is_met(member)).count())
            }
        };
        // Each definition is a member once at most: this visits each once at most.
        let (mut missing, mut waiting) = (Vec::new(), vec![quorum]);
        while let Some(position) = waiting.pop().filter(|position| *position < met.len()) {
            if is_met(&position) {
                continue;
            }
            match self.definitions.get(position) {
                Some(Definition { name, rule: Rule::Witness(_) }) => missing.push(name.clone()),
                Some(Definition { rule: Rule::Group { members, .. }, .. }) => waiting.extend(members),
                None => {}
            }
        }
        missing.sort_unstable();
        PolicyError::NotMet { quorum: name.clone(), needed, found, missing }
    }

    /// The definition as a member of a flat quorum, if it could be one.
    fn member(&self, position: usize) -> Option<PolicyMember> {
        let Definition { name, rule } = self.definitions.get(position)?;
        let key = |position: &usize| match &self.definitions.get(*position)?.rule {
            Rule::Witness(witness) => Some(witness.key.clone()),
            Rule::Group { .. } => None,
        };
        let (ed25519, ml_dsa_44) = match rule {
            Rule::Witness(_) => (key(&position)?, None),
            Rule::Group { members, .. } => match members.as_slice() {
                [first, second] => (key(first)?, Some(key(second)?)),
                _ => return None,
            },
        };
        Some(PolicyMember { name: name.clone(), ed25519, ml_dsa_44 })
    }

    fn name(&self, position: usize) -> &str {
        self.definitions.get(position).map(|definition| definition.name.as_str()).unwrap_or_default()
    }
}

impl fmt::Display for LogPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |listed: &Listed| listed.url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
        for log in &self.logs {
            writeln!(out, "log {}{}", log.key, url(log))?;
        }
        for Definition { name, rule } in &self.definitions {
            match rule {
                Rule::Witness(witness) => writeln!(out, "witness {name} {}{}", witness.key, url(witness))?,
                Rule::Group { threshold, members } => {
                    let names: Vec<&str> = members.iter().map(|member| self.name(*member)).collect();
                    let threshold = match threshold {
                        Threshold::All => "all".to_owned(),
                        Threshold::Any => "any".to_owned(),
                        Threshold::AtLeast(number) => number.to_string(),
                    };
                    writeln!(out, "group {name} {threshold} {}", names.join(" "))?;
                }
            }
        }
        writeln!(out, "quorum {}", self.quorum.map_or(NONE, |position| self.name(position)))
    }
}

/// The name that stands for no witness at all.
const NONE: &str = "none";

/// What is wrong with a line, before anyone knows its number.
enum Problem {
    Here(String),
    TooLarge { what: &'static str, limit: usize },
}

impl Problem {
    fn at(self, line: usize) -> PolicyError {
        match self {
            Problem::Here(what) => PolicyError::Line { line, what },
            Problem::TooLarge { what, limit } => PolicyError::TooLarge { what, limit },
        }
    }
}

fn here<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Here(what.into()))
}

/// The lines read so far.
#[derive(Default)]
struct Reader {
    logs: Vec<Listed>,
    definitions: Vec<Definition>,
    /// How deep each definition is: a witness 0, a group one more than its deepest member.
    depths: Vec<usize>,
    positions: BTreeMap<String, usize>,
    /// Positions that are members of a group.
    taken: BTreeSet<usize>,
    /// Public keys, of logs and of witnesses.
    public_keys: BTreeSet<Vec<u8>>,
    /// Names and ids on signature lines.
    line_names: BTreeSet<(String, [u8; 4])>,
    quorum: Option<Option<usize>>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), Problem> {
        if line.chars().any(|c| (c < ' ' && c != '\t') || c == '\u{7f}') {
            return here("a control character other than tab and newline");
        }
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        let Some(first) = words.next() else { return Ok(()) };
        if first.starts_with('#') {
            return Ok(());
        }
        let rest: Vec<&str> = words.collect();
        match (first, rest.as_slice()) {
            ("log", [vkey]) => self.log(vkey, None),
            ("log", [vkey, url]) => self.log(vkey, Some(url)),
            ("log", _) => here("a log has a vkey and perhaps a URL"),
            ("witness", [name, vkey]) => self.witness(name, vkey, None),
            ("witness", [name, vkey, url]) => self.witness(name, vkey, Some(url)),
            ("witness", _) => here("a witness has a name, a vkey and perhaps a URL"),
            ("group", [name, threshold, members @ ..]) if !members.is_empty() => self.group(name, threshold, members),
            ("group", _) => here("a group has a name, a threshold and at least one member"),
            ("quorum", [name]) => self.set_quorum(name),
            ("quorum", _) => here("a quorum is one name"),
            _ => here("a line begins with log, witness, group or quorum"),
        }
    }

    fn log(&mut self, vkey: &str, url: Option<&&str>) -> Result<(), Problem> {
        if self.logs.len() >= LOGS_MAX {
            return Err(Problem::TooLarge { what: "logs", limit: LOGS_MAX });
        }
        let key = self.key(vkey)?;
        if key.kind() != KeyKind::Log {
            return here(format!("{} is not a key of a log", key.name()));
        }
        self.logs.push(Listed { key, url: url.map(|url| (*url).to_owned()) });
        Ok(())
    }

    fn witness(&mut self, name: &str, vkey: &str, url: Option<&&str>) -> Result<(), Problem> {
        if self.definitions.len() - self.groups() >= WITNESSES_MAX {
            return Err(Problem::TooLarge { what: "witnesses", limit: WITNESSES_MAX });
        }
        let key = self.key(vkey)?;
        if !key.kind().is_witness() {
            return here(format!("{} is not a key of a witness", key.name()));
        }
        self.define(name, Rule::Witness(Box::new(Listed { key, url: url.map(|url| (*url).to_owned()) })), 0)
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), Problem> {
        if self.groups() >= GROUPS_MAX {
            return Err(Problem::TooLarge { what: "groups", limit: GROUPS_MAX });
        }
        let threshold = match threshold {
            "all" => Threshold::All,
            "any" => Threshold::Any,
            number => Threshold::AtLeast(parse_threshold(number, members.len())?),
        };
        let mut positions = Vec::new();
        let mut depth = 0;
        for member in members {
            let position = self.defined(member)?;
            if !self.taken.insert(position) {
                return here(format!("{member} is a member for the second time"));
            }
            depth = depth.max(self.depths.get(position).copied().unwrap_or_default());
            positions.push(position);
        }
        if depth >= DEPTH_MAX {
            return Err(Problem::TooLarge { what: "levels of groups", limit: DEPTH_MAX });
        }
        self.define(name, Rule::Group { threshold, members: positions }, depth + 1)
    }

    fn set_quorum(&mut self, name: &str) -> Result<(), Problem> {
        if self.quorum.is_some() {
            return here("a second quorum");
        }
        self.quorum = Some(if name == NONE { None } else { Some(self.defined(name)?) });
        Ok(())
    }

    fn define(&mut self, name: &str, rule: Rule, depth: usize) -> Result<(), Problem> {
        if name == NONE {
            return here("the name none has a meaning of its own");
        }
        if self.positions.insert(name.to_owned(), self.definitions.len()).is_some() {
            return here(format!("{name} is defined for the second time"));
        }
        self.definitions.push(Definition { name: name.to_owned(), rule });
        self.depths.push(depth);
        Ok(())
    }

    fn defined(&self, name: &str) -> Result<usize, Problem> {
        let position = self.positions.get(name).copied();
        position.map_or_else(|| here(format!("{name} is not defined above")), Ok)
    }

    fn groups(&self) -> usize {
        self.depths.iter().filter(|depth| **depth > 0).count()
    }

    /// A key that has not been listed before, under whatever name.
    fn key(&mut self, vkey: &str) -> Result<VerifierKey, Problem> {
        let key = VerifierKey::parse(vkey).map_err(|error| Problem::Here(error.to_string()))?;
        if !self.public_keys.insert(key.public_key().to_vec()) {
            return here(format!("the key of {} is listed for the second time", key.name()));
        }
        if !self.line_names.insert((key.name().to_owned(), key.id())) {
            return here(format!("another key has the name {} and the same id", key.name()));
        }
        Ok(key)
    }
}

/// A number from 1 to the number of members, in its one spelling.
fn parse_threshold(text: &str, members: usize) -> Result<usize, Problem> {
    let number = text.parse::<usize>().ok().filter(|number| number.to_string() == text);
    match number {
        Some(number) if (1..=members).contains(&number) => Ok(number),
        Some(number) => here(format!("a threshold of {number} in a group of {members}")),
        None => here("a threshold is all, any or a number"),
    }
}

fn check_member(member: &PolicyMember) -> Result<(), PolicyError> {
    let wrong = |what| Err(PolicyError::Member { name: member.name.clone(), what });
    if check_name(&member.name).is_err() {
        return wrong("the name has a space, a control character or a plus sign, or not 1 to 255 bytes");
    }
    if [NONE, MEMBERS].contains(&member.name.as_str()) {
        return wrong("the name has a meaning of its own in a policy");
    }
    if member.ed25519.kind() != KeyKind::Witness {
        return wrong("its first key is not an Ed25519 key of a witness");
    }
    if member.ml_dsa_44.as_ref().is_some_and(|key| key.kind() != KeyKind::WitnessMlDsa44) {
        return wrong("its second key is not an ML-DSA-44 key of a witness");
    }
    if std::iter::once(&member.ed25519).chain(&member.ml_dsa_44).any(|key| key.name() != member.name) {
        return wrong("a key has another name");
    }
    Ok(())
}
