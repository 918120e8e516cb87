//! `/api/v1/quota`: sessions, their limits, who uses them, and how it was over time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use outlive_actors::model::census::Census;
use outlive_actors::model::ids::{Listener, Principal};
use outlive_actors::model::quota::{
    ChangeError, QuotaChange, QuotaLimits, QuotaObservation, QuotaPolicy, QuotaReport,
};
use outlive_actors::system::QuotaHandle;
use serde::{Deserialize, Serialize};

use super::{Api, Denied};
use crate::config::{ListenerQuotaConfig, PrincipalQuotaConfig, QuotaPolicyKey};
use crate::quota::{UsageFiles, UsageLine};

/// Principals and prefixes that an answer names unless asked for more, and at most.
const TOP: usize = 20;
const TOP_MAX: usize = 1000;

/// Intervals that an answer has unless asked for less.
const LINES_MAX: usize = 10_000;

/// Sessions that a limit may allow, as in the configuration.
const SESSIONS_MAX: u32 = 1_000_000_000;

/// What the pages about the quota work on.
#[derive(Clone, Debug)]
pub struct QuotaApi {
    /// The quota.
    pub quota: QuotaHandle,
    /// Its history.
    pub usage: Arc<UsageFiles>,
}

// --- GET /api/v1/quota

#[derive(Debug, Serialize)]
struct Shown {
    sessions_max: u64,
    policy: QuotaPolicyKey,
    used: u64,
    /// Units of `sessions_max` that nobody uses; nothing without a limit.
    free: Option<u64>,
    warning: bool,
    high_water: ShownMark,
    refused: ShownRefusals,
    online: u64,
    offline: u64,
    never_resumed: u64,
    /// Units that come free if no offline client comes back.
    free_within: FreeWithin,
    reserved: Vec<ShownReserve>,
    principal_sessions_max: u64,
    principals: Vec<ShownPrincipal>,
    other_principals: u64,
    listeners: Vec<ShownListener>,
    client_id_prefixes: Vec<ShownPrefix>,
    other_prefixes: u64,
}

#[derive(Debug, Serialize)]
struct ShownMark {
    sessions: u64,
    /// Seconds of Unix time.
    at: u64,
}

#[derive(Debug, Serialize)]
struct ShownRefusals {
    sessions: u64,
    principal: u64,
    listener: u64,
}

#[derive(Debug, Serialize)]
struct FreeWithin {
    hour: u64,
    day: u64,
}

#[derive(Debug, Serialize)]
struct ShownReserve {
    name: String,
    sessions: u64,
    used: u64,
}

#[derive(Debug, Serialize)]
struct ShownPrincipal {
    name: String,
    used: u64,
    sessions_max: u64,
}

#[derive(Debug, Serialize)]
struct ShownListener {
    listen: String,
    used: u64,
    sessions_max: u64,
}

#[derive(Debug, Serialize)]
struct ShownPrefix {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    prefix: String,
    online: u64,
    offline: u64,
}

/// What may be asked.
#[derive(Debug, Deserialize)]
pub(super) struct ShowQuery {
    top: Option<usize>,
}

pub(super) async fn show(
    request: HttpRequest,
    api: web::Data<Api>,
    query: web::Query<ShowQuery>,
) -> HttpResponse {
    if let Err(denied) = api.guard.may_look(&request) {
        return denied.into();
    }
    let quota = &api.quota.quota;
    answer(quota, &quota.limits(), query.top.unwrap_or(TOP)).await
}

async fn answer(quota: &QuotaHandle, limits: &QuotaLimits, top: usize) -> HttpResponse {
    let top = top.min(TOP_MAX);
    let census = quota.census().await;
    let shown = shown(limits, quota.observe(), quota.report(top), &census, top);
    HttpResponse::Ok().json(shown)
}

fn shown(
    limits: &QuotaLimits,
    seen: QuotaObservation,
    report: QuotaReport,
    census: &Census,
    top: usize,
) -> Shown {
    let [hour, day] = census.free_within;
    Shown {
        sessions_max: limits.sessions_max,
        policy: match limits.policy {
            QuotaPolicy::Reject => QuotaPolicyKey::Reject,
            QuotaPolicy::EvictLongestOffline => QuotaPolicyKey::EvictLongestOffline,
        },
        used: seen.used,
        free: (limits.sessions_max > 0).then(|| limits.sessions_max.saturating_sub(seen.used)),
        warning: seen.warning,
        high_water: ShownMark {
            sessions: seen.high_water.units,
            at: seen.high_water.at.0 / 1000,
        },
        refused: ShownRefusals {
            sessions: seen.refused.sessions,
            principal: seen.refused.principal,
            listener: seen.refused.listener,
        },
        online: census.online,
        offline: census.offline,
        never_resumed: census.never_resumed,
        free_within: FreeWithin { hour, day },
        reserved: report
            .reserves
            .into_iter()
            .map(|reserve| ShownReserve {
                name: reserve.name.into(),
                sessions: reserve.units,
                used: reserve.used,
            })
            .collect(),
        principal_sessions_max: limits.principal_sessions_max,
        principals: report
            .principals
            .into_iter()
            .map(|principal| ShownPrincipal {
                name: principal.name.as_str().to_owned(),
                used: principal.used,
                sessions_max: principal.limit,
            })
            .collect(),
        other_principals: report.others,
        listeners: report
            .listeners
            .into_iter()
            .map(|(listen, used, sessions_max)| ShownListener {
                listen: listen.as_str().to_owned(),
                used,
                sessions_max,
            })
            .collect(),
        client_id_prefixes: census
            .top(top)
            .into_iter()
            .map(|(prefix, count)| ShownPrefix {
                tenant: prefix.tenant.map(str::to_owned),
                prefix: prefix.text.to_owned(),
                online: count.online,
                offline: count.offline,
            })
            .collect(),
        other_prefixes: census.other_prefixes,
    }
}

