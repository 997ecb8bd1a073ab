//! Tokenizes what is posted to it, and shows Prometheus what that costs in memory. See the README.

mod measured;
mod split;
mod stall;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use heapgate_alloc::Telemetry;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry, TEXT_FORMAT, TextEncoder};
use tikv_jemallocator::Jemalloc;
use tokenizers::Tokenizer;

use split::{KEY_HEADER, Share, Slow, Split};

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
    /// Handle requests in groups with settings of jemalloc's of their own, each with so many threads and such a share of the
    /// requests (by a hash of the header x-key, or of the text); see `heapgate ab --live tokenizer`
    #[arg(
        long,
        value_name = "NAME=THREADS",
        value_delimiter = ',',
        num_args = 0..=1,
        default_missing_value = "control=2,lax=1,strict=1",
        value_parser = split::share
    )]
    groups: Vec<Share>,
    /// Make each request of a group ask for large memory again and again for so long: for tests and demonstrations only.
    #[arg(long, hide = true, value_name = "NAME=MICROSECONDS", requires = "groups", value_parser = split::slow)]
    slow_group: Option<Slow>,
    /// Serve POST /inject/stall, which makes one allocation take 250 ms: for tests and demonstrations only.
    #[arg(long, hide = true)]
    inject_endpoint: bool,
}

/// What requests share.
struct Service {
    tokenizer: Tokenizer,
    registry: Registry,
    split: Option<Split>,
    group_requests: IntCounterVec,
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
    let (groups, slow) = (&arguments.groups, arguments.slow_group.as_ref());
    let split = if groups.is_empty() { None } else { Some(Split::start(groups, slow)?) };
    let service = Arc::new(Service::new(split)?);
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
    fn new(split: Option<Split>) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let registry = Registry::new();
        let requests = IntCounter::new("tokenizer_requests_total", "Texts that were tokenized.")?;
        let tokens = IntCounter::new("tokenizer_tokens_total", "Tokens that they became.")?;
        let in_group = Opts::new("tokenizer_group_requests_total", "Texts that were tokenized in each group.");
        let group_requests = IntCounterVec::new(in_group, &["group"])?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(group_requests.clone()))?;
        registry.register(Box::new(tokens.clone()))?;
        // This line is all that Prometheus needs to see the memory of a service.
        registry.register(Box::new(heapgate_prometheus::collector().with_jemalloc()))?;
        Ok(Self { tokenizer: tokenizer_service::tokenizer()?, registry, split, group_requests, requests, tokens })
    }
}

async fn tokenize(State(service): State<Arc<Service>>, headers: HeaderMap, text: String) -> Response {
    let begun = Instant::now();
    let Some(split) = &service.split else {
        let response = answer(&service, &text);
        heapgate_alloc::request_finished(begun.elapsed());
        return response;
    };
    let key = headers.get(KEY_HEADER).map_or(text.as_bytes(), |key| key.as_bytes());
    let side = split.of(key);
    service.group_requests.with_label_values(&[side.name()]).inc();
    let (slow, shared) = (side.slow, Arc::clone(&service));
    let handled = side.runtime.spawn(async move {
        if let Some(work) = slow {
            split::churn(work);
        }
        answer(&shared, &text)
    });
    let response = match handled.await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    };
    // With the time that it waited for a thread of its group.
    side.finished(begun.elapsed());
    response
}

fn answer(service: &Service, text: &str) -> Response {
    match tokenizer_service::ids(&service.tokenizer, text) {
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
