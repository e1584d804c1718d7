//! The hub as a process: an HTTPS server with two routes. Everything that decides is elsewhere.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum_server::tls_rustls::RustlsConfig;
use cohortium_api::{CALL_ROUTE, MAX_CALL_BYTES, MAX_CHUNK_BYTES, MAX_WAIT_MS, VECTOR_ROUTE};
use cohortium_messages::{Call, Envelope, Hash, Request, Timestamp};
use serde::Deserialize;
use tokio::sync::{Mutex, Notify, Semaphore, SemaphorePermit, mpsc, oneshot};

use crate::home::Home;
use crate::hub::{Hub, HubError, own_error};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How many of the longest bodies there may be at a time, on their way in or waiting for their turn, and how long one may
/// take to come: with [`MAX_CALL_BYTES`] this bounds the memory that strangers can make the hub hold, at the price that they
/// can make others wait. Shorter ones take less room.
const MAX_BODIES: usize = 16;
/// The unit in which room for bodies is counted.
const KIB: usize = 1 << 10;
const BODY_TIMEOUT: Duration = Duration::from_secs(20);

/// How many calls are answered together at most.
const MAX_TOGETHER: usize = 64;

/// A call that waits for its turn, and who waits for the answer.
type Waiting = (Envelope, oneshot::Sender<Envelope>);

struct Shared {
    bodies: Semaphore,
    /// Where calls wait for their turn.
    calls: mpsc::Sender<Waiting>,
    changed: Notify,
    /// Takes the first trouble of the hub's own, with which the process ends.
    failed: mpsc::Sender<HubError>,
    hub: Mutex<Hub>,
}

/// Runs the hub in `home` until it is stopped or its own store or log fails: then it must be opened again. `ready` is called once it listens.
///
/// # Errors
/// When the home is damaged or in use, or the address cannot be bound.
pub async fn run(home: Home, ready: impl FnOnce()) -> Result<(), HubError> {
    // Installing twice is harmless: the first provider stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = home.settings()?;
    let ((calls, waiting), (failed, mut failures)) = (mpsc::channel(MAX_TOGETHER), mpsc::channel(1));
    let (bodies, hub) = (Semaphore::new(MAX_BODIES * MAX_CALL_BYTES / KIB), Mutex::new(home.open()?));
    let shared = Arc::new(Shared { bodies, calls, changed: Notify::new(), failed, hub });
    let tls =
        RustlsConfig::from_pem_file(home.tls("server.pem"), home.tls("server-key.pem")).await.map_err(own_error)?;
    let listener = std::net::TcpListener::bind(settings.listen)
        .map_err(|error| HubError(format!("cannot listen on {}: {error}", settings.listen)))?;
    listener.set_nonblocking(true).map_err(own_error)?;
    let routes = routes(&shared);
    let server = axum_server::from_tcp_rustls(listener, tls).map_err(own_error)?;
    tracing::info!(hub = %settings.name, listen = %settings.listen, "the hub listens");
    ready();
    tokio::select! {
        served = server.serve(routes.into_make_service()) => served.map_err(own_error),
        failed = tick(Arc::clone(&shared)) => Err(failed),
        failed = answer_in_turn(shared, waiting) => Err(failed),
        Some(failed) = failures.recv() => Err(failed),
    }
}

fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route(CALL_ROUTE, post(call))
        .route(&format!("{VECTOR_ROUTE}/{{ticket}}"), put(vector))
        .with_state(Arc::clone(shared))
}

/// Looks at deadlines, for as long as the hub's store works.
async fn tick(shared: Arc<Shared>) -> HubError {
    loop {
        tokio::time::sleep(TICK).await;
        let mut hub = shared.hub.lock().await;
        if let Err(error) = hub.tick(now()) {
            return error;
        }
        drop(hub);
        shared.changed.notify_waiters();
    }
}

/// Answers calls in the order in which they came, and those that wait meanwhile together: while one is made durable and
/// shown, others come, and share the next head. So the busier the hub, the less each call costs.
async fn answer_in_turn(shared: Arc<Shared>, mut calls: mpsc::Receiver<Waiting>) -> HubError {
    let (mut requests, mut askers) = (Vec::new(), VecDeque::new());
    loop {
        let mut come = Vec::new();
        let room = MAX_TOGETHER.saturating_sub(requests.len());
        if requests.is_empty() {
            let _ = calls.recv_many(&mut come, room).await; // never none: `shared` can send
        } else {
            come.extend(std::iter::from_fn(|| calls.try_recv().ok()).take(room));
        }
        for (request, asker) in come {
            requests.push(request);
            askers.push_back(asker);
        }
        let answers = match shared.hub.lock().await.answer_all(&requests, now()) {
            Ok(answers) => answers,
            Err(error) => return error,
        };
        let answered: Vec<Envelope> = requests.drain(..answers.len().min(requests.len())).collect();
        for answer in answers {
            let asker = askers.pop_front();
            let _ = asker.map(|asker| asker.send(answer)); // who has hung up needs none
        }
        if answered.iter().any(changes_something) {
            shared.changed.notify_waiters();
        }
    }
}

