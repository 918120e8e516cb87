//! The broker ends when a part has died without which its clients would wait for ever.

use std::net::{Ipv4Addr, SocketAddr};

use outlive::broker::{Again, Broker, BrokerError, Signals};
use outlive::config::Config;
use outlive::telemetry;
use outlive_actors::model::ids::ShardId;
use outlive_actors::supervise::vitals::Vital;

#[test]
fn a_broker_ends_with_an_error_when_a_part_has_died() {
    let mut config = Config::default();
    config.mqtt.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    config.admin.listen = None;
    let again = Again {
        load: Box::new(|| Ok(Config::default())),
        level: telemetry::init(&config.telemetry).unwrap(),
    };
    for part in [
        Vital::Appender,
        Vital::Checkpointer,
        Vital::Registry,
        Vital::Shard(ShardId(0)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        config.storage.data_dir = dir.path().join("data");
        let config = config.clone();
        let ended = actix_rt::System::new().block_on(async {
            let broker = Broker::start(config, false).await.unwrap();
            broker.system().kill(part);
            broker.run(Signals::receive().unwrap(), &again).await
        });
        assert!(
            matches!(&ended, Err(BrokerError::Died(dead)) if *dead == part),
            "{ended:?}"
        );
    }
}
