//! Sorts IP addresses into kinds and says which kinds a connection may reach. Knows nothing of names or grants.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is for, in the terms of the IANA special-purpose registries (RFC 6890).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKind {
    /// Routed on the Internet.
    Public,
    /// RFC 1918, carrier-grade NAT (RFC 6598) and unique local IPv6 (RFC 4193).
    Private,
    /// 169.254.0.0/16 and fe80::/10; clouds answer with machine credentials there.
    LinkLocal,
    /// This machine.
    Loopback,
    /// Unspecified, multicast, broadcast, reserved: nothing that a client should speak to.
    Special,
}

impl AddressKind {
    /// The kind of `address`. IPv4 addresses inside IPv6 ones (mapped, NAT64, 6to4) count as what they carry:
    /// `::ffff:127.0.0.1` is loopback.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => of_v4(v4),
            IpAddr::V6(v6) => match embedded_v4(v6) {
                Some(v4) => of_v4(v4),
                None => of_v6(v6),
            },
        }
    }

    /// The word for messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Loopback => "loopback",
            Self::Special => "reserved",
        }
    }
}

fn of_v4(v4: Ipv4Addr) -> AddressKind {
    let [a, b, ..] = v4.octets();
    if v4.is_loopback() {
        AddressKind::Loopback
    } else if v4.is_link_local() {
        AddressKind::LinkLocal
    } else if v4.is_private() || (a == 100 && (64..128).contains(&b)) {
        AddressKind::Private
    } else if a == 0 || a >= 224 {
        AddressKind::Special
    } else {
        AddressKind::Public
    }
}

fn of_v6(v6: Ipv6Addr) -> AddressKind {
    if v6.is_loopback() {
        AddressKind::Loopback
    } else if v6.is_unicast_link_local() {
        AddressKind::LinkLocal
    } else if v6.is_unique_local() || v6.segments()[0] & 0xffc0 == 0xfec0 {
        AddressKind::Private
    } else if v6.is_unspecified() || v6.is_multicast() {
        AddressKind::Special
    } else {
        AddressKind::Public
    }
}

fn embedded_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = v6.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] => Some(v4(high, low)),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 || low > 1 => Some(v4(high, low)),
        _ => None,
    }
}

/// The kinds of addresses that one connection may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Addresses of the Internet.
    pub public: bool,
    /// Addresses of the local network.
    pub private: bool,
    /// Link-local addresses.
    pub link_local: bool,
    /// This machine.
    pub loopback: bool,
}

impl Reach {
    /// The Internet and nothing near.
    pub const PUBLIC: Self = Self { public: true, private: false, link_local: false, loopback: false };
    /// Whatever a user may name by hand; not link-local, because no service lives there under a name.
    pub const NAMED_BY_USER: Self = Self { public: true, private: true, link_local: false, loopback: true };
    /// This machine only.
    pub const LOOPBACK: Self = Self { public: false, private: false, link_local: false, loopback: true };

    /// Exactly one kind. [`AddressKind::Special`] gives a reach that admits nothing.
    pub fn only(kind: AddressKind) -> Self {
        Self {
            public: kind == AddressKind::Public,
            private: kind == AddressKind::Private,
            link_local: kind == AddressKind::LinkLocal,
            loopback: kind == AddressKind::Loopback,
        }
    }

    /// This and also addresses of `kind`.
    pub fn and(self, kind: AddressKind) -> Self {
        let other = Self::only(kind);
        Self {
            public: self.public || other.public,
            private: self.private || other.private,
            link_local: self.link_local || other.link_local,
            loopback: self.loopback || other.loopback,
        }
    }

    /// Whether a connection to `address` is allowed.
    pub fn admits(self, address: IpAddr) -> bool {
        match AddressKind::of(address) {
            AddressKind::Public => self.public,
            AddressKind::Private => self.private,
            AddressKind::LinkLocal => self.link_local,
            AddressKind::Loopback => self.loopback,
            AddressKind::Special => false,
        }
    }
}

/// The address that a host of a URL spells out, if it is no name. Brackets around IPv6 are allowed.
pub fn literal(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Whether `host` (without port) always means this machine: `localhost`, names below it (RFC 6761), 127.0.0.0/8, ::1.
pub fn is_loopback_host(host: &str) -> bool {
    if let Some(address) = literal(host) {
        return AddressKind::of(address) == AddressKind::Loopback;
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, kind: AddressKind) {
        assert_eq!(AddressKind::of(address.parse().unwrap()), kind, "{address}");
    }

    #[test]
    fn addresses_have_kinds() {
        check("93.184.216.34", AddressKind::Public);
        check("2606:2800:220:1::1", AddressKind::Public);
        check("127.8.9.1", AddressKind::Loopback);
        check("::1", AddressKind::Loopback);
        check("10.0.0.1", AddressKind::Private);
        check("172.31.255.255", AddressKind::Private);
        check("172.32.0.1", AddressKind::Public);
        check("192.168.1.1", AddressKind::Private);
        check("100.64.0.1", AddressKind::Private);
        check("fd00::1", AddressKind::Private);
        check("169.254.169.254", AddressKind::LinkLocal);
        check("fe80::1", AddressKind::LinkLocal);
        check("0.0.0.0", AddressKind::Special);
        check("::", AddressKind::Special);
        check("224.0.0.1", AddressKind::Special);
        check("255.255.255.255", AddressKind::Special);
        check("ff02::1", AddressKind::Special);
    }

    #[test]
    fn v4_inside_v6_is_looked_through() {
        check("::ffff:127.0.0.1", AddressKind::Loopback);
        check("::ffff:10.1.2.3", AddressKind::Private);
        check("64:ff9b::a9fe:a9fe", AddressKind::LinkLocal);
        check("2002:7f00:1::", AddressKind::Loopback);
        check("::10.0.0.1", AddressKind::Private);
    }

    #[test]
    fn reach_admits_what_it_names() {
        let local: IpAddr = "127.0.0.1".parse().unwrap();
        assert!(!Reach::PUBLIC.admits(local));
        assert!(Reach::PUBLIC.and(AddressKind::Loopback).admits(local));
        assert!(Reach::LOOPBACK.admits(local));
        assert!(!Reach::NAMED_BY_USER.admits("169.254.169.254".parse().unwrap()));
        assert!(!Reach::only(AddressKind::Special).admits("0.0.0.0".parse().unwrap()));
    }

    #[test]
    fn loopback_hosts_are_known_by_name() {
        for host in ["localhost", "LOCALHOST", "x.localhost", "localhost.", "127.0.0.1", "127.9.9.9", "[::1]", "::1"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in ["localhost.example", "notlocalhost", "10.0.0.1", "example.com"] {
            assert!(!is_loopback_host(host), "{host}");
        }
    }
}
