//! What the kubelet answers over HTTP, on loopback: `GET /healthz` and `GET /pods`.
//!
//! `/pods` is a v1 PodList with status, as the Go kubelet has it. It shows everything that manifests hold, which is why
//! the server listens on loopback addresses only.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpListener;

use crate::board::Board;
use crate::health::Health;

/// What the answers are made of.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The pods.
    pub(crate) board: Board,
    /// How the kubelet itself is.
    pub(crate) health: Health,
}

/// Listens. Fails when the address is taken.
pub(crate) async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Answers for ever.
pub(crate) async fn serve(listener: TcpListener, sources: Sources) -> std::io::Result<()> {
    axum::serve(listener, router(sources)).await
}

fn router(sources: Sources) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/pods", get(pods)).with_state(sources)
}

async fn healthz(State(sources): State<Sources>) -> Response {
    let (status, text) = match sources.health.problems() {
        problems if problems.is_empty() => (StatusCode::OK, "ok".to_owned()),
        problems => (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", problems.join("\n"))),
    };
    let kind = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (status, kind, text).into_response()
}

async fn pods(State(sources): State<Sources>) -> Json<List<Pod>> {
    Json(List { items: sources.board.pods(), ..List::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::NodeFacts;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers() {
        let facts = NodeFacts { name: "n1".to_owned(), ip: "192.0.2.1".to_owned(), memory: 1 << 30 };
        let board = Board::new(Arc::new(facts));
        let web = crate::worker::tests::desired("Always", &[], &["a"]);
        let _ = board.publish(&web, None, None, false);
        let health = Health::default();
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let _server = tokio::spawn(serve(listener, Sources { board, health: health.clone() }));

        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 500"), "no manifests were read yet");
        assert!(health.set_manifests(Ok(())), "that is news");
        health.set_bus(true);
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\nok"), "{answer}");

        let answer = get(address, "/pods").await;
        let list: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(list["kind"], "PodList");
        assert_eq!(list["items"][0]["metadata"]["name"], "web-n1");
        assert_eq!(list["items"][0]["status"]["phase"], "Pending");
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404"));
    }
}
