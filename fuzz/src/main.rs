//! One program for all targets; `OUTLIVE_FUZZ_TARGET` names the one to run. The rest is libFuzzer's command line.

#![no_main]
#![allow(dead_code)]

#[path = "../../tests/hostile/targets.rs"]
mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let wanted = std::env::var("OUTLIVE_FUZZ_TARGET").expect("OUTLIVE_FUZZ_TARGET names a target");
    let found = targets::TARGETS.iter().find(|(name, _)| *name == wanted);
    found.unwrap_or_else(|| panic!("no target {wanted}")).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
