use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// IPv4 networks that are nobody's on the Internet (IANA IPv4 Special-Purpose Address Registry), multicast and what is reserved.
const SPECIAL_V4: [Ipv4Net; 15] = [
    v4([0, 0, 0, 0], 8),
    v4([10, 0, 0, 0], 8),
    v4([100, 64, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v4([169, 254, 0, 0], 16),
    v4([172, 16, 0, 0], 12),
    v4([192, 0, 0, 0], 24),
    v4([192, 0, 2, 0], 24),
    v4([192, 88, 99, 0], 24),
    v4([192, 168, 0, 0], 16),
    v4([198, 18, 0, 0], 15),
    v4([198, 51, 100, 0], 24),
    v4([203, 0, 113, 0], 24),
    v4([224, 0, 0, 0], 4),
    v4([240, 0, 0, 0], 4),
];
/// The only IPv6 addresses given to anybody on the Internet (RFC 4291, section 2.4).
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// Protocol assignments (RFC 2928), of which Teredo alone carries traffic to an address of somebody's.
const PROTOCOLS_V6: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23);
const TEREDO: Ipv6Net = v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32);
const DOCUMENTATION_V6: [Ipv6Net; 2] = [v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20)];
const SIX_TO_FOUR: Ipv6Net = v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16);
/// Prefixes whose last 32 bits are an IPv4 address: mapped and compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052).
const ENDS_IN_V4: [Ipv6Net; 4] = [
    v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96),
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),
];
/// NAT64 within one network (RFC 8215): private as such, and an IPv4 address as well.
const LOCAL_NAT64: Ipv6Net = v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48);

/// Where clouds tell a machine its credentials: instance metadata (AWS, Azure, Google and most others), task and pod identity
/// (AWS), Azure's host, Oracle's and Alibaba's metadata.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Which addresses a connection may go to: those of the Internet, and the private networks that the operator has named.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    private: Vec<IpNet>,
}

impl Networks {
    /// Reads networks in CIDR notation.
    ///
    /// # Errors
    /// The first entry that is none.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let network = |entry: &String| entry.parse::<IpNet>().map_err(|_| entry.clone());
        Ok(Self { private: entries.iter().map(network).collect::<Result<_, _>>()? })
    }

    /// Whether a connection may go to `address`. An address that stands for another is judged by that one.
    pub(super) fn permits(&self, address: IpAddr) -> bool {
        if METADATA.contains(&address) {
            return self.private.contains(&IpNet::from(address));
        }
        match address {
            IpAddr::V4(address) => !is_special_v4(address) || self.names(address.into()),
            IpAddr::V6(v6) => {
                let reachable = !is_special_v6(v6) || self.names(address);
                reachable && embedded(v6).into_iter().all(|v4| self.permits(v4.into()))
            }
        }
    }

    fn names(&self, address: IpAddr) -> bool {
        self.private.iter().any(|network| network.contains(&address))
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    SPECIAL_V4.iter().any(|network| network.contains(&address))
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    if address.is_unspecified() || address.is_loopback() {
        return true;
    }
    if ends_in_v4(address) {
        return false;
    }
    !GLOBAL_V6.contains(&address)
        || DOCUMENTATION_V6.iter().any(|network| network.contains(&address))
        || (PROTOCOLS_V6.contains(&address) && !TEREDO.contains(&address))
}

fn ends_in_v4(address: Ipv6Addr) -> bool {
    ENDS_IN_V4.iter().any(|network| network.contains(&address))
}

