//! What programs ask and change, below `/api/v1`: JSON in, JSON out, errors with a code and a message.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web;
use outlive_actors::system::TenantsHandle;
use serde::Serialize;

use super::guard::Guard;
use crate::groups::Declarations;

mod groups;
mod quota;
mod tenants;

pub use quota::QuotaApi;

/// Bytes that the body of a request may have.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What the API works on.
#[derive(Clone, Debug)]
pub struct Api {
    /// Who may use it.
    pub guard: Guard,
    /// Sessions and their limits.
    pub quota: QuotaApi,
    /// Groups of shared subscriptions.
    pub groups: Declarations,
    /// What tenants have.
    pub tenants: TenantsHandle,
}

/// Why a request is not answered with what it asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// `admin.token` is set, and was not shown.
    Token,
    /// Only with `admin.token` or on loopback.
    NeedsToken,
    /// It cannot be done as asked.
    BadRequest(String),
    /// There is none.
    NotFound(String),
    /// Something else has to change first.
    Conflict(String),
    /// The disk, or a bug.
    Internal(String),
}

#[derive(Debug, Serialize)]
struct Problem<'a> {
    code: &'static str,
    message: &'a str,
}

impl From<Denied> for HttpResponse {
    fn from(denied: Denied) -> Self {
        let (status, code, message) = match &denied {
            Denied::Token => (
                StatusCode::UNAUTHORIZED,
                "UNAUTHORIZED",
                "show admin.token as 'Authorization: Bearer TOKEN'",
            ),
            Denied::NeedsToken => (
                StatusCode::FORBIDDEN,
                "FORBIDDEN",
                "changes need admin.token, or admin.listen on loopback and a request to its address",
            ),
            Denied::BadRequest(why) => (StatusCode::BAD_REQUEST, "BAD_REQUEST", &**why),
            Denied::NotFound(why) => (StatusCode::NOT_FOUND, "NOT_FOUND", &**why),
            Denied::Conflict(why) => (StatusCode::CONFLICT, "CONFLICT", &**why),
            Denied::Internal(why) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", &**why),
        };
        Self::build(status).json(Problem { code, message })
    }
}

pub(super) fn routes(config: &mut web::ServiceConfig) {
    let json = web::JsonConfig::default()
        .limit(BODY_BYTES_MAX)
        .error_handler(|error, _| {
            let response = HttpResponse::from(Denied::BadRequest(error.to_string()));
            actix_web::error::InternalError::from_response(error, response).into()
        });
    let query = web::QueryConfig::default().error_handler(|error, _| {
        let response = HttpResponse::from(Denied::BadRequest(error.to_string()));
        actix_web::error::InternalError::from_response(error, response).into()
    });
    config.service(
        web::scope("/api/v1")
            .app_data(json)
            .app_data(query)
            .route("/groups", web::get().to(groups::list))
            .route("/groups/{name}", web::put().to(groups::declare))
            .route("/groups/{name}", web::delete().to(groups::undeclare))
            .route("/quota", web::get().to(quota::show))
            .route("/quota", web::put().to(quota::change))
            .route("/quota/usage", web::get().to(quota::usage))
            .route("/tenants", web::get().to(tenants::list)),
    );
}