// --- PUT /api/v1/quota

/// What may be changed; what is not there stays. A list replaces the one before.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    sessions_max: Option<u32>,
    policy: Option<QuotaPolicyKey>,
    principal_sessions_max: Option<u32>,
    principals: Option<Vec<PrincipalQuotaConfig>>,
    listeners: Option<Vec<ListenerQuotaConfig>>,
    reserved: Option<Vec<ReserveChange>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReserveChange {
    name: String,
    sessions: u32,
}

pub(super) async fn change(
    request: HttpRequest,
    api: web::Data<Api>,
    change: web::Json<Change>,
) -> HttpResponse {
    if let Err(denied) = api.guard.may_change(&request) {
        return denied.into();
    }
    let change = match QuotaChange::try_from(change.into_inner()) {
        Ok(change) => change,
        Err(why) => return Denied::BadRequest(why).into(),
    };
    let quota = &api.quota.quota;
    match quota.change(change).await {
        Ok(limits) => {
            tracing::info!(
                sessions_max = limits.sessions_max,
                peer = request.peer_addr().map(tracing::field::display),
                "quota changed by the API"
            );
            answer(quota, &limits, TOP).await
        }
        Err(stopped @ ChangeError::Stopped) => Denied::Internal(stopped.to_string()).into(),
        Err(why) => Denied::BadRequest(why.to_string()).into(),
    }
}

impl TryFrom<Change> for QuotaChange {
    type Error = String;

    fn try_from(change: Change) -> Result<Self, Self::Error> {
        let of = |key: &str, sessions: Option<u32>| {
            let checked = sessions.map(|sessions| checked(key, sessions));
            checked.transpose()
        };
        let principals = change.principals.map(|all| {
            let named = all
                .iter()
                .map(|known| (Principal::from(known.name.as_str()), known.sessions_max));
            distinct("principals", named)
        });
        let listeners = change.listeners.map(|all| {
            let name = |address: SocketAddr| Listener::from(address.to_string().as_str());
            let named = all
                .iter()
                .map(|known| (name(known.listen), known.sessions_max));
            distinct("listeners", named)
        });
        let reserved = (change.reserved.into_iter().flatten())
            .map(|reserve| (reserve.name.into(), reserve.sessions));
        Ok(Self {
            sessions_max: of("sessions_max", change.sessions_max)?,
            policy: change.policy.map(Into::into),
            principal_sessions_max: of("principal_sessions_max", change.principal_sessions_max)?,
            principals: principals.transpose()?,
            listeners: listeners.transpose()?,
            reserved: distinct("reserved", reserved)?,
        })
    }
}

fn checked(key: &str, sessions: u32) -> Result<u64, String> {
    if sessions > SESSIONS_MAX {
        return Err(format!("{key}: {sessions} is not from 0 to {SESSIONS_MAX}"));
    }
    Ok(u64::from(sessions))
}

fn distinct<K: Ord>(
    key: &str,
    named: impl Iterator<Item = (K, u32)>,
) -> Result<BTreeMap<K, u64>, String> {
    let mut all = BTreeMap::new();
    for (name, sessions) in named {
        if all.insert(name, checked(key, sessions)?).is_some() {
            return Err(format!("{key}: a name is there twice"));
        }
    }
    Ok(all)
}

// --- GET /api/v1/quota/usage

/// Which intervals, in seconds of Unix time.
#[derive(Debug, Deserialize)]
pub(super) struct UsageQuery {
    from: Option<u64>,
    to: Option<u64>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
struct UsageAnswer {
    intervals: Vec<UsageLine>,
}

pub(super) async fn usage(
    request: HttpRequest,
    api: web::Data<Api>,
    query: web::Query<UsageQuery>,
) -> HttpResponse {
    if let Err(denied) = api.guard.may_look(&request) {
        return denied.into();
    }
    let files = Arc::clone(&api.quota.usage);
    let (from, to) = (query.from.unwrap_or(0), query.to.unwrap_or(u64::MAX));
    let lines_max = query.limit.unwrap_or(LINES_MAX).min(LINES_MAX);
    match web::block(move || files.read(from, to, lines_max)).await {
        Ok(Ok(intervals)) => HttpResponse::Ok().json(UsageAnswer { intervals }),
        Ok(Err(error)) => Denied::Internal(error.to_string()).into(),
        Err(error) => Denied::Internal(error.to_string()).into(),
    }
}
