"""Command lines under prompts of several shells, and what people run ahead of the command that matters."""

from __future__ import annotations

import pytest

from deadhop.evidence import prompt


@pytest.mark.parametrize(
    ("line", "host", "argv"),
    [
        ("node-5 ~ # iptables-save -t nat", "node-5", ("iptables-save", "-t", "nat")),
        ("node-5 /etc/cni # cat net.d/10.conf", "node-5", ("cat", "net.d/10.conf")),
        ("$ date -u; kubectl get pods -A", "", ("kubectl", "get", "pods", "-A")),
        ("$ sleep 60; cat /proc/net/snmp", "", ("cat", "/proc/net/snmp")),
        ("$ cd /tmp && ip route", "", ("ip", "route")),
    ],
)
def test_command(line: str, host: str, argv: tuple[str, ...]) -> None:
    command = prompt.parse(line)
    assert command is not None
    assert (command.host, command.argv) == (host, argv)


@pytest.mark.parametrize(
    "line", ["the node ~ # of it is unknown", "see /etc # and others", "date; then we waited"]
)
def test_prose(line: str) -> None:
    assert prompt.parse(line) is None
