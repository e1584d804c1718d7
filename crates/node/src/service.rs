//! The node as a process: carries the hub's items in and the journal out. Everything that decides is elsewhere.
//!
//! The loop is: act on what lies on the desk, send what the journal holds, ask the inbox (a long poll, which ends early when
//! something is laid on the desk), handle each item, again. A call that fails is
//! made again later with the same bytes; the pause between tries grows to a limit. Only outgoing connections are made.

use std::time::Duration;

use cohortium_api::{Caller, Client, ClientError};
use cohortium_messages::{
    Call, Hash, InboxItem, OrganisationSecrets, Principal, PrincipalKind, Reply, SigningKey, Timestamp,
};
use rand_core::{CryptoRng, UnwrapErr};

use crate::home::Home;
use crate::node::{Node, NodeError, own};
use crate::records::{Heard, JournalRecord};
use crate::rows::HomeRows;

/// How long one long poll waits. Short enough that a new dataset is offered within seconds.
const INBOX_WAIT_MS: u32 = 5_000;
/// Answers leave at multiples of this after they were asked for.
const TIME_BUCKET_MS: u64 = 250;
/// How many turns of the loop pass between two looks for runs that nobody speaks of any more.
const TURNS_BETWEEN_LOOKS: u64 = 1_000;
/// How often a vector is announced in a row, when the hub has other pieces of it than it said.
const ANNOUNCEMENTS: u32 = 5;
/// How many bytes of a vector are sent at once. What was sent when a line breaks is sent again from the last whole piece,
/// and a hub gives each piece 20 seconds: this asks for a line of 13 kB/s. A hub takes a vector of 8 MiB, the longest of
/// a query, in at most 256 pieces.
const PIECE_BYTES: usize = 256 << 10;
/// How often the desk is looked at while the inbox is awaited.
const DESK_LOOK: Duration = Duration::from_secs(1);
/// The first and the longest pause after a failed call.
const PAUSE_MS: (u64, u64) = (200, 10_000);

/// Runs the node in `home` until it is stopped or its own store fails.
///
/// # Errors
/// When the home is damaged, in use, or its store fails. The operator must act.
pub async fn run(home: Home) -> Result<(), NodeError> {
    let connection = home.connection()?;
    let mut service = Service {
        client: connection.client().map_err(own)?,
        key: SigningKey::from_secret_text(&home.secrets()?.message.to_secret_text()).map_err(own)?,
        node: Some(home.open()?),
        principal: Principal { kind: PrincipalKind::Organisation, name: connection.name },
        home,
        turns: 0,
    };
    tracing::info!(node = %service.principal.name, hub = connection.url, "the node runs; it only calls out");
    let mut pause_ms = PAUSE_MS.0;
    loop {
        match service.turn().await {
            Ok(()) => pause_ms = PAUSE_MS.0,
            Err(Trouble::Hub(error)) => {
                tracing::warn!(%error, pause_ms, "the hub did not answer as it should; trying again");
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
            }
            Err(Trouble::Own(NodeError::Peer(why))) => {
                tracing::warn!(why, pause_ms, "the hub misbehaves; trying again");
                tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
            }
            Err(Trouble::Own(error)) => return Err(error),
        }
    }
}

struct Service {
    client: Client,
    home: Home,
    key: SigningKey,
    /// Taken out while a blocking step runs; always back before the next.
    node: Option<Node>,
    principal: Principal,
    turns: u64,
}

/// How far a record of the journal got.
enum Sent {
    /// It stays the next to be sent: something lies on the desk, and is heard first.
    Broken,
    /// The hub has all of it.
    Whole,
}

enum Trouble {
    Hub(ClientError),
    Own(NodeError),
}

impl From<ClientError> for Trouble {
    fn from(error: ClientError) -> Self {
        Self::Hub(error)
    }
}

impl From<NodeError> for Trouble {
    fn from(error: NodeError) -> Self {
        Self::Own(error)
    }
}

