//! Whose cosignatures make a head of the hub's log count, as the agreement states it, and what follows for one entry.
//!
//! The agreement carries a policy in the format others read (C2SP tlog-policy): the hub's log key, one witness per party
//! with the keys of its roster entry, and a quorum of `q` of them. Any other policy, however sensible, is refused: the
//! one text that follows from hub, parties, `q` and `post_quantum` is written again and compared.
//!
//! `2q > n + c`: any two quorums share more than `c` witnesses, so that at least one honest witness saw both heads, and
//! `c` colluders with the hub cannot show two histories (Syta et al. 2016, section IV; the counting is that of the
//! survivor set, Bonawitz et al. 2017). `q > c`: colluders alone are no quorum.
//!
//! Assumes: a hostile hub, and at most `c` witnesses who cosign what they must not.

use cohortium_ledger::tree::{leaf_hash, verify_inclusion as verify_path};
use cohortium_ledger::{KeyKind, LogPolicy, NoteError, PolicyError, PolicyMember, TreeError, VerifierKey};
use cohortium_messages::{
    Agreement, CanonicalError, Envelope, Hash, HubEntry, Inclusion, Name, RosterEntry, SecureSumTerms, canonical_bytes,
};
use serde::{Deserialize, Serialize};

/// Whose cosignatures are needed, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogTerms {
    /// Whether a party counts only with both its signatures: Ed25519 and ML-DSA-44.
    pub post_quantum: bool,
    /// How many parties must have cosigned a head: `c < q ≤ n` and `2q > n + c`.
    pub quorum: u32,
}

/// Why a log policy is not the agreement's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogPolicyError {
    /// Too few or too many.
    #[error(
        "log.quorum: with {organisations} organisations and colluders = {colluders}, quorum = {quorum} must satisfy \
         2·quorum > organisations + colluders, colluders < quorum and quorum ≤ organisations"
    )]
    Quorum {
        /// `c`.
        colluders: u32,
        /// `n`.
        organisations: usize,
        /// `q`.
        quorum: u32,
    },
    /// Another text than follows from the agreement.
    #[error(
        "log_policy is not the policy of this hub's log key and these parties' witness keys with one quorum of parties"
    )]
    Other,
    /// No policy, or keys and names that cannot stand in one.
    #[error("log_policy: {0}")]
    Policy(#[from] PolicyError),
}

/// The policy of an agreement: hub, one witness per party, quorum.
///
/// # Errors
/// [`LogPolicyError::Quorum`], or a key that cannot be used.
pub fn log_policy(
    hub: &HubEntry,
    parties: &[&RosterEntry],
    secure_sum: SecureSumTerms,
    terms: LogTerms,
) -> Result<LogPolicy, LogPolicyError> {
    let (n, c, q) = (parties.len(), secure_sum.colluders, terms.quorum);
    let (wide_n, wide_c, wide_q) = (n as u64, u64::from(c), u64::from(q));
    if wide_q <= wide_c || wide_q > wide_n || 2 * wide_q <= wide_n.saturating_add(wide_c) {
        return Err(LogPolicyError::Quorum { colluders: c, organisations: n, quorum: q });
    }
    let log = VerifierKey::new(hub.hub.as_str(), KeyKind::Log, hub.log_key.as_bytes()).map_err(unusable)?;
    let members = parties.iter().map(|entry| member(entry, terms.post_quantum)).collect::<Result<Vec<_>, _>>()?;
    Ok(LogPolicy::of_members(&log, &members, q as usize)?)
}

/// The policy that an agreement carries, if it is the one that follows from the agreement's own parties.
///
/// Promise: given any agreement, returns a policy only if it names exactly its hub's log key and exactly its parties'
/// witness keys, with a quorum that `c` colluders cannot split. Argued: equality with the text that is written from those
/// keys.
///
/// # Errors
/// [`LogPolicyError`]: whoever drafted the agreement must act.
pub fn agreed_log_policy(agreement: &Agreement) -> Result<LogPolicy, LogPolicyError> {
    let policy = LogPolicy::parse(agreement.log_policy.as_bytes())?;
    let terms = terms_of(&policy)?;
    let parties: Vec<&RosterEntry> = agreement.parties.iter().map(|party| &party.entry).collect();
    let again = log_policy(&agreement.hub, &parties, agreement.secure_sum, terms)?;
    if again.to_string() == agreement.log_policy { Ok(policy) } else { Err(LogPolicyError::Other) }
}

