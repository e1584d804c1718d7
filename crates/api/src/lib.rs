//! The hub's HTTP surface, seen from outside: the routes, and the typed client that nodes and researchers use.
//!
//! There is one route for signed calls and one for the raw bytes of announced vectors. What a call says is in
//! `messages`; this crate only carries it: HTTPS to a hub whose certificate chains to the private authority named in
//! the invitation (no public certificate authority is trusted), a signed request out, a signed answer back, checked
//! against the hub's key and the request's nonce.
//!
//! What it does not do: it does not retry and does not decide. A call that failed may or may not have reached the hub;
//! calls are idempotent, and whoever keeps the journal sends again.

mod connection;

use std::time::Duration;

use cohortium_messages::{
    Call, Envelope, EnvelopeError, Hash, HubEntry, PROTOCOL_VERSION, Principal, Refused, Reply, Request, Response,
    SigningKey, Timestamp,
};

pub use connection::{Connection, ConnectionError};

/// Signed calls are posted here.
pub const CALL_ROUTE: &str = "/v1/call";
/// Raw bytes of announced vectors are put here, as `/v1/vector/<ticket>?offset=<bytes>`; the answer to the announcement
/// names the ticket.
pub const VECTOR_ROUTE: &str = "/v1/vector";

/// The longest wait that a long poll may ask for.
pub const MAX_WAIT_MS: u32 = 25_000;
/// The longest body of a signed call, in bytes.
pub const MAX_CALL_BYTES: usize = 6 << 20;
/// The longest piece of a vector sent at once, in bytes.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;
/// The longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 96 << 20;
/// How long a call may take beyond the wait that it asks for.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The hub was not reached, or answered something that is not HTTP. The network or the hub's operator must act;
    /// calling again later is right.
    #[error("the hub at {url} cannot be reached: {why}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// What happened.
        why: String,
    },
    /// The hub's answer is not signed by the hub's key, or answers another request. Someone is in between: stop.
    #[error("the hub's answer cannot be trusted: {0}")]
    Untrusted(String),
    /// The hub does not do what it was asked.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Our own request could not be made.
    #[error("the request could not be made: {0}")]
    Request(String),
}

impl From<EnvelopeError> for ClientError {
    fn from(error: EnvelopeError) -> Self {
        Self::Request(error.to_string())
    }
}

/// A caller's connection to a hub.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    hub: HubEntry,
    url: String,
}

/// Who calls, and with which key.
pub struct Caller<'a> {
    /// The key that signs.
    pub key: &'a SigningKey,
    /// 32 fresh random bytes.
    pub nonce: Hash,
    /// The caller's clock.
    pub now: Timestamp,
    /// Under which name.
    pub principal: Principal,
}

impl Client {
    /// A client for the hub at `url`, trusting only `certificate_authority` (PEM) and `hub`'s message key.
    ///
    /// # Errors
    /// When the certificate or the URL cannot be used.
    pub fn new(url: &str, certificate_authority: &str, hub: HubEntry) -> Result<Self, ClientError> {
        let unusable = |why: String| ClientError::Request(why);
        if !url.starts_with("https://") {
            return Err(unusable(format!("the hub's address must begin with https://, not `{url}`")));
        }
        // Installing twice is harmless: the first provider stays.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = reqwest::Certificate::from_pem(certificate_authority.as_bytes())
            .map_err(|error| unusable(format!("the invitation's certificate: {error}")))?;
        let http = reqwest::Client::builder()
            .tls_certs_only([root])
            .https_only(true)
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { http, hub, url: url.trim_end_matches('/').to_owned() })
    }

    /// Makes one signed call.
    ///
    /// # Errors
    /// When the hub cannot be reached, cannot be trusted, or refuses.
    pub async fn call(&self, caller: &Caller<'_>, call: Call) -> Result<Reply, ClientError> {
        let wait_ms = wait_of(&call);
        let request = Request {
            call,
            from: caller.principal.clone(),
            nonce: caller.nonce,
            protocol: PROTOCOL_VERSION,
            time: caller.now,
        };
        let envelope = Envelope::sign(&request, caller.key)?;
        let body = serde_json::to_vec(&envelope).map_err(|error| ClientError::Request(error.to_string()))?;
        let response = self
            .http
            .post(format!("{}{CALL_ROUTE}", self.url))
            .timeout(CALL_TIMEOUT + Duration::from_millis(u64::from(wait_ms)))
            .body(body)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        self.read(response, caller.nonce).await
    }

    /// Sends one piece of an announced vector to where the hub said it wants it; the answer says how many bytes it has.
    ///
    /// # Errors
    /// When the hub cannot be reached, cannot be trusted, or refuses.
    pub async fn put_vector(&self, ticket: Hash, offset: u64, piece: Vec<u8>) -> Result<u64, ClientError> {
        let response = self
            .http
            .put(format!("{}{VECTOR_ROUTE}/{ticket}?offset={offset}", self.url))
            .timeout(CALL_TIMEOUT)
            .body(piece)
            .send()
            .await
            .map_err(|error| self.unreachable(&error))?;
        match self.read(response, ticket).await? {
            Reply::Vector { have, .. } => Ok(have),
            _ => Err(ClientError::Untrusted(String::from("it answers something else than was asked"))),
        }
    }

    async fn read(&self, mut response: reqwest::Response, nonce: Hash) -> Result<Reply, ClientError> {
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(ClientError::Untrusted(format!("it is longer than {MAX_ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let why = format!("it answers HTTP status {}", status.as_u16());
            return Err(ClientError::Unreachable { url: self.url.clone(), why });
        }
        let untrusted = |why: String| ClientError::Untrusted(why);
        let envelope: Envelope = serde_json::from_slice(&body).map_err(|error| untrusted(error.to_string()))?;
        let response = envelope
            .open::<Response>(&self.hub.message_key)
            .map_err(|error| untrusted(error.to_string()))?
            .into_inner();
        if response.nonce != nonce {
            return Err(untrusted(String::from("it answers another request")));
        }
        Ok(response.reply?)
    }

    fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            why = cause.to_string();
            source = cause.source();
        }
        // Some causes end in a link to a manual of the TLS library, which helps nobody here.
        let why = why.split(": https://").next().unwrap_or_default().to_owned();
        ClientError::Unreachable { url: self.url.clone(), why }
    }
}

const fn wait_of(call: &Call) -> u32 {
    match call {
        Call::Inbox { wait_ms, .. } | Call::Status { wait_ms, .. } => *wait_ms,
        _ => 0,
    }
}