/// The IPv4 addresses that packets to `address` may end at.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    if address.is_unspecified() || address.is_loopback() {
        return Vec::new();
    }
    let octets = address.octets();
    let at = |start: usize| Ipv4Addr::from([octets[start], octets[start + 1], octets[start + 2], octets[start + 3]]);
    if TEREDO.contains(&address) {
        // The server's address, and the client's with its bits turned over (RFC 4380, section 4).
        return vec![at(4), Ipv4Addr::from_bits(!at(12).to_bits())];
    }
    if SIX_TO_FOUR.contains(&address) {
        return vec![at(2)];
    }
    // ISATAP's interface identifiers (RFC 5214, section 6.1) have any prefix.
    let is_isatap = matches!(octets[8..12], [0 | 2, 0, 0x5e, 0xfe]);
    if ends_in_v4(address) || LOCAL_NAT64.contains(&address) || is_isatap { vec![at(12)] } else { Vec::new() }
}

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(entries: &[&str]) -> Networks {
        Networks::parse(&entries.iter().map(|entry| (*entry).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    fn permits(networks: &Networks, address: &str) -> bool {
        networks.permits(address.parse().unwrap())
    }

    /// The first and the last address of each refused network, and their neighbours outside it where those are public.
    #[test]
    fn refused_networks_end_where_they_end() {
        let networks = networks(&[]);
        let bounds = [
            ("0.0.0.0", "0.255.255.255", None, Some("1.0.0.0")),
            ("10.0.0.0", "10.255.255.255", Some("9.255.255.255"), Some("11.0.0.0")),
            ("100.64.0.0", "100.127.255.255", Some("100.63.255.255"), Some("100.128.0.0")),
            ("127.0.0.0", "127.255.255.255", Some("126.255.255.255"), Some("128.0.0.0")),
            ("169.254.0.0", "169.254.255.255", Some("169.253.255.255"), Some("169.255.0.0")),
            ("172.16.0.0", "172.31.255.255", Some("172.15.255.255"), Some("172.32.0.0")),
            ("192.0.0.0", "192.0.0.255", Some("191.255.255.255"), Some("192.0.1.0")),
            ("192.0.2.0", "192.0.2.255", Some("192.0.1.255"), Some("192.0.3.0")),
            ("192.88.99.0", "192.88.99.255", Some("192.88.98.255"), Some("192.88.100.0")),
            ("192.168.0.0", "192.168.255.255", Some("192.167.255.255"), Some("192.169.0.0")),
            ("198.18.0.0", "198.19.255.255", Some("198.17.255.255"), Some("198.20.0.0")),
            ("198.51.100.0", "198.51.100.255", Some("198.51.99.255"), Some("198.51.101.0")),
            ("203.0.113.0", "203.0.113.255", Some("203.0.112.255"), Some("203.0.114.0")),
            ("224.0.0.0", "255.255.255.255", Some("223.255.255.255"), None),
            ("::", "::1", None, None),
            ("2001:2::", "2001:1ff:ffff::", None, Some("2001:200::")),
            ("2001:db8::", "2001:db8:ffff::ffff", Some("2001:db7:ffff::"), Some("2001:db9::")),
            ("3fff::", "3fff:fff:ffff::", Some("3ffe:ffff::"), Some("3fff:1000::")),
            ("4000::", "ffff::", Some("3fff:ffff::"), None),
            ("64:ff9b:1::808:808", "64:ff9b:1:ffff::808:808", None, None),
            ("100::", "100::ffff:ffff:ffff:ffff", None, None),
            ("5f00::", "5f00:ffff::", None, None),
            ("fc00::", "fdff::ffff", None, None),
            ("fe80::", "febf::1", None, None),
            ("fec0::", "feff::1", None, None),
            ("ff00::", "ffff::1", None, None),
            ("1fff::", "1fff:ffff::", None, Some("2003::")),
        ];
        for (first, last, before, after) in bounds {
            assert!(!permits(&networks, first) && !permits(&networks, last), "{first} to {last}");
            for neighbour in [before, after].into_iter().flatten() {
                assert!(permits(&networks, neighbour), "{neighbour}");
            }
        }
    }

    #[test]
    fn an_address_that_stands_for_another_is_judged_by_it() {
        let networks = networks(&[]);
        // 127.0.0.1 = 7f00:1, 10.0.0.1 = a00:1, 8.8.8.8 = 808:808; turned over ff..: 80ff:fffe, f5ff:fffe, f7f7:f7f7.
        for (refused, permitted) in [
            ("::ffff:127.0.0.1", "::ffff:8.8.8.8"),
            ("::10.0.0.1", "::8.8.8.8"),
            ("::ffff:0:169.254.0.1", "::ffff:0:8.8.8.8"),
            ("64:ff9b::127.0.0.1", "64:ff9b::8.8.8.8"),
            ("2002:7f00:1::1", "2002:808:808::1"),
            ("2002:a00:1:8:8:8:808:808", "2002:808:808:8:8:8:a00:1"),
            ("2001:0:a00:1::f7f7:f7f7", "2001:0:808:808::f7f7:f7f7"),
            ("2001:0:808:808::80ff:fffe", "2001:0:808:808:a00:1:f7f7:f7f7"),
            ("2a00::5efe:10.0.0.1", "2a00::5efe:8.8.8.8"),
            ("2a00::200:5efe:10.0.0.1", "2a00::200:5efe:8.8.8.8"),
        ] {
            assert!(!permits(&networks, refused), "{refused}");
            assert!(permits(&networks, permitted), "{permitted}");
        }
        // Neither makes an identifier that is not ISATAP's an IPv4 address, nor a prefix that is private a public one.
        assert!(permits(&networks, "2a00::100:5efe:10.0.0.1") && permits(&networks, "2a00::5efd:10.0.0.1"));
        assert!(!permits(&networks, "fe80::5efe:8.8.8.8"));
    }

    #[test]
    fn a_named_network_is_open_and_no_other() {
        let networks = networks(&["10.1.2.3/16", "fd00::/8", "::1/128", "64:ff9b:1::/48"]);
        for address in
            ["10.1.0.0", "10.1.255.255", "::ffff:10.1.0.1", "fd12::1", "::1", "64:ff9b:1::8.8.8.8", "64:ff9b:1::10.1.0.1"]
        {
            assert!(permits(&networks, address), "{address}");
        }
        for address in ["10.0.255.255", "10.2.0.0", "::ffff:10.2.0.1", "fc00::1", "::", "64:ff9b:1::10.2.0.1", "127.0.0.1"] {
            assert!(!permits(&networks, address), "{address}");
        }
    }

    #[test]
    fn metadata_must_be_named_exactly() {
        let wide = networks(&["0.0.0.0/0", "::/0", "169.254.169.254/31", "fd00:ec2::254/127"]);
        for address in METADATA {
            assert!(!Networks::default().permits(address) && !wide.permits(address), "{address}");
            let exact = Networks { private: vec![IpNet::from(address)] };
            assert!(exact.permits(address), "{address}");
        }
        for disguise in ["::ffff:169.254.169.254", "64:ff9b::169.254.169.254", "64:ff9b:1::169.254.169.254", "2002:a9fe:a9fe::"] {
            assert!(!permits(&wide, disguise), "{disguise}");
        }
        assert!(permits(&wide, "127.0.0.1") && permits(&wide, "169.254.169.253") && permits(&wide, "fd00:ec2::253"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for wrong in ["10.0.0.1", "10.0.0.0/33", "::/129", "localhost", "", "10/8"] {
            assert_eq!(Networks::parse(&[wrong.to_owned()]).unwrap_err(), wrong);
        }
    }
}
