//! `/api/v1/groups`: the groups of shared subscriptions, how far they are, and which are declared.

use actix_web::{HttpRequest, HttpResponse, web};
use outlive_actors::model::tenant::OwnFilter;
use outlive_actors::model::topic::Filter;
use outlive_actors::observe::GroupObservation;
use serde::{Deserialize, Serialize};

use super::{Api, Denied};
use crate::config::Strategy as StrategyKey;
use crate::groups::{Declarations, DeclareError, Origin};

/// Groups that an answer has unless asked for more, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

impl From<DeclareError> for Denied {
    fn from(error: DeclareError) -> Self {
        let why = error.to_string();
        match error {
            DeclareError::Name(_) => Self::BadRequest(why),
            DeclareError::Configured(_) | DeclareError::TooMany => Self::Conflict(why),
            DeclareError::Unknown(_) => Self::NotFound(why),
            DeclareError::File { .. } => Self::Internal(why),
        }
    }
}

// --- GET /api/v1/groups

/// What may be asked.
#[derive(Debug, Deserialize)]
pub(super) struct ListQuery {
    tenant: Option<String>,
    name: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct Listed {
    groups: Vec<Shown>,
    /// Those that fit and are not in `groups`.
    other_groups: usize,
    declared: Vec<ShownDeclared>,
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    name: String,
    filter: String,
    strategy: &'static str,
    durable: bool,
    members: usize,
    members_online: usize,
    leases: usize,
    waiting: usize,
    unread_entries: u64,
}

#[derive(Debug, Serialize)]
struct ShownDeclared {
    name: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<&'static str>,
    by: Origin,
}

impl Shown {
    fn of(filter: &Filter, seen: &GroupObservation) -> Self {
        let own = OwnFilter::from(filter);
        Self {
            tenant: own.tenant,
            name: own.group.unwrap_or_default(),
            filter: own.filter,
            strategy: seen.standing.strategy.name(),
            durable: seen.standing.durable_from.is_some(),
            members: seen.standing.members,
            members_online: seen.members_online,
            leases: seen.leases,
            waiting: seen.waiting,
            unread_entries: seen.unread_entries,
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
    HttpResponse::Ok().json(listed(&api.groups, &query).await)
}

async fn listed(declarations: &Declarations, query: &ListQuery) -> Listed {
    let limit = query.limit.unwrap_or(LIMIT).min(LIMIT_MAX);
    let asked = |name: &str| query.name.as_deref().is_none_or(|asked| asked == name);
    let mut all = declarations.groups().list();
    all.retain(|(filter, _)| {
        let own = OwnFilter::from(filter);
        let tenant = query.tenant.is_none() || query.tenant == own.tenant;
        tenant && own.group.is_some_and(|name| asked(&name))
    });
    let other_groups = all.len().saturating_sub(limit);
    let mut groups = Vec::new();
    for (filter, _) in all.into_iter().take(limit) {
        // One that is over by now is not shown.
        if let Some(seen) = declarations.groups().observe(filter.clone()).await {
            groups.push(Shown::of(&filter, &seen));
        }
    }
    let mut declared = declarations.list();
    declared.retain(|(name, ..)| asked(name));
    let declared = declared.into_iter();
    Listed {
        groups,
        other_groups,
        declared: declared
            .map(|(name, strategy, by)| ShownDeclared {
                name,
                strategy: strategy.map(|strategy| strategy.name()),
                by,
            })
            .collect(),
    }
}

// --- PUT and DELETE /api/v1/groups/{name}

/// How a group is declared.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Declaration {
    strategy: Option<StrategyKey>,
}

pub(super) async fn declare(
    request: HttpRequest,
    api: web::Data<Api>,
    name: web::Path<String>,
    body: web::Json<Declaration>,
) -> HttpResponse {
    let strategy = body.into_inner().strategy.map(Into::into);
    let name = name.into_inner();
    change(&request, &api, move |groups| groups.add(&name, strategy)).await
}

pub(super) async fn undeclare(
    request: HttpRequest,
    api: web::Data<Api>,
    name: web::Path<String>,
) -> HttpResponse {
    let name = name.into_inner();
    change(&request, &api, move |groups| groups.remove(&name)).await
}

/// On a thread that may wait for the disk.
async fn change(
    request: &HttpRequest,
    api: &Api,
    change: impl FnOnce(&Declarations) -> Result<(), DeclareError> + Send + 'static,
) -> HttpResponse {
    if let Err(denied) = api.guard.may_change(request) {
        return denied.into();
    }
    let groups = api.groups.clone();
    match web::block(move || change(&groups)).await {
        Ok(Ok(())) => HttpResponse::NoContent().finish(),
        Ok(Err(error)) => Denied::from(error).into(),
        Err(error) => Denied::Internal(error.to_string()).into(),
    }
}
