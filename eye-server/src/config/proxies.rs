//! Proxies that are believed to say who their client is.

use std::net::IpAddr;

use axum::http::HeaderMap;
use serde_json::{Value as Json, json};

use super::value::{Value, wrong};
use crate::serve::Peer;

const FORWARDED: &str = "x-forwarded-for";

/// Holds addresses and networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    networks: Vec<Network>,
    local: bool,
}

/// The addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u32,
}

impl Proxies {
    /// Returns the address of the client behind `peer`, as far as only trusted proxies have told: the last address of
    /// `X-Forwarded-For` that is not a trusted proxy's. `None` for a process of this machine.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> Option<IpAddr> {
        let trusted = match peer {
            Peer::Ip(address) => self.trusts(address),
            Peer::Local => self.local,
        };
        let mut client = match peer {
            Peer::Ip(address) => Some(address),
            Peer::Local => None,
        };
        if !trusted {
            return client;
        }
        let told = headers.get_all(FORWARDED).iter();
        let told: Vec<&str> = told
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .collect();
        for text in told.iter().rev() {
            // What cannot be read was not written by a proxy that is to be trusted.
            let Some(address) = address(text.trim()) else {
                break;
            };
            client = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(address))
    }
}

/// Reads an address, with a port behind it or without.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || {
        text.parse::<std::net::SocketAddr>()
            .ok()
            .map(|text| text.ip())
    };
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse().ok().or_else(with_port)?;
    Some(IpAddr::to_canonical(&address))
}

impl Network {
    fn read(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    fn holds(self, address: IpAddr) -> bool {
        let (ours, theirs, length) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u128::from(ours.to_bits()), u128::from(theirs.to_bits()), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits(), theirs.to_bits(), 128),
            _ => return false,
        };
        // A shift by all bits leaves nothing to compare.
        let differ = (ours ^ theirs).checked_shr(length - self.bits);
        differ.unwrap_or(0) == 0
    }
}

impl Value for Proxies {
    fn read(&mut self, text: &str) -> Result<(), String> {
        let mut read = Self::default();
        for name in text.split(',').map(str::trim) {
            if name == "unix" {
                read.local = true;
                continue;
            }
            let network = Network::read(name).ok_or_else(|| {
                wrong(
                    name,
                    "addresses like 10.0.0.1 or ::1, networks like 10.0.0.0/8, or unix",
                )
            })?;
            read.networks.push(network);
        }
        *self = read;
        Ok(())
    }

    fn text(&self, _unit: &str) -> String {
        let networks = self.networks.iter().map(|network| {
            let whole = if network.address.is_ipv4() { 32 } else { 128 };
            if network.bits == whole {
                network.address.to_string()
            } else {
                format!("{}/{}", network.address, network.bits)
            }
        });
        let local = self.local.then(|| "unix".to_owned());
        networks.chain(local).collect::<Vec<_>>().join(",")
    }

    fn json(&self) -> Json {
        let text = self.text("");
        json!(
            text.split(',')
                .filter(|name| !name.is_empty())
                .collect::<Vec<_>>()
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(proxies: &str, peer: &str, told: &[&str]) -> String {
        let mut trusted = Proxies::default();
        if !proxies.is_empty() {
            trusted.read(proxies).unwrap();
            assert_eq!(trusted.text(""), proxies);
        }
        let mut headers = HeaderMap::new();
        for told in told {
            headers.append(FORWARDED, told.parse().unwrap());
        }
        let peer = peer.parse().map_or(Peer::Local, Peer::Ip);
        let client = trusted.client(peer, &headers);
        client.map_or_else(|| "-".to_owned(), |client| client.to_string())
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        for (proxies, peer, told, expected) in [
            ("", "9.9.9.9", &["1.2.3.4"][..], "9.9.9.9"),
            ("10.0.0.0/8", "9.9.9.9", &["1.2.3.4"], "9.9.9.9"),
            ("10.0.0.0/8", "10.1.2.3", &["1.2.3.4"], "1.2.3.4"),
            // What the client wrote itself stands left of what the proxy added.
            ("10.0.0.0/8", "10.1.2.3", &["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
            (
                "10.0.0.0/8",
                "10.1.2.3",
                &["6.6.6.6", "1.2.3.4, 10.0.0.7"],
                "1.2.3.4",
            ),
            ("10.0.0.0/8", "10.1.2.3", &["1.2.3.4, nonsense"], "10.1.2.3"),
            ("10.0.0.0/8", "10.1.2.3", &[], "10.1.2.3"),
            (
                "::1,2001:db8::/32",
                "2001:db8::5",
                &["[2001:db9::1]:443"],
                "2001:db9::1",
            ),
            ("10.0.0.1", "10.0.0.1", &["1.2.3.4:5678"], "1.2.3.4"),
            ("0.0.0.0/0", "10.0.0.1", &["1.2.3.4"], "1.2.3.4"),
            ("10.0.0.1", "unix", &["1.2.3.4"], "-"),
            ("unix", "unix", &["1.2.3.4"], "1.2.3.4"),
        ] {
            assert_eq!(
                client(proxies, peer, told),
                expected,
                "{proxies} {peer} {told:?}"
            );
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in [
            "10.0.0.0/33",
            "proxy.example",
            "10.0.0.1,",
            "::/129",
            "1.2.3.4/x",
        ] {
            assert!(Proxies::default().read(text).is_err(), "{text}");
        }
    }
}
