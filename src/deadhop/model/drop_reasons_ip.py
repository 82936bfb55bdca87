"""Drop reasons of IP: receipt, routing, forwarding, fragments, neighbours, ICMP, netfilter.

Functions and files: Linux 6.1, 6.12 and 7.2; counters: specification "Linux forwarding" §5 and include/uapi/linux/snmp.h.
"""

from __future__ import annotations

from deadhop.model.drop_reasons_entry import row

IP4, IP6, FIB = "net/ipv4/ip_input.c", "net/ipv6/ip6_output.c", "net/ipv4/fib_frontend.c"
ROUTE, NEIGH, NDISC = "net/ipv4/route.c", "net/core/neighbour.c", "net/ipv6/ndisc.c"

IP_REASONS = (
    row("PKT_TOO_SMALL", "shorter than its headers say, or than the protocol needs", "ip", "5.17",
        "ip_rcv_core ip6_rcv_core icmp_rcv udp_rcv tcp_v4_rcv", f"{IP4} net/ipv4/udp.c net/ipv4/tcp_ipv4.c",
        "IpExt:InTruncatedPkts Ip6InTruncatedPkts Udp:InErrors"),
    row("NETFILTER_DROP", "a rule dropped or rejected it: nft, iptables, ipvs or a bridge's netfilter", "netfilter", "5.18",
        "nft_do_chain nf_hook_slow nf_reinject", "net/netfilter/core.c net/netfilter/nf_tables_core.c", "Ip:OutDiscards",
        "docker-sets-forward-policy-drop node-firewall-rejects-pod-traffic icmp-frag-needed-dropped-by-node-firewall "
        "netfilter-rpfilter-rule-drops-pod-traffic conntrack-table-full conntrack-invalid-drop-asymmetric-routing "
        "host-vpn-firewall-rejects-dns stale-netpol-iptables-rules conntrack-race-on-parallel-udp-dns"),
    row("OTHERHOST", "its link-layer destination is another host's: a promiscuous device, or a wrong MAC address", "ip", "5.18",
        "ip_rcv_core ip6_rcv_core", f"{IP4} net/ipv6/ip6_input.c", "", "udev-rewrites-veth-mac"),
    row("IP_CSUM", "the IPv4 header's checksum is wrong", "ip", "5.18", "ip_rcv_core", IP4, "IpExt:InCsumErrors Ip:InHdrErrors",
        "nic-tx-offload-corrupts-large-packets"),
    row("IP_INHDR", "TTL or hop limit used up, or a header that may not be on a wire", "ip", "5.18",
        "ip_rcv_core ip_forward ip6_rcv_core ip6_forward ip_rcv_options", f"{IP4} net/ipv4/ip_forward.c {IP6}",
        "Ip:InHdrErrors Ip6InHdrErrors"),
    row("IP_RPFILTER", "the route back to the source does not use the device it came from", "ip", "5.18",
        "ip_rcv_finish_core __fib_validate_source", f"{IP4} {FIB}", "TcpExt:IPReversePathFilter",
        "rp-filter-drops-asymmetric-pod-reply rp-filter-overwritten-by-systemd-sysctl rp-filter-enabled-globally-on-node"),
    row("UNICAST_IN_L2_MULTICAST", "a unicast IP packet in a frame to a link-layer multicast or broadcast address", "ip", "5.18",
        "ip_rcv_finish_core", IP4),
    row("XFRM_POLICY", "an IPsec policy wants protection that the packet does not have, or the reverse", "ip", "5.18",
        "ip_forward ip6_forward udp_queue_rcv_one_skb tcp_v4_rcv ip_protocol_deliver_rcu", "net/ipv4/ip_forward.c net/xfrm/xfrm_policy.c",
        "XfrmInNoPols XfrmInPolBlock"),
    row("IP_NOPROTO", "no handler for its protocol, and no raw socket took it; ICMP protocol unreachable is sent", "ip", "5.18",
        "ip_protocol_deliver_rcu ip6_protocol_deliver_rcu", f"{IP4} net/ipv6/ip6_input.c", "Ip:InUnknownProtos Ip6InUnknownProtos"),
    row("IP_OUTNOROUTES", "the lookup of a route for a packet of this host failed", "ip", "5.18",
        "__ip_queue_xmit inet6_csk_xmit tcp_v6_send_response vxlan_xmit_one", "net/ipv4/ip_output.c", "Ip:OutNoRoutes Ip6OutNoRoutes",
        "aaaa-without-ipv6-route"),
    row("BPF_CGROUP_EGRESS", "a BPF program on the sender's cgroup refused it", "ip", "5.18",
        "ip_finish_output ip6_finish_output ip_mc_finish_output", "net/ipv4/ip_output.c net/ipv6/ip6_output.c", ""),
    row("IPV6DISABLED", "IPv6 is off on the device (disable_ipv6)", "ip", "5.18", "ip6_rcv_core ip6_output",
        f"net/ipv6/ip6_input.c {IP6}", "Ip6InDiscards Ip6OutDiscards"),
    row("ICMP_CSUM", "the ICMP checksum is wrong", "ip", "5.19", "icmp_rcv icmpv6_rcv", "net/ipv4/icmp.c net/ipv6/icmp.c",
        "Icmp:InCsumErrors Icmp6InCsumErrors"),
    row("INVALID_PROTO", "against the rules of its protocol, as a broadcast timestamp request or a packet that is no IPv4", "ip", "5.19",
        "icmp_rcv ip_route_input_slow ip_mc_validate_source", f"net/ipv4/icmp.c {ROUTE}"),
    row("IP_INADDRERRORS", "not for this host, and it does not forward", "ip", "5.19", "ip_error ip6_forward",
        f"{ROUTE} {IP6}", "Ip:InAddrErrors Ip6InAddrErrors", "ip-forward-disabled-by-sysctl-file"),
    row("IP_INNOROUTES", "no route to the destination", "ip", "5.19", "ip_error ip6_pkt_discard ip6_pkt_prohibit",
        f"{ROUTE} net/ipv6/route.c", "IpExt:InNoRoutes Ip6InNoRoutes",
        "foreign-ip-rule-table-lacks-pod-routes networkd-deletes-foreign-ip-rules networkmanager-manages-cni-interfaces"),
    row("IP_LOCAL_SOURCE", "its source is an address of this host", "ip", "6.13", "ip_rcv_finish_core fib_validate_source", FIB,
        "", "cni-selected-wrong-node-interface"),
    row("IP_INVALID_SOURCE", "its source cannot be one: multicast, broadcast, zero", "ip", "6.13",
        "ip_rcv_finish_core ip_route_input_slow __fib_validate_source", f"{ROUTE} {FIB}"),
    row("IP_LOCALNET", "127/8 on a wire without route_localnet", "ip", "6.13", "ip_rcv_finish_core ip_route_input_slow", ROUTE,
        "", "iptables-flush-lost-hostport-rules"),
    row("IP_INVALID_DEST", "its destination cannot be one: zero, or a broadcast that may not be forwarded", "ip", "6.13",
        "ip_rcv_finish_core ip_route_input_slow", ROUTE),
    row("PKT_TOO_BIG", "larger than the way out and not to be fragmented", "ip", "5.19",
        "ip_forward ip6_forward ip6_xmit do_output", f"net/ipv4/ip_forward.c {IP6} net/openvswitch/actions.c",
        "Ip:FragFails Ip6InTooBigErrors Ip6FragFails",
        "path-mtu-drops-df-udp-dns-response tunnel-mtu-exceeds-underlay host-route-mtu-ignores-node-encryption "
        "mss-clamp-missing-on-tunnel-path tunnel-without-pmtu-discovery inner-overlay-mtu-exceeds-vpn-egress-mtu "
        "dind-bridge-mtu-exceeds-pod-mtu docker-user-network-ignores-daemon-mtu route-mtu-not-visible-to-nested-vm "
        "icmp-frag-needed-dropped-by-node-firewall icmp-frag-needed-dropped-by-networkpolicy"),
    row("DUP_FRAG", "a fragment that was there already", "ip", "6.2", "ip_frag_queue nf_ct_frag6_queue ip6_frag_queue",
        "net/ipv4/ip_fragment.c net/ipv6/netfilter/nf_conntrack_reasm.c", "Ip:ReasmFails"),
    row("FRAG_REASM_TIMEOUT", "fragments whose siblings did not come in time", "ip", "6.2", "ip_expire ip6frag_expire_frag_queue "
        "inet_frag_destroy", "net/ipv4/ip_fragment.c net/ipv4/inet_fragment.c", "Ip:ReasmTimeout Ip:ReasmFails Ip6ReasmTimeout",
        "udp-dns-response-fragments-dropped fragments-reordered-dropped-by-datapath"),
    row("FRAG_TOO_FAR", "a fragment too many packets behind its siblings (net.ipv4.ipfrag_max_dist)", "ip", "6.2", "ip_frag_reinit",
        "net/ipv4/ip_fragment.c", "Ip:ReasmFails", "udp-dns-response-fragments-dropped"),
    row("IPV6_BAD_EXTHDR", "an extension header that may not be, or not there", "ip", "6.3", "ipv6_rthdr_rcv ipv6_destopt_rcv "
        "ipv6_frag_rcv", "net/ipv6/exthdrs.c net/ipv6/reassembly.c", "Ip6InHdrErrors"),
    row("IPV6_TOO_MANY_EXTHDRS", "more extension headers than the kernel follows", "ip", "7.2", "ip6_protocol_deliver_rcu",
        "net/ipv6/ip6_input.c", "Ip6InHdrErrors"),
    row("IPV6_NDISC_FRAG", "neighbour discovery in a fragment (suppress_frag_ndisc)", "ndisc", "6.3", "ndisc_rcv", NDISC),
    row("IPV6_NDISC_HOP_LIMIT", "neighbour discovery from behind a router: hop limit below 255", "ndisc", "6.3", "ndisc_rcv", NDISC),
    row("IPV6_NDISC_BAD_CODE", "neighbour discovery with a code that is not 0", "ndisc", "6.3", "ndisc_rcv", NDISC),
    row("IPV6_NDISC_BAD_OPTIONS", "neighbour discovery with options that do not parse", "ndisc", "6.3",
        "ndisc_recv_ns ndisc_recv_na ndisc_recv_rs ndisc_router_discovery ndisc_redirect_rcv", NDISC),
    row("IPV6_NDISC_NS_OTHERHOST", "a neighbour solicitation for an address of somebody else", "ndisc", "6.3", "ndisc_recv_ns", NDISC),
    row("NEIGH_CREATEFAIL", "no neighbour entry could be made: the table is full", "neighbour", "5.18",
        "ip_finish_output2 ip6_finish_output2", "net/ipv4/ip_output.c net/ipv6/ip6_output.c", "", "neighbour-table-overflow"),
    row("NEIGH_FAILED", "the next hop does not answer ARP or neighbour discovery", "neighbour", "5.18",
        "neigh_invalidate __neigh_event_send arp_error_report", f"{NEIGH} net/ipv4/arp.c", "",
        "cni-selected-wrong-node-interface udev-rewrites-veth-mac"),
    row("NEIGH_QUEUEFULL", "too many packets already wait for the next hop's link-layer address", "neighbour", "5.18",
        "__neigh_event_send", NEIGH),
    row("NEIGH_DEAD", "the neighbour entry was being deleted", "neighbour", "5.18", "__neigh_event_send", NEIGH),
    row("NEIGH_HH_FILLFAIL", "the link-layer header could not be written", "neighbour", "6.16", "neigh_resolve_output neigh_connected_output",
        NEIGH),
)  # fmt: skip
