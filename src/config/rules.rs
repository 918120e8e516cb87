//! What values must be in view of each other. Ranges of single numbers are in `limits`.

use std::collections::BTreeSet;

use outlive_actors::model::tenant::Tenant;
use outlive_actors::model::topic::is_topic_name;
use toml::Table;

use super::{Config, Problem, TenancyConfig, TenancyKey, limits, shared};
use crate::auth::Users;
use crate::telemetry;

/// Reserves that are looked through for each newcomer.
const RESERVES_MAX: usize = 1000;

/// Every rule that `config` breaks.
pub(super) fn check(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    listeners(config, &mut problems);
    admin(config, &mut problems);
    sizes(config, &mut problems);
    quota(config, &mut problems);
    tenancy(config, &mut problems);
    let prefix = &config.mqtt.response_information;
    if !prefix.is_empty() && !is_topic_name(prefix) {
        problems.push(Problem::new(
            "mqtt.response_information",
            "must be the beginning of a topic: no wildcards",
        ));
    }
    groups(config, &mut problems);
    if let Err(error) = telemetry::filter(&config.telemetry.level) {
        problems.push(Problem::new(
            "telemetry.level",
            format!("{error}; allowed are error, warn, info, debug, trace, off and directives such as info,outlive=debug"),
        ));
    }
    if config.storage.data_dir.as_os_str().is_empty() {
        problems.push(Problem::new("storage.data_dir", "must name a directory"));
    }
    problems
}

fn listeners(config: &Config, problems: &mut Vec<Problem>) {
    let listen = &config.mqtt.listen;
    if listen.is_empty() {
        problems.push(Problem::new(
            "mqtt.listen",
            "must name at least one address and port",
        ));
    }
    let mut seen = BTreeSet::new();
    for address in listen {
        if address.port() != 0 && !seen.insert(address) {
            problems.push(Problem::new(
                "mqtt.listen",
                format!("names {address} more than once"),
            ));
        }
    }
    if users(config, problems) || config.auth.allow_anonymous {
        return;
    }
    for address in listen.iter().filter(|a| !a.ip().is_loopback()) {
        problems.push(Problem::new(
            "auth.allow_anonymous",
            format!(
                "mqtt.listen has {address}, which other machines can reach, and no authentication is set up; \
                 listen on a loopback address such as 127.0.0.1, or set auth.allow_anonymous = true to let everybody in"
            ),
        ));
    }
}

/// Whether there are users, and whether their file can be used.
fn users(config: &Config, problems: &mut Vec<Problem>) -> bool {
    let file = &config.auth.scram_file;
    if file.as_os_str().is_empty() {
        return false;
    }
    if let Err(error) = Users::load(file) {
        problems.push(Problem::new(
            "auth.scram_file",
            format!("{}: {error}", file.display()),
        ));
    }
    true
}

fn admin(config: &Config, problems: &mut Vec<Problem>) {
    let Some(address) = config.admin.listen else {
        return;
    };
    if !address.ip().is_loopback() && !config.admin.allow_remote {
        problems.push(Problem::new(
            "admin.allow_remote",
            format!(
                "admin.listen is {address}, which other machines can reach, and the admin pages ask for no password; \
                 listen on a loopback address such as 127.0.0.1, or set admin.allow_remote = true"
            ),
        ));
    }
    if address.port() != 0 && config.mqtt.listen.contains(&address) {
        problems.push(Problem::new(
            "admin.listen",
            format!("{address} is one of mqtt.listen already"),
        ));
    }
}