/// Reads a body within a limit of bytes and of time, when there is room for one that long; what it turns out to need is
/// taken until the caller lets go of the permit.
async fn read(bodies: &Semaphore, body: Body, limit: usize) -> Result<(Bytes, SemaphorePermit<'_>), Response> {
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, "the hub is busy; try again\n").into_response();
    let mut room = bodies.acquire_many(in_kib(limit)).await.map_err(|_| busy())?;
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => {
            let needless = in_kib(limit).saturating_sub(in_kib(bytes.len()));
            drop(usize::try_from(needless).ok().and_then(|needless| room.split(needless)));
            Ok((bytes, room))
        }
        Ok(Err(_)) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or broke off\n").into_response()),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body took too long\n").into_response()),
    }
}

/// Room for so many bytes, in the unit in which it is counted.
fn in_kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX)
}

/// One signed call. A long poll looks again whenever something changed, until its wait is over.
async fn call(State(shared): State<Arc<Shared>>, body: Body) -> Response {
    let (body, room) = match read(&shared.bodies, body, MAX_CALL_BYTES).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&body) else {
        return (StatusCode::BAD_REQUEST, "the body is no signed envelope\n").into_response();
    };
    drop(body);
    // Until the first answer: what waits longer is a poll of a member, and short.
    let mut room = Some(room);
    let wait_ms = envelope.peek::<Request>().map_or(0, |request| match request.claims().call {
        Call::Inbox { wait_ms, .. } | Call::Status { wait_ms, .. } => wait_ms.min(MAX_WAIT_MS),
        _ => 0,
    });
    let until = tokio::time::Instant::now() + Duration::from_millis(u64::from(wait_ms));
    loop {
        // Listening starts before looking, so that a change in between is not missed.
        let changed = shared.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let (asker, answer) = oneshot::channel();
        let is_waiting = shared.calls.send((envelope.clone(), asker)).await.is_ok();
        let Some(answer) = answer.await.ok().filter(|_| is_waiting) else { return unanswered() };
        drop(room.take());
        if !should_wait(&envelope, &answer) || tokio::time::Instant::now() >= until {
            return json(&shared, &answer);
        }
        if let Ok(request) = envelope.peek::<Request>() {
            shared.hub.lock().await.forget_nonce(request.claims());
        }
        let _ = tokio::time::timeout_at(until, changed).await;
    }
}

/// Whether others may be waiting for what this call brought.
fn changes_something(request: &Envelope) -> bool {
    let Ok(request) = request.peek::<Request>() else { return false };
    !matches!(
        request.claims().call,
        Call::Directory { .. }
            | Call::Inbox { .. }
            | Call::Released { .. }
            | Call::Status { .. }
            | Call::Studies { .. }
            | Call::Tasks { .. }
    )
}

/// Whether the answer says "nothing new" to a call that asked to wait; then the call may be looked at again.
fn should_wait(request: &Envelope, answer: &Envelope) -> bool {
    let Ok(request) = request.peek::<Request>() else { return false };
    let Ok(answer) = answer.peek::<cohortium_messages::Response>() else { return false };
    answer.claims().reply.as_ref().is_ok_and(|reply| Hub::would_wait(&request.claims().call, reply))
}

#[derive(Deserialize)]
struct Offset {
    offset: u64,
}

/// A piece of an announced vector.
async fn vector(
    State(shared): State<Arc<Shared>>,
    Path(ticket): Path<String>,
    Query(Offset { offset }): Query<Offset>,
    body: Body,
) -> Response {
    let (piece, _room) = match read(&shared.bodies, body, MAX_CHUNK_BYTES).await {
        Ok(read) => read,
        Err(refusal) => return refusal,
    };
    let Ok(ticket) = ticket.parse::<Hash>() else {
        return (StatusCode::BAD_REQUEST, "the path does not end in a ticket\n").into_response();
    };
    let answer = shared.hub.lock().await.receive_vector(ticket, offset, &piece, now());
    match answer {
        Ok(answer) => {
            let taken = answer.peek::<cohortium_messages::Response>().is_ok_and(|answer| answer.claims().reply.is_ok());
            if taken {
                shared.changed.notify_waiters();
            }
            json(&shared, &answer)
        }
        Err(error) => trouble(&shared, error),
    }
}

fn json(shared: &Shared, answer: &Envelope) -> Response {
    match serde_json::to_vec(answer) {
        Ok(body) => ([("content-type", "application/json")], body).into_response(),
        Err(error) => trouble(shared, own_error(error)),
    }
}

/// The hub's own trouble: said to its operator in full, with which the process ends; to the caller only that it is there.
fn trouble(shared: &Shared, error: HubError) -> Response {
    tracing::error!(%error, "the hub's own store or log fails");
    let _ = shared.failed.try_send(error); // of several the first is the reason
    unanswered()
}

fn unanswered() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "the hub has trouble of its own; its operator must look\n").into_response()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the shell is where clocks are read; everything below takes the time as an argument"
)]
fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_seconds(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A body counted only while it came in: those that waited for their turn afterwards had no limit.
    #[test]
    fn repro_a_body_that_waits_for_its_turn_takes_room() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let bodies = Semaphore::new(8);
            let read = |length: usize| read(&bodies, Body::from(vec![7; length]), 4 * KIB);
            let (short, long) = (read(10).await.unwrap(), read(4 * KIB).await.unwrap());
            assert_eq!((short.0.len(), long.0.len(), bodies.available_permits()), (10, 4 * KIB, 3));
            let patience = Duration::from_millis(50);
            assert!(tokio::time::timeout(patience, read(1)).await.is_err(), "there is no room for the longest");
            drop(long);
            assert!(tokio::time::timeout(patience, read(1)).await.is_ok());
        });
    }
}