/// What the agreement's log policy demands.
///
/// # Errors
/// As [`agreed_log_policy`].
pub fn log_terms(agreement: &Agreement) -> Result<LogTerms, LogPolicyError> {
    terms_of(&agreed_log_policy(agreement)?)
}

fn terms_of(policy: &LogPolicy) -> Result<LogTerms, LogPolicyError> {
    let (quorum, members) = policy.flat_quorum().ok_or(LogPolicyError::Other)?;
    let quorum = u32::try_from(quorum).map_err(|_| LogPolicyError::Other)?;
    Ok(LogTerms { post_quantum: members.iter().any(|member| member.ml_dsa_44.is_some()), quorum })
}

/// A party as a witness, with the keys of its roster entry.
fn member(entry: &RosterEntry, post_quantum: bool) -> Result<PolicyMember, LogPolicyError> {
    let name = entry.organisation.as_str();
    let second = || VerifierKey::new(name, KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes());
    Ok(PolicyMember {
        name: name.to_owned(),
        ed25519: VerifierKey::new(name, KeyKind::Witness, entry.witness_key.as_bytes()).map_err(unusable)?,
        ml_dsa_44: post_quantum.then(second).transpose().map_err(unusable)?,
    })
}

fn unusable(error: NoteError) -> LogPolicyError {
    LogPolicyError::Policy(error.into())
}

