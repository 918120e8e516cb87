use super::*;

/// Besides: actix's context and mailbox, tokio's task and registration, and a timer if there is a keep-alive. A task takes
/// its actor and some 430 bytes, in steps of 128: one byte more here costs as many.
#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<Connection>();
    assert!(bytes <= 208, "{bytes}");
    assert_eq!(size_of::<Drive>(), 0);
}
