//! How many CONNECTs are taken within a moment, of all and of each tenant.

use outlive_actors::model::ids::Principal;

use super::*;
use crate::auth::{Authentication, Credentials};

const TOO_MANY: &[u8] = b"\x20\x02\x00\x03";

/// Every client is whom it calls itself.
#[derive(Debug)]
struct Believing;

impl Authenticator for Believing {
    fn authenticate<'a>(&'a self, credentials: Credentials<'a>) -> Authentication<'a> {
        let principal = Principal::from(credentials.client_id.as_str());
        Box::pin(std::future::ready(Ok(principal)))
    }
}

/// Two in all at a time and one of each tenant.
fn world(tenancy: Tenancy) -> World {
    World::new(Options {
        listeners: 3,
        authenticator: Arc::new(Believing),
        tenancy,
        tenants_connects_per_second_max: PerTenant {
            each: 1,
            ..PerTenant::default()
        },
        config: WireConfig {
            connects_per_second_max: 2,
            ..WireConfig::default()
        },
        ..Options::default()
    })
}

/// CONNECT as a client with this id, of one letter.
async fn answered(world: &World, listener: usize, id: u8, answer: &[u8]) {
    let mut connect = CONNECT_V311.to_vec();
    *connect.last_mut().unwrap() = id;
    let mut client = world.client_at(listener, &connect).await;
    expect(&mut client, answer).await;
}

fn refused(world: &World) -> [u64; 2] {
    let seen = world.counters.observe();
    [Refusal::TenantConnectRate, Refusal::ConnectRate].map(|refusal| seen.refused(refusal))
}

#[test]
fn what_a_tenant_by_listener_sends_above_its_rate_is_not_at_the_expense_of_others() {
    run(async {
        let world = world(Tenancy::Listener);
        answered(&world, 0, b'a', CONNACK_V3).await;
        for id in [b'a', b'b', b'c'] {
            answered(&world, 0, id, TOO_MANY).await;
        }
        assert_eq!(refused(&world), [3, 0]);
        answered(&world, 1, b'a', CONNACK_V3).await;
        answered(&world, 2, b'a', TOO_MANY).await;
        assert_eq!(refused(&world), [3, 1], "that of all is used up");
    });
}

/// Nobody asks an authenticator more often than the rate of all allows, so nothing is given back.
#[test]
fn a_tenant_by_principal_is_known_when_the_rate_of_all_is_asked_already() {
    run(async {
        let by_name = Tenancy::Principal {
            separator: "".into(),
        };
        let world = world(by_name);
        answered(&world, 0, b'a', CONNACK_V3).await;
        answered(&world, 1, b'a', TOO_MANY).await;
        assert_eq!(refused(&world), [1, 0], "whatever its listener");
        answered(&world, 0, b'b', TOO_MANY).await;
        assert_eq!(refused(&world), [1, 1]);
        // Nobody is held to a rate that was lifted.
        let none = PerTenant::default();
        world.server.set_connects_per_second_max(0, none);
        for id in [b'a', b'b', b'a'] {
            answered(&world, 0, id, CONNACK_V3).await;
        }
    });
}
