"""The kernel's log (printk texts of net/ and of drivers)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMAT = catalogue(
    "kernel",
    (
        entry(
            "nf-conntrack-table-full",
            r"(?:nf|ip)_conntrack: (?:nf_conntrack: )?table full, dropping packet",
            "net/netfilter/nf_conntrack_core.c",
        ),
        entry(
            "neighbour-table-overflow",
            r"(?P<table>arp_cache|ndisc_cache)[:\s]+(?:neighbou?r )?table overflow|(?:^|[\]:] ?)Neighbou?r table overflow",
            "net/core/neighbour.c",
        ),
        entry(
            "udp-bad-checksum",
            r"UDP: bad checksum\. From (?P<src>\S+?):(?P<sport>\d+) to (?P<dst>\S+?):(?P<dport>\d+)",
            "net/ipv4/udp.c udp4_csum_init",
        ),
        entry(
            "sysctl-missing",
            r"(?:cannot stat|can't open|open) '?/proc/sys/(?P<path>[\w/.-]+)'?: [Nn]o such file or directory",
            "procps sysctl, Go os.PathError",
        ),
        entry(
            "link-ready",
            r"ADDRCONF\(NETDEV_(?:CHANGE|UP)\): (?P<dev>\S+): link (?:becomes|is not) ready",
            "net/ipv6/addrconf.c",
        ),
        entry(
            "tcp-syn-flood",
            r"TCP: request_sock_TCP: Possible SYN flooding on port (?P<port>\S+?)\.",
            "net/ipv4/tcp_input.c",
        ),
    ),
)
