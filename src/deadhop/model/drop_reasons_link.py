"""Drop reasons below IP: devices, queues, traffic control, XDP, bridges and tunnels; and those of no layer.

Functions and files: Linux 6.1, 6.12, 6.18 and 7.2. Since 7.x the qdiscs' own reasons are a subsystem with an enum of
its own (include/net/dropreason-qdisc.h).
"""

from __future__ import annotations

from deadhop.model.drop_reasons_entry import row

DEV, TUN, BRIDGE, VXLAN = (
    "net/core/dev.c",
    "drivers/net/tun.c",
    "net/bridge/br_input.c",
    "drivers/net/vxlan/vxlan_core.c",
)
CLS, FQ = "net/sched/cls_api.c", "net/sched/sch_fq.c"

LINK_REASONS = (
    row("NOT_SPECIFIED",
        "the kernel names no reason: blackhole, unreachable and prohibit routes, a veth peer with a smaller MTU, groups that nobody joined",
        "any", "5.17", "ip_error dst_discard_out __dev_forward_skb2 ip6_fragment ip_rcv_finish_core kfree_skb", "net/core/skbuff.c",
        "", "path-mtu-drops-df-udp-dns-response"),
    row("TC_EGRESS", "a traffic-control program or filter on egress dropped it; Cilium's own drops look like this", "link", "5.18",
        "sch_handle_egress __dev_queue_xmit", DEV, "", "datapath-drops-unsupported-l4-protocol destination-ingress-policy-missing-client"),
    row("TC_INGRESS", "a traffic-control program or filter on ingress dropped it; Cilium's own drops look like this", "link", "5.18",
        "sch_handle_ingress __netif_receive_skb_core", DEV, "",
        "datapath-drops-unsupported-l4-protocol egress-policy-missing-dns-allow icmp-fragments-dropped-by-bpf-nat"),
    row("QDISC_DROP", "the device's queue drops: full, no carrier, or down", "qdisc", "5.18", "__dev_xmit_skb __dev_queue_xmit", DEV,
        "qdisc:dropped"),
    row("QDISC_OVERLIMIT", "the queue's limit is reached", "qdisc", "6.14", "qdisc_drop_reason", "net/sched/sch_cake.c net/sched/sch_codel.c",
        "qdisc:overlimits", until="7.2", renamed="QDISC_DROP_OVERLIMIT of the qdisc subsystem"),
    row("QDISC_CONGESTED", "active queue management (codel, pie, red) dropped it against congestion", "qdisc", "6.14", "qdisc_drop_reason",
        "net/sched/sch_cake.c net/sched/sch_red.c", "qdisc:dropped", until="7.2", renamed="QDISC_DROP_CONGESTED of the qdisc subsystem"),
    row("QDISC_BURST_DROP", "more packets wait for the queue's lock than net.core.qdisc_max_burst allows", "qdisc", "6.19", "__dev_xmit_skb", DEV),
    row("CAKE_FLOOD", "cake's flood protection dropped it", "qdisc", "6.14", "cake_dequeue", "net/sched/sch_cake.c", "qdisc:dropped",
        until="7.2", renamed="QDISC_DROP_FLOOD_PROTECTION of the qdisc subsystem"),
    row("FQ_BAND_LIMIT", "fq: the priority band is full", "qdisc", "6.14", "fq_enqueue", FQ, "qdisc:dropped", until="7.2",
        renamed="QDISC_DROP_BAND_LIMIT of the qdisc subsystem"),
    row("FQ_HORIZON_LIMIT", "fq: its departure time lies too far ahead", "qdisc", "6.14", "fq_enqueue", FQ, "qdisc:dropped", until="7.2",
        renamed="QDISC_DROP_HORIZON_LIMIT of the qdisc subsystem"),
    row("FQ_FLOW_LIMIT", "fq: one flow has too many packets waiting", "qdisc", "6.14", "fq_enqueue", FQ, "qdisc:dropped", until="7.2",
        renamed="QDISC_DROP_FLOW_LIMIT of the qdisc subsystem"),
    row("DUALPI2_STEP_DROP", "dualpi2: above the step threshold and not capable of ECN", "qdisc", "6.17", "dualpi2_qdisc_dequeue",
        "net/sched/sch_dualpi2.c", "qdisc:dropped", until="7.2", renamed="QDISC_DROP_L4S_STEP_NON_ECN of the qdisc subsystem"),
    row("CPU_BACKLOG", "a CPU's queue of received packets is full (net.core.netdev_max_backlog), or its flow limit hit", "link", "5.18",
        "enqueue_to_backlog netif_rx", DEV, "softnet_stat:dropped"),
    row("MACVLAN_BROADCAST_BACKLOG", "macvlan's queue of broadcasts is full", "link", "7.2", "macvlan_broadcast_enqueue", "drivers/net/macvlan.c"),
    row("IPVLAN_MULTICAST_BACKLOG", "ipvlan's queue of multicasts is full", "link", "7.2", "ipvlan_multicast_enqueue",
        "drivers/net/ipvlan/ipvlan_core.c"),
    row("XDP", "an XDP program in generic mode dropped it", "link", "5.18", "do_xdp_generic", DEV),
    row("UNHANDLED_PROTO", "nobody handles its EtherType or its option (STP and LLDP frames, IPv6 without the module)", "link", "5.18",
        "__netif_receive_skb_core icmp_rcv ip6_tlvopt_unknown", DEV, "", "benign-stp-frames-dropped"),
    row("SKB_CSUM", "the checksum could not be computed or is wrong", "link", "5.18", "tap_handle_frame rawv6_rcv", "drivers/net/tap.c"),
    row("SKB_GSO_SEG", "a large packet could not be cut into segments", "link", "5.18", "tap_handle_frame validate_xmit_skb",
        f"drivers/net/tap.c {DEV}"),
    row("SKB_BAD_GSO", "a large packet whose headers and sizes contradict each other", "link", "7.2", "qdisc_pkt_len_segs_init", DEV),
    row("SKB_UCOPY_FAULT", "its data could not be copied from user space", "link", "5.18", "tun_get_user tap_get_user tun_net_xmit", TUN),
    row("DEV_HDR", "the device's own header or metadata is wrong", "link", "5.18", "tun_get_user tap_get_user", TUN),
    row("DEV_READY", "the device is not up, or not ready", "link", "5.18", "__dev_queue_xmit enqueue_to_backlog tun_net_xmit ipvlan_rcv_frame",
        f"{DEV} {TUN}"),
    row("FULL_RING", "the ring to user space is full: the reader of the tun or tap device is too slow", "link", "5.18",
        "tun_net_xmit tap_handle_frame", TUN),
    row("NOMEM", "no memory", "any", "5.18", "br_flood skb_clone ip_route_input_slow", "net/core/skbuff.c"),
    row("HDR_TRUNC", "the headers could not be brought into linear memory: a short or malformed packet", "any", "5.18", "tun_get_user "
        "pskb_may_pull_reason", TUN),
    row("TAP_FILTER", "the BPF filter of a tun or tap device refused it", "link", "5.18", "tun_net_xmit", TUN),
    row("TAP_TXFILTER", "the MAC filter of a tap device refused it", "link", "5.18", "tun_net_xmit", TUN),
    row("TC_CHAIN_NOTFOUND", "a traffic-control rule jumps to a chain that is not there", "link", "6.8", "tcf_classify tcf_action_exec", CLS),
    row("TC_COOKIE_ERROR", "a traffic-control cookie could not be followed", "link", "6.8", "tcf_classify __tcf_classify", CLS),
    row("TC_RECLASSIFY_LOOP", "traffic control reclassified it too often", "link", "6.8", "__tcf_classify", CLS),
    row("QUEUE_PURGE", "a queue that held it was emptied: a socket or device went away", "any", "6.6", "skb_queue_purge", "net/core/skbuff.c"),
    row("MAC_INVALID_SOURCE", "a source MAC address that cannot be one", "link", "6.13", "br_handle_frame vxlan_snoop", f"{BRIDGE} {VXLAN}"),
    row("MAC_IEEE_MAC_CONTROL", "a pause frame, which a bridge does not forward", "link", "6.14", "br_handle_frame", BRIDGE, "",
        "benign-stp-frames-dropped"),
    row("BRIDGE_INGRESS_STP_STATE", "the bridge port is not forwarding (spanning tree: blocking, listening, learning)", "link", "6.14",
        "br_handle_frame br_handle_frame_finish", BRIDGE),
    row("NO_TX_TARGET", "no port or remote to send it to: unknown destination with flooding off, or no VXLAN remote", "tunnel", "6.13",
        "br_flood br_multicast_flood vxlan_xmit", f"net/bridge/br_forward.c {VXLAN}"),
    row("LOCAL_MAC", "a frame came back with the device's own MAC address as source", "tunnel", "6.13", "vxlan_set_mac", VXLAN),
    row("VXLAN_INVALID_HDR", "reserved bits set or no VNI flag: not the VXLAN that this device speaks", "tunnel", "6.13", "vxlan_rcv", VXLAN),
    row("VXLAN_VNI_NOT_FOUND", "no device for its VNI: both ends disagree about it", "tunnel", "6.13", "vxlan_rcv encap_bypass_if_local", VXLAN),
    row("VXLAN_ENTRY_EXISTS", "its source MAC address is a static entry elsewhere", "tunnel", "6.13", "vxlan_snoop", VXLAN),
    row("IP_TUNNEL_ECN", "inner and outer ECN marks contradict (RFC 6040 §4.2)", "tunnel", "6.13", "vxlan_rcv", VXLAN),
    row("TUNNEL_TXINFO", "a device in external mode got a packet without tunnel metadata", "tunnel", "6.13", "vxlan_xmit", VXLAN),
    row("ARP_PVLAN_DISABLE", "not IP, to be sent back out of its device, and proxy_arp_pvlan is off", "ip", "6.14", "__mkroute_input",
        "net/ipv4/route.c"),
    row("RECURSION_LIMIT", "too many virtual devices or tunnels on top of each other: a loop", "tunnel", "7.2",
        "__dev_queue_xmit iptunnel_xmit ip6tunnel_xmit", f"{DEV} net/ipv4/ip_tunnel_core.c"),
    row("PFMEMALLOC", "received into emergency memory and not for the socket that frees memory", "any", "6.17",
        "__netif_receive_skb_core sk_filter_trim_cap tcp_add_backlog", f"{DEV} net/core/filter.c", "TcpExt:PFMemallocDrop"),
    row("CAN_RX_INVALID_FRAME", "no CAN frame", "link", "6.17", "can_rcv", "net/can/af_can.c"),
    row("CANFD_RX_INVALID_FRAME", "no CAN FD frame", "link", "6.17", "canfd_rcv", "net/can/af_can.c"),
    row("CANXL_RX_INVALID_FRAME", "no CAN XL frame", "link", "6.17", "canxl_rcv", "net/can/af_can.c"),
    row("PSP_INPUT", "PSP encryption is demanded and missing, or the reverse", "tcp", "6.18", "__psp_sk_rx_policy_check", "include/net/psp/functions.h"),
    row("PSP_OUTPUT", "PSP encryption failed on the way out", "link", "6.18", "psp_validate_xmit", "net/psp/psp_sock.c"),
)  # fmt: skip

#: Values of the enum that are no drop.
NOT_DROPS = (
    row("SKB_NOT_DROPPED_YET", "no drop: the value before a decision", "any", "5.18"),
    row(
        "SKB_CONSUMED",
        "no drop: the packet reached its end and was freed",
        "any",
        "6.2",
        "consume_skb",
        "net/core/skbuff.c",
    ),
    row("MAX", "no reason: the count of reasons", "any", "5.17"),
    row("SUBSYS_MASK", "no reason: the bits that hold a subsystem's number", "any", "6.4"),
)
