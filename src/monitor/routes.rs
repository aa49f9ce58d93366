//! Who may ask for what, and the answers that are not streams.
//!
//! The API is open to whoever reaches the loopback port. What keeps other web sites out is the browser's
//! same-origin rule; a site whose name is made to resolve to 127.0.0.1 would get round it, so a request
//! must name a loopback host. There is no CORS.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, REFERRER_POLICY, RETRY_AFTER,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::stream::{self, LiveStream};
use super::{View, metrics, page};
use crate::limits::{LIVE_CLIENT_CHANNELS_MAX, LIVE_CLIENTS_MAX};

/// What a browser may do with an answer: the page needs its own files and its own API, nothing else.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
        ),
    ),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
];

/// What the handlers share.
struct Shared {
    view: View,
    listening: Option<IpAddr>,
    live_places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

pub(super) fn router(view: View, listening: Option<IpAddr>, shutdown: CancellationToken) -> Router {
    let live_places = Arc::new(Semaphore::new(LIVE_CLIENTS_MAX));
    let shared = Arc::new(Shared { view, listening, live_places, shutdown });
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/channels", get(channels))
        .route("/api/v1/live", get(live))
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(other)
        .method_not_allowed_fallback(async || error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served"))
        .layer(from_fn_with_state(shared.clone(), guard))
        .with_state(shared)
}

async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let mut response = match foreign_host(&request, shared.listening) {
        None => next.run(request).await,
        Some(host) => {
            let message = format!("host `{host}` is not this agent; ask for it as localhost or 127.0.0.1");
            error(StatusCode::FORBIDDEN, &message)
        }
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, value);
    }
    response
}

/// The host that the request names, if it is not one of ours. Its port may be any: tunnels change it.
fn foreign_host(request: &Request, listening: Option<IpAddr>) -> Option<String> {
    let in_target = request.uri().authority().map(|authority| authority.as_str());
    let in_headers = request.headers().get_all(HOST).iter().map(|host| host.to_str().unwrap_or("?"));
    let mut hosts = in_target.into_iter().chain(in_headers).peekable();
    if hosts.peek().is_none() {
        return Some(String::new());
    }
    hosts.find(|host| !is_ours(host, listening)).map(str::to_owned)
}

fn is_ours(host: &str, listening: Option<IpAddr>) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').map_or("", |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || Some(ip) == listening)
}

async fn status(State(shared): State<Arc<Shared>>) -> Response {
    answer(StatusCode::OK, &(shared.view.status)())
}

async fn channels(State(shared): State<Arc<Shared>>) -> Response {
    answer(StatusCode::OK, &stream::channels(&shared.view.live))
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = (shared.view.ready)();
    if readiness.ready {
        return answer(StatusCode::OK, &readiness);
    }
    let error = format!("not ready; waiting for {}", readiness.waiting_for.join(", "));
    let body = json!({"ready": false, "waiting_for": readiness.waiting_for, "error": error});
    answer(StatusCode::SERVICE_UNAVAILABLE, &body)
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let live_clients = LIVE_CLIENTS_MAX - shared.live_places.available_permits();
    match metrics::text((shared.view.status)(), live_clients) {
        Ok(text) => respond(StatusCode::OK, metrics::CONTENT_TYPE, text.into()),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written as text: please report this"),
    }
}

async fn live(State(shared): State<Arc<Shared>>, Query(asked): Query<Vec<(String, String)>>) -> Response {
    let lists = asked.iter().filter(|(name, _)| name == "channels");
    let mut keys: Vec<&str> = lists.flat_map(|(_, keys)| keys.split(',')).filter(|key| !key.is_empty()).collect();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() > LIVE_CLIENT_CHANNELS_MAX {
        let message = format!("{} channels asked for; one stream takes {LIVE_CLIENT_CHANNELS_MAX}", keys.len());
        return error(StatusCode::BAD_REQUEST, &message);
    }
    let Ok(place) = shared.live_places.clone().try_acquire_owned() else {
        let message = format!("{LIVE_CLIENTS_MAX} clients follow the live stream already; close one and try again");
        let mut response = error(StatusCode::SERVICE_UNAVAILABLE, &message);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
        return response;
    };
    let stream = LiveStream::new(shared.view.clone(), &keys, shared.shutdown.clone(), place);
    respond(StatusCode::OK, "text/event-stream", Body::from_stream(stream))
}

async fn other(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    if path == "/api" || path.starts_with("/api/") {
        return error(StatusCode::NOT_FOUND, &format!("no `{path}` here"));
    }
    if method != Method::GET && method != Method::HEAD {
        return error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served");
    }
    page::file(path, &headers).unwrap_or_else(|| error(StatusCode::NOT_FOUND, &format!("no `{path}` here")))
}

fn error(status: StatusCode, message: &str) -> Response {
    answer(status, &json!({ "error": message }))
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => respond(status, "application/json", bytes.into()),
        Err(_) => {
            respond(StatusCode::INTERNAL_SERVER_ERROR, "application/json", "{\"error\":\"please report this\"}".into())
        }
    }
}

/// An answer of the moment: nobody may keep it.
fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