impl Service {
    async fn turn(&mut self) -> Result<(), Trouble> {
        let datasets = self.home.datasets()?;
        let began = now();
        self.hear_desk().await?;
        self.blocking(move |node| node.offer_datasets(datasets, began)).await?;
        self.blocking(move |node| node.show_own_log(began)).await?;
        if self.turns.is_multiple_of(TURNS_BETWEEN_LOOKS) {
            self.blocking(move |node| node.give_up_old_runs(began)).await?;
        }
        self.turns += 1;
        self.send_journal().await?;
        let after = self.blocking(|node| node.inbox_cursor()).await?;
        let answer = tokio::select! {
            answer = self.call(Call::Inbox { after, wait_ms: INBOX_WAIT_MS }) => answer?,
            () = self.desk_is_laid() => return Ok(()),
        };
        let items = match answer {
            Reply::Inbox(items) => items,
            _ => return Err(ClientError::Untrusted(String::from("it answers something else than was asked")).into()),
        };
        for (number, item) in items {
            // What people here stop is stopped before the next thing that the hub asks for.
            self.hear_desk().await?;
            self.handle(number, item).await?;
            self.send_journal().await?;
        }
        Ok(self.blocking(|node| node.look_for_withheld(now())).await?)
    }

    /// Acts on what lies on the desk. What cannot be acted on is put aside, with the reason.
    async fn hear_desk(&mut self) -> Result<(), NodeError> {
        for item in self.home.on_desk()? {
            let heard = match &item.bytes {
                Ok(bytes) => {
                    let bytes = bytes.clone();
                    self.blocking(move |node| node.hear(&bytes, now(), &mut system_rng())).await?
                }
                Err(why) => Heard::Refused(why.clone()),
            };
            let taken = match heard {
                Heard::Acted(words) => {
                    tracing::info!(words, "a person of this house has spoken");
                    self.home.clear_from_desk(&item)
                }
                Heard::Before => self.home.clear_from_desk(&item),
                Heard::Refused(why) => {
                    tracing::warn!(why, "something on the desk was not acted on");
                    self.home.put_aside(&item, &why)
                }
            };
            if let Err(error) = taken {
                // Nothing on the desk may end the node, or keep it from the rest. What was acted on is not acted on twice.
                tracing::warn!(%error, "something could not be taken from the desk, and is passed over");
            }
        }
        Ok(())
    }

    async fn desk_is_laid(&self) {
        while !self.home.is_desk_laid() {
            tokio::time::sleep(DESK_LOOK).await;
        }
    }

    async fn handle(&mut self, number: u64, item: InboxItem) -> Result<(), Trouble> {
        let home = self.home.clone();
        let (began, reads_rows) = (tokio::time::Instant::now(), matches!(item, InboxItem::Shares { .. }));
        let report = self
            .blocking(move |node| {
                let mut rows = HomeRows::new(home);
                node.handle(number, &item, now(), &mut system_rng(), &mut rows)
            })
            .await?;
        if let Some(why) = report {
            tracing::warn!(item = number, why, "an item was not accepted");
        }
        if reads_rows {
            // How long the engine took may depend on rows: the vector leaves at the next full step of the clock.
            let steps = began.elapsed().as_millis() as u64 / TIME_BUCKET_MS + 1;
            tokio::time::sleep_until(began + Duration::from_millis(steps * TIME_BUCKET_MS)).await;
        }
        Ok(())
    }

