//! The HTTP server of the admin pages.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};

use super::api::{self, Api};
use super::metrics::{MetricsSource, Sample, broker_samples, exposition};
use super::readiness::Readiness;
use super::status::Status;

/// Connections at a time; more wait in the backlog of the socket.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take to send a request's head, and how long an idle connection is kept.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a stop waits for requests under way.
const STOP_TIMEOUT_SECONDS: u64 = 1;
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
#[derive(Clone)]
pub struct Admin {
    /// Whether the broker serves.
    pub readiness: Arc<Readiness>,
    /// Whoever has numbers to show.
    pub sources: Vec<Arc<dyn MetricsSource>>,
    /// What the API works on; without it there is none.
    pub api: Option<Api>,
}

impl Admin {
    fn samples(&self) -> Vec<Sample> {
        let mut samples = broker_samples(&self.readiness);
        for source in &self.sources {
            samples.extend(source.collect());
        }
        samples
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("readiness", &self.readiness)
            .field("sources", &self.sources.len())
            .finish()
    }
}

/// Serves the pages on `listener` from a thread of its own. The server does its work while the caller awaits it, or
/// has spawned it; it ends when its handle is told to stop.
///
/// # Errors
/// If the socket cannot be used.
pub fn start(listener: TcpListener, admin: Admin) -> io::Result<Server> {
    let server = HttpServer::new(move || {
        let api = admin.api.clone();
        App::new()
            .app_data(web::Data::new(admin.clone()))
            .configure(pages)
            .configure(|config| {
                if let Some(api) = api {
                    config.app_data(web::Data::new(api));
                    api::routes(config);
                }
            })
    })
    .workers(1)
    .disable_signals()
    .max_connections(CONNECTIONS_MAX)
    .client_request_timeout(REQUEST_TIMEOUT)
    .keep_alive(REQUEST_TIMEOUT)
    .shutdown_timeout(STOP_TIMEOUT_SECONDS)
    .listen(listener)?;
    Ok(server.run())
}

fn pages(config: &mut web::ServiceConfig) {
    config
        .route("/livez", web::get().to(live))
        .route("/readyz", web::get().to(ready))
        .route("/metrics", web::get().to(metrics))
        .route("/status", web::get().to(status));
}

/// The process answers: that is all it says.
async fn live() -> HttpResponse {
    text(HttpResponse::Ok(), "alive\n".to_owned())
}

async fn ready(admin: web::Data<Admin>) -> HttpResponse {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return text(HttpResponse::Ok(), "ready\n".to_owned());
    }
    let lines = missing.iter().map(|missing| format!("{missing}\n"));
    text(HttpResponse::ServiceUnavailable(), lines.collect())
}

async fn metrics(admin: web::Data<Admin>) -> HttpResponse {
    match exposition(admin.samples()) {
        Ok(page) => HttpResponse::Ok().content_type(OPENMETRICS).body(page),
        Err(_) => HttpResponse::InternalServerError().finish(),
    }
}

async fn status(admin: web::Data<Admin>) -> HttpResponse {
    HttpResponse::Ok().json(Status::new(&admin.readiness, &admin.samples()))
}

fn text(mut response: actix_web::HttpResponseBuilder, body: String) -> HttpResponse {
    response.content_type(ContentType::plaintext()).body(body)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};

    use super::*;

    struct Numbers;

    impl MetricsSource for Numbers {
        fn collect(&self) -> Vec<Sample> {
            let labels = &[("state", "offline")];
            vec![Sample::gauge("outlive_sessions", "Sessions.", labels, 3.0)]
        }
    }

    fn get(address: SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Runs the server while `questions` are asked from another thread.
    fn serving(readiness: Arc<Readiness>, questions: impl FnOnce(SocketAddr) + Send + 'static) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let admin = Admin {
            readiness,
            sources: vec![Arc::new(Numbers)],
            api: None,
        };
        actix_rt::System::new().block_on(async move {
            let server = start(listener, admin).unwrap();
            let handle = server.handle();
            let server = actix_rt::spawn(server);
            let asked = actix_rt::task::spawn_blocking(move || questions(address)).await;
            handle.stop(true).await;
            server.await.unwrap().unwrap();
            asked.unwrap();
        });
    }

    #[test]
    fn a_broker_that_is_not_ready_says_what_is_missing() {
        let readiness = Arc::new(Readiness::default());
        let shared = Arc::clone(&readiness);
        serving(readiness, move |address| {
            let answer = get(address, "/readyz");
            assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
            assert!(answer.contains("sessions are not rehydrated yet\nnot listening yet\n"));
            assert!(get(address, "/livez").starts_with("HTTP/1.1 200"));
            shared.rehydrated();
            shared.listening();
            assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
            shared.draining();
            assert!(get(address, "/readyz").contains("draining"));
        });
    }

    #[test]
    fn metrics_and_status_show_the_same_numbers() {
        serving(Arc::new(Readiness::default()), |address| {
            let metrics = get(address, "/metrics");
            assert!(
                metrics.contains("outlive_sessions{state=\"offline\"} 3.0\n"),
                "{metrics}"
            );
            assert!(metrics.contains("outlive_ready 0.0\n"), "{metrics}");
            assert!(
                metrics.contains("content-type: application/openmetrics-text"),
                "{metrics}"
            );
            let status = get(address, "/status");
            assert!(
                status.contains(r#""outlive_sessions{state=\"offline\"}":3.0"#),
                "{status}"
            );
            assert!(status.contains(r#""ready":false"#), "{status}");
        });
    }

    #[test]
    fn other_pages_and_methods_are_not_served() {
        serving(Arc::new(Readiness::default()), |address| {
            assert!(get(address, "/").starts_with("HTTP/1.1 404"));
        });
    }
}
