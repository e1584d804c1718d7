//! What one member sends in a round, weighed: every call as the signed JSON that goes over the wire.
//!
//! Not weighed: HTTP and TLS, and what is sent for the log and the inbox whatever is asked (cosignatures of checkpoints,
//! polls), which depends on time and not on the round.

use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, NanoNats, Next, Spent, gaussian_price};
use cohortium_messages::{
    Author, Call, Document, Entry, Envelope, Fact, Hash, MaskedHeader, Name, PROTOCOL_VERSION, Principal,
    PrincipalKind, Receipt, Request, RoundStep, Timestamp,
};

use super::federation::{Federation, Organisation, Sent};
use super::words;

/// A call of a member, by its name, and its bytes.
pub type Weighed = (&'static str, usize);

/// The calls of the first member's round.
pub fn weigh(federation: &Federation, sent: &Sent) -> Result<Vec<Weighed>, String> {
    let me = federation.organisations.first().ok_or("nobody is there")?;
    let header = sent.header.open::<MaskedHeader>(&me.key.public()).map_err(words)?;
    let papers = Papers::new(federation, me, &header)?;
    let steps = [
        (
            "permit, deposit and shares",
            RoundStep::Permitted { approvals: Vec::new(), entry: papers.permit, shares: sent.shares.clone() },
        ),
        (
            "header, price and receipt",
            RoundStep::Masked { entry: papers.price, header: sent.header.clone(), receipt: papers.receipt },
        ),
        ("survivor set", RoundStep::Survivors { set: sent.set.clone() }),
        ("reveal", RoundStep::Revealed { reveal: sent.reveal.clone() }),
    ];
    steps.into_iter().map(|(name, step)| Ok((name, call(me, Call::Post { step })?))).collect()
}

/// The bytes of what the first member sent to agree on its pairwise secrets: once per agreement.
pub fn weigh_setup(federation: &Federation) -> Result<usize, String> {
    let me = federation.organisations.first().ok_or("nobody is there")?;
    let weights = federation.setup.sent.iter().map(|sent| call(me, Call::Pairwise { message: sent.clone() }));
    Ok(weights.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}

/// The bytes of a signed call.
fn call(me: &Organisation, call: Call) -> Result<usize, String> {
    let request = Request {
        call,
        from: Principal { kind: PrincipalKind::Organisation, name: me.name.clone() },
        nonce: Hash::of(b"nonce"),
        protocol: PROTOCOL_VERSION,
        time: Timestamp::from_seconds(0),
    };
    serde_json::to_vec(&sign(&request, me)?).map(|bytes| bytes.len()).map_err(words)
}

fn sign<T: Document>(document: &T, me: &Organisation) -> Result<Envelope, String> {
    Envelope::sign(document, &me.key).map_err(words)
}

/// What goes with a round's messages for the log and the researcher.
struct Papers {
    permit: Envelope,
    price: Envelope,
    receipt: Envelope,
}

impl Papers {
    fn new(federation: &Federation, me: &Organisation, header: &MaskedHeader) -> Result<Self, String> {
        let (plan, snapshot, task) = (Hash::of(b"plan"), Hash::of(b"rows"), Hash::of(b"task"));
        let (reserve, rest, spent) = account_entries(&task)?;
        let entry = |fact| {
            let study = Name::new("study").map_err(words)?;
            let author = Author::Node(me.name.clone());
            sign(&Entry { agreement: federation.agreement, author, fact, study, time: Timestamp::from_seconds(0) }, me)
        };
        let receipt = Receipt {
            account_head: spent.head().parse().map_err(words)?,
            account_sequence: spent.sequence(),
            agreement: federation.agreement,
            context: header.context,
            dataset: Name::new("ward").map_err(words)?,
            masked: header.sha256,
            organisation: me.name.clone(),
            plan,
            snapshot,
            task,
        };
        Ok(Self {
            permit: entry(Fact::Permit { account: Box::new(reserve), plan, snapshot, task })?,
            price: entry(Fact::Price { account: rest, task })?,
            receipt: sign(&receipt, me)?,
        })
    }
}

/// The account's three entries of a run, and the evidence that it was paid for.
fn account_entries(task: &Hash) -> Result<(AccountEntry, Vec<AccountEntry>, Spent), String> {
    let delta = AttoDelta::new(1_000_000_000_000).map_err(words)?;
    let budget = Budget::new(NanoNats::new(1_000_000_000_000), delta).map_err(words)?;
    let mut account = Account::new(AccountConfig {
        dataset: "ward".into(),
        budget,
        studies: [("study".to_owned(), budget)].into(),
        researchers: [("ada".to_owned(), budget)].into(),
    })
    .map_err(words)?;
    let (task, time) = (task.to_string(), Some(Timestamp::from_seconds(0).to_string()));
    let request = cohortium_dp::account::Reservation {
        researcher: "ada".into(),
        study: "study".into(),
        task: task.clone(),
        round: 0,
        price: gaussian_price(1, 1 << 40, 1, 1 << 40, 1).map_err(words)?,
        time: time.clone(),
    };
    let reserve = entry(account.reserve(&request).map_err(words)?)?;
    account.apply(&reserve).map_err(words)?;
    let reading = entry(account.start_reading(&task, 0, time.clone()).map_err(words)?)?;
    account.apply(&reading).map_err(words)?;
    let spend = entry(account.spend(&task, 0, time).map_err(words)?)?;
    let spent = account.apply(&spend).map_err(words)?.ok_or("a spend gave no evidence")?;
    Ok((reserve, vec![reading, spend], spent))
}

fn entry(next: Next) -> Result<AccountEntry, String> {
    match next {
        Next::Write(entry) => Ok(*entry),
        Next::Already(state) => Err(format!("a new account is already {state:?}")),
    }
}