fn quota(config: &Config, problems: &mut Vec<Problem>) {
    let quota = &config.quota;
    let mut problem = |key: &str, why: String| problems.push(Problem::new(key, why));
    let mut names = BTreeSet::new();
    let mut reserved: u64 = 0;
    for reserve in &quota.reserved {
        let name = &reserve.name;
        if name.is_empty() || !names.insert(name.as_str()) {
            problem(
                "quota.reserved",
                format!("needs a name of its own for each, not {name:?}"),
            );
        }
        if reserve.client_id_pattern.is_none() && reserve.principal.is_none() {
            let why = format!(
                "{name:?} needs a client_id_pattern or a principal: for everybody there is quota.sessions_max"
            );
            problem("quota.reserved", why);
        }
        reserved += u64::from(reserve.sessions);
    }
    if quota.reserved.len() > RESERVES_MAX {
        problem(
            "quota.reserved",
            format!("has more than {RESERVES_MAX} entries"),
        );
    }
    if !quota.reserved.is_empty() && reserved > u64::from(quota.sessions_max) {
        let why = format!(
            "reserves {reserved} units, but quota.sessions_max is {}{}",
            quota.sessions_max,
            if quota.sessions_max == 0 {
                ", which is no limit to reserve anything of"
            } else {
                ""
            }
        );
        problem("quota.reserved", why);
    }
    let mut principals = BTreeSet::new();
    for principal in &quota.principals {
        if !principals.insert(&principal.name) {
            problem(
                "quota.principals",
                format!("names {:?} more than once", principal.name),
            );
        }
    }
    let mut listeners = BTreeSet::new();
    for listener in &quota.listeners {
        if !config.mqtt.listen.contains(&listener.listen) || !listeners.insert(listener.listen) {
            let why = format!(
                "names {}, which is none of mqtt.listen or named twice",
                listener.listen
            );
            problem("quota.listeners", why);
        }
    }
}

fn tenancy(config: &Config, problems: &mut Vec<Problem>) {
    tenants(&config.tenancy, problems);
    match config.tenancy.by {
        TenancyKey::Off => {}
        TenancyKey::Principal if config.auth.scram_file.as_os_str().is_empty() => {
            let why =
                "must be set for tenancy.by = \"principal\": nothing else gives clients a name";
            problems.push(Problem::new("auth.scram_file", why));
        }
        TenancyKey::Principal => {}
        TenancyKey::Listener => {
            if config.mqtt.listen.iter().any(|address| address.port() == 0) {
                let why = "may not have port 0 with tenancy.by = \"listener\": tenants would have other names after each start";
                problems.push(Problem::new("mqtt.listen", why));
            }
        }
    }
}

/// Whether each entry is of one tenant that there can be, with limits as they can be of all.
fn tenants(tenancy: &TenancyConfig, problems: &mut Vec<Problem>) {
    let mut problem = |why: String| problems.push(Problem::new("tenancy.tenants", why));
    let mut names = BTreeSet::new();
    for tenant in &tenancy.tenants {
        let name = &tenant.name;
        if Tenant::new(name).is_none() {
            problem(format!("names {name:?}, which cannot be a tenant"));
        }
        if !names.insert(name) {
            problem(format!("names {name:?} more than once"));
        }
        let limits = Table::try_from(tenant).expect("every field is a TOML value");
        for (key, value) in &limits {
            if let Some(why) = limits::check(&format!("tenancy.{key}"), value) {
                problem(format!("{name:?}: {key}: {why}"));
            }
        }
    }
}

fn sizes(config: &Config, problems: &mut Vec<Problem>) {
    let mqtt = &config.mqtt;
    if mqtt.write_buffer_max_bytes < mqtt.write_buffer_high_bytes {
        problems.push(Problem::new(
            "mqtt.write_buffer_max_bytes",
            format!(
                "{} is below mqtt.write_buffer_high_bytes, which is {}",
                mqtt.write_buffer_max_bytes, mqtt.write_buffer_high_bytes
            ),
        ));
    }
    let log = &config.log;
    if log.segment_bytes < u64::from(mqtt.packet_bytes_max) {
        problems.push(Problem::new(
            "log.segment_bytes",
            format!(
                "{} is below mqtt.packet_bytes_max, which is {}: a message must fit into a segment",
                log.segment_bytes, mqtt.packet_bytes_max
            ),
        ));
    }
    if log.bytes_max != 0 && log.bytes_max / 2 < log.segment_bytes {
        problems.push(Problem::new(
            "log.bytes_max",
            format!(
                "{} holds less than two segments of log.segment_bytes = {}; 0 means no limit",
                log.bytes_max, log.segment_bytes
            ),
        ));
    }
}

fn groups(config: &Config, problems: &mut Vec<Problem>) {
    let mut seen = BTreeSet::new();
    for text in &config.shared.groups {
        let why = match shared::declared(text) {
            None => format!(
                "{text:?} is no group; write its name, without '/', '+' and '#', or name=strategy with one of the \
                 strategies of shared.strategy"
            ),
            Some((name, _)) if !seen.insert(name) => format!("names {name:?} more than once"),
            Some(_) => continue,
        };
        problems.push(Problem::new("shared.groups", why));
    }
}
