//! The page's files, embedded in every build: `build.rs` says which.

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, Response, StatusCode};

include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// The file at `path` of the page, if there is one; only its name if the client has it already.
pub(super) fn file(path: &str, asked: &HeaderMap) -> Option<Response<Body>> {
    let name = match path.trim_start_matches('/') {
        "" => "index.html",
        name => name,
    };
    let file = Embedded::get(name)?;
    let tag: String = file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let known = known.flat_map(|value| value.split(',')).map(str::trim);
    let fresh = known.into_iter().any(|value| value == "*" || value.trim_start_matches("W/") == tag);

    // A page that asks each time shows a new agent's page at once; the answer is mostly 304.
    let response = Response::builder().header(ETAG, tag).header(CACHE_CONTROL, "no-cache");
    let response = if fresh {
        response.status(StatusCode::NOT_MODIFIED).body(Body::empty())
    } else {
        let body = match file.data {
            std::borrow::Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            std::borrow::Cow::Owned(bytes) => bytes.into(),
        };
        response.header(CONTENT_TYPE, content_type(file.metadata.mimetype())).body(body.into())
    };
    Some(response.expect("a tag in hexadecimal and a known type are valid header values"))
}

fn content_type(mime: &str) -> String {
    let text = mime.starts_with("text/") || mime.ends_with("/javascript") || mime.ends_with("/json");
    if text { format!("{mime}; charset=utf-8") } else { mime.to_owned() }
}
