use super::*;

#[test]
fn an_idle_connection_is_small() {
    // Besides: actix's context and mailbox, tokio's registration, and a timer if there is a keep-alive.
    let bytes = size_of::<Connection>();
    println!("Connection: {bytes} bytes, Sleep: {}", size_of::<Sleep>());
    assert!(bytes <= 448, "{bytes}");
    assert_eq!(size_of::<Drive>(), 0);
}
