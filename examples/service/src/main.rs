//! Tokenizes what is posted to it, and shows Prometheus what that costs in memory. See the README.

mod measured;
mod stall;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use heapgate_alloc::Telemetry;
use prometheus::{IntCounter, Registry, TEXT_FORMAT, TextEncoder};
use tikv_jemallocator::Jemalloc;
use tokenizers::Tokenizer;

/// `Telemetry<Jemalloc>` is what a service needs. What is between them does nothing unless a test asks for it.
#[global_allocator]
static ALLOCATOR: Telemetry<stall::Stalling<Jemalloc>> = Telemetry::new(stall::Stalling::new(Jemalloc));

/// Largest text that is taken: tokenizing it takes some milliseconds, for which a thread answers nobody else.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// Tokenizes posted text and exports its memory's figures to Prometheus.
///
/// POST /tokenize takes text and answers {"ids":[…]}; GET /metrics is for Prometheus; GET /healthz says that it runs.
#[derive(Debug, Parser)]
struct Arguments {
    /// Address and port to listen on; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Serve POST /inject/stall, which makes one allocation take 250 ms: for tests and demonstrations only.
    #[arg(long, hide = true)]
    inject_endpoint: bool,
}

/// What requests share.
struct Service {
    tokenizer: Tokenizer,
    registry: Registry,
    requests: IntCounter,
    tokens: IntCounter,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokenizer-service: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    measured::begin();
    let service = Arc::new(Service::new()?);
    let mut routes = Router::new()
        .route("/tokenize", post(tokenize))
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }));
    if arguments.inject_endpoint {
        routes = routes.route("/inject/stall", post(|| async { stall::one_allocation() }));
    }
    let routes = routes.layer(DefaultBodyLimit::max(MAX_TEXT_BYTES)).with_state(service);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
        println!("listening on http://{}", listener.local_addr()?);
        axum::serve(listener, routes).await?;
        Ok(())
    })
}

impl Service {
    fn new() -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let registry = Registry::new();
        let requests = IntCounter::new("tokenizer_requests_total", "Texts that were tokenized.")?;
        let tokens = IntCounter::new("tokenizer_tokens_total", "Tokens that they became.")?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(tokens.clone()))?;
        // This line is all that Prometheus needs to see the memory of a service.
        registry.register(Box::new(heapgate_prometheus::collector().with_jemalloc()))?;
        Ok(Self { tokenizer: tokenizer_service::tokenizer()?, registry, requests, tokens })
    }
}

async fn tokenize(State(service): State<Arc<Service>>, text: String) -> Response {
    match tokenizer_service::ids(&service.tokenizer, &text) {
        Ok(ids) => {
            service.requests.inc();
            service.tokens.inc_by(ids.len() as u64);
            let answer = serde_json::json!({ "ids": ids }).to_string();
            ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn metrics(State(service): State<Arc<Service>>) -> Response {
    match TextEncoder::new().encode_to_string(&service.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
