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
    ("line", "program", "host"),
    [
        ("➜  ~ kubectl get pods", "kubectl", ""),
        ("➜  deploy git:(main) ✗ kubectl get svc", "kubectl", ""),
        ("PS C:\\Users\\ops> kubectl get pods", "kubectl", ""),
        ("C:\\> ping 10.0.0.1", "ping", ""),
        ("[10:22:31] root@w1:~# ip route", "ip", "w1"),
        ("(⎈|prod:default)➜  ~ ip route", "ip", ""),
        ("(⎈ |prod:default) me@mac ~ % kubectl get po", "kubectl", "mac"),
        ("└──╼ #ip route", "ip", ""),
        ("[admin@node1][~]$ ip route", "ip", "node1"),
        ("$ sudo k3s kubectl get po -A", "kubectl", ""),
        ("$ minikube kubectl -- get po", "kubectl", ""),
        ("$ kubectl get ns one two three four -L istio.io/dataplane-mode", "kubectl", ""),
        ("$ kubectl exec -n a deploy/web -- nginx -T", "nginx", ""),
        ("web-1:~$ ip rule", "ip", "web-1"),
        ("[n2]# ip rule", "ip", "n2"),
        ("root@n3:~# ip rule", "ip", "n3"),
    ],
)
def test_program_and_host(line: str, program: str, host: str) -> None:
    command = prompt.parse(line)
    assert command is not None
    assert (command.argv[0], command.host) == (program, host)


@pytest.mark.parametrize(
    "line",
    [
        "the node ~ # of it is unknown",
        "see /etc # and others",
        "date; then we waited",
        "10:22:31 kubectl get pods is what I ran when it failed yesterday.",
        "➜ see the docs for more details on this",
        "> I then looked at the node and saw nothing",
        "[10:22:31] error: something failed",
    ],
)
def test_prose(line: str) -> None:
    assert prompt.parse(line) is None
