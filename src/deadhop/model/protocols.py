"""Names and numbers of IP: protocols, DSCP and TOS names, TCP flags, ICMP types and codes.

Sources: IANA "Protocol Numbers", "DSCP", "ICMP Parameters"; iproute2's ``rt_dsfield``; nft(8).
"""

from __future__ import annotations

ICMP, TCP, UDP, DCCP, ICMPV6, SCTP, UDPLITE = 1, 6, 17, 33, 58, 132, 136

#: Protocol names as ``/etc/protocols``, nft and iptables write them.
PROTOCOLS: dict[str, int] = {
    "ip": 0, "hopopt": 0, "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "ipip": 4, "st": 5, "tcp": 6, "egp": 8,
    "udp": 17, "dccp": 33, "ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44, "rsvp": 46, "gre": 47, "esp": 50,
    "ipv6-crypt": 50, "ah": 51, "ipv6-auth": 51, "ipv6-icmp": 58, "icmpv6": 58, "icmp6": 58, "ipv6-nonxt": 59,
    "ipv6-opts": 60, "eigrp": 88, "ospf": 89, "pim": 103, "comp": 108, "vrrp": 112, "l2tp": 115, "isis": 124,
    "sctp": 132, "mh": 135, "mobility-header": 135, "udplite": 136, "mptcp": 262,
}  # fmt: skip

#: DSCP code points by name (6 bits), as nft prints them.
DSCP: dict[str, int] = {
    "cs0": 0, "cs1": 8, "cs2": 16, "cs3": 24, "cs4": 32, "cs5": 40, "cs6": 48, "cs7": 56,
    "af11": 10, "af12": 12, "af13": 14, "af21": 18, "af22": 20, "af23": 22, "af31": 26, "af32": 28, "af33": 30,
    "af41": 34, "af42": 36, "af43": 38, "ef": 46, "va": 44, "lephb": 1, "df": 0, "be": 0,
}  # fmt: skip

#: TOS bytes by the names of iproute2's rt_dsfield.
DSFIELD: dict[str, int] = {
    "default": 0, "lowdelay": 0x10, "throughput": 0x08, "reliability": 0x04, "mincost": 0x02,
    **{name: code << 2 for name, code in DSCP.items()},
    **{name.upper(): code << 2 for name, code in DSCP.items()},
}  # fmt: skip

ECN: dict[str, int] = {"not-ect": 0, "ect1": 1, "ect0": 2, "ce": 3}

#: Bits of the TCP flag byte.
TCP_FLAGS: dict[str, int] = {
    "fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "ece": 64, "cwr": 128,
}  # fmt: skip

ICMP_TYPES: dict[str, int] = {
    "echo-reply": 0, "pong": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "ping": 8, "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "ttl-exceeded": 11,
    "parameter-problem": 12, "timestamp-request": 13, "timestamp-reply": 14, "info-request": 15, "info-reply": 16,
    "address-mask-request": 17, "address-mask-reply": 18,
}  # fmt: skip

ICMPV6_TYPES: dict[str, int] = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "ttl-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130, "mld-listener-report": 131,
    "mld-listener-done": 132, "mld-listener-reduction": 132, "nd-router-solicit": 133, "router-solicitation": 133,
    "nd-router-advert": 134, "router-advertisement": 134, "nd-neighbor-solicit": 135, "neighbor-solicitation": 135,
    "nd-neighbor-advert": 136, "neighbor-advertisement": 136, "nd-redirect": 137, "redirect": 137,
    "router-renumbering": 138, "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip

#: Codes of ICMP type 3 by the names of nft and of iptables' ``--reject-with icmp-…``.
UNREACHABLE_CODES: dict[str, int] = {
    "net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "proto-unreachable": 2,
    "port-unreachable": 3, "frag-needed": 4, "fragmentation-needed": 4, "net-prohibited": 9, "net-prohib": 9,
    "host-prohibited": 10, "host-prohib": 10, "admin-prohibited": 13, "admin-prohib": 13,
}  # fmt: skip

#: Codes of ICMPv6 type 1.
UNREACHABLE_CODES6: dict[str, int] = {
    "no-route": 0, "admin-prohibited": 1, "beyond-scope": 2, "addr-unreachable": 3, "address-unreachable": 3,
    "port-unreachable": 4, "policy-fail": 5, "reject-route": 6,
}  # fmt: skip

#: nft's ``icmpx`` codes in both families (nft_reject.c, icmp_code_v4 and icmp_code_v6).
ICMPX_CODES: dict[str, tuple[int, int]] = {
    "no-route": (0, 0), "port-unreachable": (3, 4), "host-unreachable": (1, 3), "admin-prohibited": (13, 1),
}  # fmt: skip

#: ICMP types that are errors: no error is ever sent about them (RFC 1122 3.2.2; icmp_pointers in net/ipv4/icmp.c).
ICMP_ERRORS = frozenset((3, 4, 5, 11, 12))
