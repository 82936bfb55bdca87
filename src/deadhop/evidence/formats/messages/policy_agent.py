"""Verdict lines of policy agents: AWS network policy agent, Antrea, Calico."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

FORMAT = catalogue(
    "policy-agent",
    (
        entry(
            "netpol-verdict",
            r"[Ff]low [Ii]nfo:?.*?\"?Src IP\"?\W+(?P<src>[\d.:a-f]+).*?\"?Src Port\"?\W+(?P<sport>\d+).*?\"?Dest IP\"?\W+(?P<dst>[\d.:a-f]+).*?\"?Dest Port\"?\W+(?P<dport>\d+).*?\"?Proto\"?\W+(?P<proto>\w+).*?\"?Verdict\"?\W+(?P<verdict>\w+)",
            "aws-network-policy-agent pkg/ebpf/events",
        ),
        entry(
            "netpol-verdict",
            r"(?P<table>\w+(?:PolicyRule|DefaultRule)) (?P<policy>\S+) (?:\S+ ){0,4}?(?P<verdict>Drop|Reject|Allow) (?:\d+ )?(?P<src>[\d.:a-f]+) (?P<sport>\d+|<nil>) (?P<dst>[\d.:a-f]+) (?P<dport>\d+|<nil>) (?P<proto>\w+)",
            "antrea pkg/agent/controller/networkpolicy/audit_logging.go",
        ),
        entry(
            "netpol-verdict",
            r"calico-packet: .*?SRC=(?P<src>\S+) DST=(?P<dst>\S+).*?PROTO=(?P<proto>\w+)(?P<verdict>)",
            "calico Log action",
        ),
    ),
    priority=36,
)
