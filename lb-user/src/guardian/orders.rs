//! What the daemon tells the guardian, one JSON object a line, and never in a hurry: when it starts, when its configuration
//! changes and when it stops.

use std::{io, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    net::UnixStream,
};

use crate::{config::Rule, net::OwnRoute, vrrp::Acceptance};

/// What is to be done about a virtual router once the daemon is dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterOrders {
    /// Its name in logs.
    pub name: String,
    /// The number of its lease, which says whether this node is owner.
    pub lease: u32,
    /// The interface of its adverts.
    pub interface: String,
    /// How the farewell is said, and who is believed to come after this node.
    pub acceptance: Acceptance,
    /// The VIPs, each with the interface that the daemon of an owner puts it on.
    pub vips: Vec<(String, IpNet)>,
    /// The interface that has the virtual router's own MAC address, if there is one; it is up on the owner only.
    pub virtual_mac: Option<String>,
    /// The routes of the owner, by the names of their interfaces, whose numbers are not known before they are needed.
    pub routes: Vec<(Option<String>, OwnRoute)>,
    /// The policy rules of the owner.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// How long to wait for another owner.
    pub patience: Duration,
}

/// From the daemon to the guardian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Message {
    /// From now on, all virtual routers.
    Orders(Vec<RouterOrders>),
    /// The daemon has handed everything over and cleaned up.
    CleanStop,
}

impl Message {
    /// The line that says it.
    pub(super) fn line(&self) -> Vec<u8> {
        // Invariant: no map with keys that are no strings, nothing that fails to be written.
        let mut line = serde_json::to_vec(self).expect("a message is JSON");
        line.push(b'\n');
        line
    }
}

/// The guardian's end.
#[derive(Debug)]
pub(super) struct Inbox {
    lines: Lines<BufReader<UnixStream>>,
}

impl Inbox {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { lines: BufReader::new(stream).lines() }
    }

    /// The next message; `None` when the daemon's end is closed. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<Message>> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        Ok(Some(serde_json::from_str(&line)?))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::config::{ChecksumForm, Password, VrrpVersion};

    fn orders() -> RouterOrders {
        let to = "192.0.2.0/24".parse().unwrap();
        let via = Some([172, 20, 0, 1].into());
        let route = OwnRoute { to, via, source: None, index: None, table: 254, metric: 7, scope: 0 };
        RouterOrders {
            name: "VI_1\n".to_owned(),
            lease: 1,
            interface: "eth0".to_owned(),
            acceptance: Acceptance {
                version: VrrpVersion::V2,
                router_id: 33,
                source: [172, 20, 128, 2].into(),
                peers: vec![[172, 20, 128, 3].into()],
                group: None,
                min_ttl: 255,
                password: Some(Password(*b"letmein\0")),
                authentication: None,
                checksum: ChecksumForm::default(),
                advert_interval: Duration::from_secs(1),
                addresses: vec![[172, 20, 128, 4].into()],
            },
            vips: ["172.20.128.4/24", "2001:db8::4/64"]
                .map(|vip| ("eth0".into(), vip.parse().unwrap()))
                .into(),
            virtual_mac: Some("vrrp.33".to_owned()),
            routes: vec![(Some("eth0".to_owned()), route)],
            rules: vec![Rule {
                is_ipv6: false,
                from: Some("172.20.128.4/32".parse().unwrap()),
                to: None,
                iif: None,
                oif: None,
                mark: None,
                priority: 100,
                table: 77,
            }],
            patience: Duration::from_millis(1_200),
        }
    }

    #[tokio::test]
    async fn messages_arrive_as_they_were_sent_and_then_the_end() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let sent = [Message::Orders(vec![]), Message::Orders(vec![orders(), orders()]), Message::CleanStop];
        for message in &sent {
            near.write_all(&message.line()).await.unwrap();
        }
        drop(near);
        let mut inbox = Inbox::new(far);
        for message in sent {
            assert_eq!(inbox.next().await.unwrap(), Some(message));
        }
        assert_eq!(inbox.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn nonsense_is_an_error() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(b"{}\n").await.unwrap();
        Inbox::new(far).next().await.unwrap_err();
    }
}