/// Why an entry is not shown to be in the log. The hub must act, except where the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum InclusionError {
    /// The agreement's own log policy is not right. The custodians must act.
    #[error(transparent)]
    Agreement(#[from] LogPolicyError),
    /// The head is not the hub's, or too few have cosigned it.
    #[error(transparent)]
    Head(#[from] PolicyError),
    /// The path does not lead from the entry to the head.
    #[error(transparent)]
    Path(#[from] TreeError),
    /// The entry has no canonical form. Ours to fix.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// Evidence that an entry is in the hub's log under a head that a quorum of the parties cosigned. Made by
/// [`verify_inclusion`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    cosigned_by: Vec<Name>,
    entry: Hash,
    index: u64,
    size: u64,
}

impl Included {
    /// The parties whose cosignatures were counted, sorted.
    #[must_use]
    pub fn cosigned_by(&self) -> &[Name] {
        &self.cosigned_by
    }

    /// Which entry: the SHA-256 of its envelope in canonical form.
    #[must_use]
    pub const fn entry(&self) -> Hash {
        self.entry
    }

    /// The position of the entry.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many entries the head covers.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// Whether an entry is in the hub's log, as far as the agreement's parties vouch for it.
///
/// Promise: given what the hub shows, returns only if the very envelope is a leaf under a head that the hub's log key
/// signed and that at least the agreed quorum of parties cosigned; never on the hub's word. A node that wants its own
/// cosignature among them looks at [`Included::cosigned_by`].
///
/// # Errors
/// The first thing that does not hold.
pub fn verify_inclusion(
    agreement: &Agreement,
    entry: &Envelope,
    inclusion: &Inclusion,
) -> Result<Included, InclusionError> {
    let policy = agreed_log_policy(agreement)?;
    let head = policy.is_met(&policy.open(inclusion.note.as_bytes())?)?;
    let path: Vec<[u8; 32]> = inclusion.path.iter().map(|hash| *hash.as_bytes()).collect();
    let bytes = canonical_bytes(entry)?;
    let (size, root) = (head.checkpoint().size(), head.checkpoint().root());
    verify_path(&leaf_hash(&bytes), inclusion.index, size, &path, root)?;
    let cosigned = |key: &VerifierKey| head.cosigned_by().iter().any(|witnessed| witnessed.witness == *key);
    let (_, members) = policy.flat_quorum().ok_or(LogPolicyError::Other)?;
    let counted = members.iter().filter(|member| cosigned(&member.ed25519) && member.ml_dsa_44.iter().all(cosigned));
    let cosigned_by = counted.filter_map(|member| member.name.parse().ok()).collect(); // names of parties, so they parse
    Ok(Included { cosigned_by, entry: Hash::of(&bytes), index: inclusion.index, size })
}

#[cfg(test)]
mod tests {
    use cohortium_ledger::tree::node_hash;
    use cohortium_ledger::{Checkpoint, SignedCheckpoint, SignerKey};
    use cohortium_messages::{Author, Fact, SigningKey};

    use super::*;
    use crate::fixtures::{World, name};

    /// The agreement of `n` organisations with this quorum; keys as in the fixtures.
    fn world(n: usize, quorum: u32) -> World {
        world_of(n, LogTerms { post_quantum: false, quorum })
    }

    fn world_of(n: usize, terms: LogTerms) -> World {
        World::with(n, |agreement| {
            let parties: Vec<&RosterEntry> = agreement.parties.iter().map(|party| &party.entry).collect();
            let policy = log_policy(&agreement.hub, &parties, agreement.secure_sum, terms).unwrap();
            agreement.log_policy = policy.to_string();
        })
    }

    /// n, c, q, whether the policy can be written
    #[test]
    fn quorums_that_colluders_cannot_split_or_be() {
        for (n, c, q, good) in [
            (2, 1, 2, true),
            (2, 1, 1, false),
            (3, 1, 2, false),
            (3, 1, 3, true),
            (3, 1, 4, false),
            (4, 1, 3, true),
            (5, 1, 3, false),
            (5, 1, 4, true),
            (7, 3, 5, false),
            (7, 3, 6, true),
            (3, 3, 3, false),
            (3, u32::MAX, 3, false),
            (3, 1, u32::MAX, false),
        ] {
            let model = World::new(n);
            let parties: Vec<&RosterEntry> = model.agreement.parties.iter().map(|party| &party.entry).collect();
            let secure_sum = SecureSumTerms { colluders: c, threshold: 1 };
            for post_quantum in [false, true] {
                let terms = LogTerms { post_quantum, quorum: q };
                let text = log_policy(&model.hub, &parties, secure_sum, terms).map(|policy| policy.to_string());
                assert_eq!(text.is_ok(), good, "n = {n}, c = {c}, q = {q}: {text:?}");
                let mut agreement = (*model.agreement).clone();
                agreement.secure_sum = secure_sum;
                if let Ok(text) = text {
                    agreement.log_policy = text;
                    assert_eq!(log_terms(&agreement).unwrap(), terms);
                }
            }
        }
    }

    /// Each edit of a good policy means something else, or the same in other words: neither is the agreement's.
    #[test]
    fn any_other_policy_is_refused() {
        let (world, other) = (world(4, 3), World::seeded(4, 99, |_| ()));
        let good = world.agreement.log_policy.clone();
        let foreign = other.agreement.log_policy.clone();
        let line = |text: &str, starts: &str| text.lines().find(|line| line.starts_with(starts)).unwrap().to_owned();
        let swap = |starts: &str| good.replace(&line(&good, starts), &line(&foreign, starts));
        let quorum = line(&good, "group ");
        let cases = [
            ("as it is", good.clone(), true),
            ("another log", swap("log "), false),
            ("another witness", swap("witness b "), false),
            ("another hub and other parties", foreign.clone(), false),
            ("a witness more", format!("witness z {}\n{good}", line(&foreign, "witness a ").split_off(10)), false),
            ("a witness less", good.replace(&format!("{}\n", line(&good, "witness d ")), ""), false),
            ("a smaller quorum", good.replace(&quorum, &quorum.replacen(" 3 ", " 2 ", 1)), false),
            ("no quorum of colluders", good.replace(&quorum, &quorum.replacen(" 3 ", " 1 ", 1)), false),
            ("any", good.replace(&quorum, &quorum.replacen(" 3 ", " any ", 1)), false),
            ("nobody", format!("{}quorum none\n", good.split("quorum ").next().unwrap()), false),
            ("a comment", format!("# of three\n{good}"), false),
            ("an address", good.replace(&line(&good, "log "), &format!("{} https://x", line(&good, "log "))), false),
            ("no newline", good.trim_end().to_owned(), false),
            ("nothing", String::from("x"), false),
        ];
        for (case, text, is_good) in cases {
            let mut agreement = (*world.agreement).clone();
            agreement.log_policy = text;
            assert_eq!(log_terms(&agreement).is_ok(), is_good, "{case}");
        }
    }

    /// A log of three entries, of which the middle one is ours, under a head that the hub signed and these cosigned, each
    /// named by the position in the world of the name it uses and of the key it has.
    fn shown(world: &World, log_key: &SigningKey, cosigners: &[(usize, usize)]) -> (Envelope, Inclusion) {
        let fact = Fact::Failure { reason: String::from("x"), task: Hash::of(b"x") };
        let entry = world.entry(Author::Hub(name("hub")), fact, &world.hub_key);
        let [first, last] = [b"first", b"third"].map(|leaf| leaf_hash(leaf));
        let ours = leaf_hash(&canonical_bytes(&entry).unwrap());
        let root = node_hash(&node_hash(&first, &ours), &last);
        let key = SignerKey::from_seed("hub", KeyKind::Log, &log_key.expose_seed()).unwrap();
        let mut head = SignedCheckpoint::sign(Checkpoint::new("hub", 3, root).unwrap(), &key).unwrap();
        for (named, keyed) in cosigners {
            let seed = world.secrets[*keyed].1.witness.expose_seed();
            let key = SignerKey::from_seed(world.secrets[*named].0.as_str(), KeyKind::Witness, &seed).unwrap();
            let line = key.cosign(head.note().text(), 1_800_000_000).unwrap();
            head = head.with_cosignature(line, &[key.verifier().clone()]).unwrap();
        }
        let path = [first, last].map(Hash::from_bytes).into();
        (entry, Inclusion { index: 1, note: head.note().to_string(), path })
    }

    #[test]
    fn an_entry_counts_under_a_head_that_the_agreed_quorum_cosigned() {
        let world = world(4, 3);
        let good = |cosigners: &[(usize, usize)]| shown(&world, &world.hub_log_key, cosigners);
        let (entry, inclusion) = good(&[(2, 2), (0, 0), (3, 3)]);
        let included = verify_inclusion(&world.agreement, &entry, &inclusion).unwrap();
        assert_eq!(included.cosigned_by(), [name("a"), name("c"), name("d")]);
        assert_eq!((included.index(), included.size()), (1, 3));
        assert_eq!(included.entry(), Hash::of(&canonical_bytes(&entry).unwrap()));

        let refused = |case: &str, (entry, inclusion): (Envelope, Inclusion)| {
            assert!(verify_inclusion(&world.agreement, &entry, &inclusion).is_err(), "{case}");
        };
        let three = [(0, 0), (1, 1), (2, 2)];
        let edited = |edit: &dyn Fn(&mut Envelope, &mut Inclusion)| {
            let (mut entry, mut inclusion) = good(&three);
            edit(&mut entry, &mut inclusion);
            (entry, inclusion)
        };
        refused("nobody", good(&[]));
        refused("two", good(&[(0, 0), (1, 1)]));
        refused("one key under a second name", good(&[(0, 0), (1, 1), (2, 1)]));
        refused("another hub's key", shown(&world, &world.hub_key, &three));
        let other = World::seeded(4, 99, |_| ());
        refused("other witnesses", shown(&other, &world.hub_log_key, &three));
        refused("another position", edited(&|_, inclusion| inclusion.index = 0));
        refused("beyond the head", edited(&|_, inclusion| inclusion.index = 3));
        refused("another path", edited(&|_, inclusion| inclusion.path.swap(0, 1)));
        refused("a shorter path", edited(&|_, inclusion| inclusion.path.truncate(1)));
        refused("not a note", edited(&|_, inclusion| inclusion.note = String::from("x")));
        let another = world.signed_by(0, 0, Fact::Freeze { frozen: true, why: String::from("x") });
        refused("another entry", edited(&|entry, _| *entry = another.clone()));
        refused("one signature more", edited(&|entry, _| entry.also_sign(&world.hub_log_key).unwrap()));
    }

    /// With `post_quantum`, a party counts when both its keys cosigned, and either alone is none.
    #[test]
    fn with_post_quantum_one_key_is_half_a_cosignature() {
        let world = world_of(4, LogTerms { post_quantum: true, quorum: 3 });
        let (entry, classic) = shown(&world, &world.hub_log_key, &[(0, 0), (1, 1), (2, 2), (3, 3)]);
        assert!(verify_inclusion(&world.agreement, &entry, &classic).is_err());
        let both = |parties: &[usize]| {
            let log = SignerKey::from_seed("hub", KeyKind::Log, &world.hub_log_key.expose_seed()).unwrap();
            let mut head = SignedCheckpoint::open(classic.note.as_bytes(), log.verifier()).unwrap();
            for party in parties {
                let (name, keys) = &world.secrets[*party];
                let key = SignerKey::from_seed(name.as_str(), KeyKind::WitnessMlDsa44, &keys.witness_ml_dsa).unwrap();
                let line = key.cosign(head.note().text(), 1_800_000_000).unwrap();
                head = head.with_cosignature(line, std::slice::from_ref(key.verifier())).unwrap();
            }
            Inclusion { note: head.note().to_string(), ..classic.clone() }
        };
        assert!(verify_inclusion(&world.agreement, &entry, &both(&[0, 1])).is_err());
        let included = verify_inclusion(&world.agreement, &entry, &both(&[3, 0, 1])).unwrap();
        assert_eq!(included.cosigned_by(), [name("a"), name("b"), name("d")]);
    }
}
