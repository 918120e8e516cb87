//! `/api/v1/tenants`: what each tenant has, and what it may have.

use actix_web::{HttpRequest, HttpResponse, web};
use outlive_actors::system::{TenantUse, TenantsHandle};
use serde::{Deserialize, Serialize};

use super::Api;

/// Tenants that an answer has unless asked for more, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// What may be asked.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    name: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Listed {
    tenants: Vec<Shown>,
    /// Those that fit and are not in `tenants`.
    other_tenants: usize,
}

#[derive(Debug, Serialize)]
struct Shown {
    name: Box<str>,
    sessions: u64,
    sessions_max: u64,
    groups: u64,
    groups_max: u32,
    retained_messages: u64,
    retained_messages_max: u64,
    retained_bytes: u64,
    retained_bytes_max: u64,
}

impl From<(Box<str>, TenantUse)> for Shown {
    fn from((name, tenant): (Box<str>, TenantUse)) -> Self {
        Self {
            name,
            sessions: tenant.sessions,
            sessions_max: tenant.sessions_max,
            groups: tenant.groups,
            groups_max: tenant.limits.groups_max,
            retained_messages: tenant.retained.count,
            retained_messages_max: tenant.limits.retained.count,
            retained_bytes: tenant.retained.bytes,
            retained_bytes_max: tenant.limits.retained.bytes,
        }
    }
}

pub(super) async fn list(
    request: HttpRequest,
    api: web::Data<Api>,
    query: web::Query<ListQuery>,
) -> HttpResponse {
    if let Err(denied) = api.guard.may_look(&request) {
        return denied.into();
    }
    HttpResponse::Ok().json(listed(&api.tenants, &query))
}

fn listed(tenants: &TenantsHandle, query: &ListQuery) -> Listed {
    let limit = query.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let mut all = tenants.list();
    all.retain(|name, _| query.name.as_deref().is_none_or(|asked| asked == &**name));
    let other_tenants = all.len().saturating_sub(limit);
    Listed {
        tenants: all.into_iter().take(limit).map(Shown::from).collect(),
        other_tenants,
    }
}