    /// Sends the journal, oldest first. What the hub refuses for good stays in the journal and is not sent again; what it
    /// has no room for now is sent again after a pause, and nothing after it before.
    ///
    /// Nothing more leaves while something lies on the desk: it may forbid it. Then this returns, so that it is heard.
    async fn send_journal(&mut self) -> Result<(), Trouble> {
        loop {
            let unsent = self.blocking(|node| node.unsent(now())).await?;
            if unsent.is_empty() {
                return Ok(());
            }
            for (number, record, vector) in unsent {
                if self.home.is_desk_laid() {
                    return Ok(());
                }
                match self.send(&record, vector).await {
                    Ok(Sent::Broken) => return Ok(()),
                    Ok(Sent::Whole) => self.blocking(move |node| node.mark_sent(number)).await?,
                    Err(ClientError::Refused(refused)) => {
                        let (kind, code, why) = (&record.kind, &refused.code, &refused.why);
                        tracing::warn!(kind, code, why, "the hub did not accept this");
                        let said = refused.clone();
                        if !self.blocking(move |node| node.mark_refused(number, &said)).await? {
                            return Err(ClientError::Refused(refused).into());
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    /// Sends one record, with the bytes that follow it.
    async fn send(&self, record: &JournalRecord, vector: Option<Vec<u8>>) -> Result<Sent, ClientError> {
        for _ in 0..ANNOUNCEMENTS {
            match self.call(record.call.clone()).await? {
                Reply::Vector { have, ticket } => {
                    if let Some(sent) = self.send_vector(ticket, have, vector.as_deref()).await? {
                        return Ok(sent);
                    }
                }
                _ => return Ok(Sent::Whole),
            }
        }
        Err(ClientError::Untrusted(String::from("it loses the bytes of a vector again and again")))
    }

    /// Sends the announced bytes from where the hub has them: an interrupted upload goes on, it does not start again.
    /// `None` when the hub has other pieces than it said, and is to be asked.
    async fn send_vector(
        &self,
        ticket: Hash,
        mut have: u64,
        bytes: Option<&[u8]>,
    ) -> Result<Option<Sent>, ClientError> {
        let Some(bytes) = bytes else { return Ok(Some(Sent::Whole)) };
        while let Some(rest) = usize::try_from(have).ok().and_then(|have| bytes.get(have..)).filter(|r| !r.is_empty()) {
            if self.home.is_desk_laid() {
                return Ok(Some(Sent::Broken));
            }
            let piece = rest.get(..PIECE_BYTES).unwrap_or(rest).to_vec();
            match self.client.put_vector(ticket, have, piece).await {
                Ok(now_have) if now_have > have => have = now_have,
                Ok(_) => return Err(ClientError::Untrusted(String::from("it takes no bytes"))),
                Err(ClientError::Refused(refused)) if refused.code == "conflict" => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Sent::Whole))
    }

    async fn call(&self, call: Call) -> Result<Reply, ClientError> {
        let caller =
            Caller { key: &self.key, nonce: nonce(&mut system_rng()), now: now(), principal: self.principal.clone() };
        self.client.call(&caller, call).await
    }

    /// Runs a step of the node on a thread that may wait for disks.
    async fn blocking<T: Send + 'static>(
        &mut self,
        step: impl FnOnce(&mut Node) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let mut node = self.node.take().ok_or_else(|| own("a step of the node broke off; start it again"))?;
        let (node, result) = tokio::task::spawn_blocking(move || {
            let result = step(&mut node);
            (node, result)
        })
        .await
        .map_err(own)?;
        self.node = Some(node);
        result
    }
}

/// The system's clock, to the second.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the shell is where clocks are read; everything below takes the time as an argument"
)]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// The system's generator.
#[must_use]
pub fn system_rng() -> impl CryptoRng {
    UnwrapErr(getrandom::SysRng)
}

/// 32 fresh bytes.
pub fn nonce(rng: &mut dyn CryptoRng) -> Hash {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    Hash::from_bytes(bytes)
}

/// Joins the hub with the invitation's secret: sends the self-signed roster entry. Works once.
///
/// # Errors
/// When the hub cannot be reached or refuses.
pub async fn join(home: &Home, secrets: &OrganisationSecrets, secret: Hash) -> Result<(), ClientError> {
    let connection = home.connection().map_err(|error| ClientError::Request(error.to_string()))?;
    let entry = cohortium_messages::Envelope::sign(&secrets.entry(&connection.name), &secrets.identity)?;
    let principal = Principal { kind: PrincipalKind::Organisation, name: connection.name.clone() };
    let caller = Caller { key: &secrets.identity, nonce: nonce(&mut system_rng()), now: now(), principal };
    connection.client()?.call(&caller, Call::Join { entry, secret }).await.map(|_| ())
}
