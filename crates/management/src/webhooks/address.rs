//! Which addresses a webhook may call: those of the public internet, unless the operator allows
//! others. Otherwise whoever may add webhooks could reach into the broker's own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address belongs to the public internet.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        // "This network", carriers' shared space, protocol assignments, benchmarks, reserved.
        || a == 0
        || (a == 100 && (64..=127).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..=19).contains(&b))
        || a >= 240;
    !is_special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let [a, b, ..] = segments;
    // IPv4 in disguise: mapped and compatible addresses are never needed; NAT64 and 6to4 are judged
    // by the address inside.
    if segments[..5] == [0; 5] {
        return false;
    }
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return embedded(segments[6], segments[7]);
    }
    if a == 0x2002 {
        return embedded(b, segments[2]);
    }
    let is_global_unicast = a & 0xe000 == 0x2000;
    // Teredo, benchmarks and other special purposes; both documentation ranges.
    let is_special = (a == 0x2001 && (b < 0x200 || b == 0xdb8)) || a == 0x3fff;
    is_global_unicast && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let check = |expected: bool, addresses: &[&str]| {
            for address in addresses {
                assert_eq!(is_public(address.parse().expect("an address")), expected, "{address}");
            }
        };
        check(true, &["1.1.1.1", "172.32.0.1", "100.63.0.1", "100.128.0.1", "192.0.1.1"]);
        check(true, &["2606:4700::1111", "2002:101:101::1", "64:ff9b::101:101", "2a00::1"]);
        check(false, &["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "255.255.255.255"]);
        check(false, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.1.1"]);
        check(false, &["100.64.0.1", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1"]);
        check(false, &["::", "::1", "::ffff:1.1.1.1", "::ffff:127.0.0.1", "::1.1.1.1"]);
        check(false, &["fc00::1", "fd12::1", "fe80::1", "fec0::1", "ff02::1", "2001:db8::1"]);
        check(false, &["2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b:1::1", "2001::1", "3fff::1"]);
    }
}
