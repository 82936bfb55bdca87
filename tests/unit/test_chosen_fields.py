"""Chosen fields and loops: what a command printed is put back at its place, and nothing is guessed."""

from __future__ import annotations

from typing import TypeVar

import pytest

from deadhop.evidence import jmespath, projection, read_bytes
from deadhop.evidence.shell_loop import expand, loop
from deadhop.model.net import Link, Sysctl
from deadhop.model.observed.http import DialFailure, HttpExchange
from deadhop.model.observed.kube import Endpoints, Node, Pod, Service
from deadhop.model.observed.node import Ping
from deadhop.model.observed.shell import Attempt, CommandRun
from deadhop.model.record import Record
from deadhop.snapshot.services import together
from deadhop.snapshot.silence import silent

R = TypeVar("R", bound=Record)


def records(text: str) -> tuple[Record, ...]:
    return tuple(read_bytes("session.txt", text.encode()).records)


def of(kind: type[R], text: str) -> list[R]:
    return [r for r in records(text) if isinstance(r, kind)]


def test_several_paths_on_one_line() -> None:
    (service,) = of(
        Service,
        "$ kubectl -n a get svc web -o jsonpath='{.spec.clusterIP} {.spec.type}{\"\\n\"}'\n10.96.0.7 NodePort\n",
    )
    assert (service.ref, service.cluster_ip, service.type) == ("Service a/web", "10.96.0.7", "NodePort")


def test_a_range_is_one_object_a_line() -> None:
    nodes = of(
        Node,
        '$ kubectl get nodes -o jsonpath=\'{range .items[*]}{.metadata.name}{"\\t"}{.spec.podCIDR}{"\\n"}{end}\'\nn1\t10.9.0.0/24\nn2\t10.9.1.0/24\n',
    )
    assert [(n.name, n.spec["podCIDR"]) for n in nodes] == [("n1", "10.9.0.0/24"), ("n2", "10.9.1.0/24")]


def test_custom_columns() -> None:
    text = (
        "$ kubectl get svc -o custom-columns=N:.metadata.name,IP:.spec.clusterIP\nN     IP\nweb   10.96.0.7\n"
    )
    (service,) = of(Service, text)
    assert (service.name, service.cluster_ip) == ("web", "10.96.0.7")


def test_jq_on_several_lines_and_as_rows() -> None:
    (service,) = of(Service, '$ kubectl get svc web -o json | jq \'.spec\'\n{\n  "clusterIP": "None"\n}\n')
    assert service.headless
    assert service.name == "web"
    pods = of(
        Pod,
        "$ kubectl get pods -o json | jq -r '.items[] | [.metadata.name, .status.podIP] | @tsv'\na-0\t10.9.0.4\n",
    )
    assert [(p.name, p.ip) for p in pods] == [("a-0", "10.9.0.4")]


def test_gos_maps() -> None:
    assert projection.scalar("map[a:1 b:map[c:x y d:[1 map[e:f]]]]") == {
        "a": 1,
        "b": {"c": "x y", "d": [1, {"e": "f"}]},
    }
    assert projection.scalar("map[a:[") == "map[a:["


def test_kinds_before_names_and_single_blanks() -> None:
    text = (
        "$ kubectl get svc,ep\nNAME          TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n"
        "service/web   ClusterIP   10.96.0.7    <none>        80/TCP    6d\n\n"
        "NAME            ENDPOINTS        AGE\nendpoints/web   10.9.0.4:8080    6d\n"
        "$ kubectl get po -o wide | awk '{print $1,$6,$7}'\nNAME IP NODE\nweb-1 10.9.0.4 n1\n"
    )
    (service,), (ends,), (pod,) = of(Service, text), of(Endpoints, text), of(Pod, text)
    assert (service.name, ends.service, ends.ports) == ("web", "web", (8080,))
    assert (pod.name, pod.ip, pod.node) == ("web-1", "10.9.0.4", "n1")


def test_a_service_from_two_outputs() -> None:
    text = (
        "$ kubectl -n a get svc\nNAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE\n"
        "web    ClusterIP   None         <none>        80/TCP    6d\n"
        "$ kubectl -n a get svc web -o jsonpath='{.spec.ports[0].targetPort}'\n8080\n"
    )
    (seen,) = together(of(Service, text))
    assert seen.service.headless
    assert seen.service.ports[0].target == 8080
    assert len(seen.records) == 2


def test_loops() -> None:
    assert expand("10.0.0.{1..3}") == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert expand("{eth0,tun0}/mtu") == ["eth0/mtu", "tun0/mtu"]
    each = loop("$ for s in $(seq 1350 10 1370); do ping -s $s 192.0.2.1; done")
    assert each is not None
    assert each.items == ("1350", "1360", "1370")
    assert loop("echo done") is None


def test_what_rounds_of_a_loop_print() -> None:
    pings = of(
        Ping,
        '$ for s in 1350 1400; do echo -n "$s: "; ping -q -c1 -M do -s $s 192.0.2.1 | grep -o "[0-9]* received"; done\n1350: 1 received\n1400: 0 received\n',
    )
    assert [(p.size, p.ok, p.df, p.target) for p in pings] == [
        (1350, True, True, "192.0.2.1"),
        (1400, False, True, "192.0.2.1"),
    ]
    calls = of(
        HttpExchange,
        "$ for n in 192.0.2.1 192.0.2.2; do echo -n \"$n \"; curl -s -o /dev/null -w '%{http_code}\\n' http://$n:80/; done\n192.0.2.1 200\n192.0.2.2 000\n",
    )
    assert [(c.dialled, c.status, c.error) for c in calls] == [
        ("192.0.2.1", 200, ""),
        ("192.0.2.2", None, "other"),
    ]
    values = of(
        Sysctl,
        "$ for i in all lxc1; do echo $i $(cat /proc/sys/net/ipv4/conf/$i/rp_filter); done\nall 1\nlxc1 0\n",
    )
    assert [(s.key, s.value) for s in values] == [
        ("net.ipv4.conf.all.rp_filter", "1"),
        ("net.ipv4.conf.lxc1.rp_filter", "0"),
    ]


def test_devices_and_mtus_in_columns() -> None:
    links = of(
        Link,
        "$ ip -o link | awk '{print $2,$5}'\neth0: 1500\ncali1@if3: 1450\n$ cat /sys/class/net/{eth0,wg0}/mtu\n1500\n1420\n",
    )
    assert [(k.ifname, k.mtu) for k in links] == [
        ("eth0", 1500),
        ("cali1", 1450),
        ("eth0", 1500),
        ("wg0", 1420),
    ]
    assert not of(Link, "the backlog holds\nitems 1500\n")


def test_nc() -> None:
    lines = (
        "nc: connect to 192.0.2.7 port 80 (tcp) failed: Connection refused\n",
        "nc: 192.0.2.7 (192.0.2.7:80): Connection refused\n",
        "(UNKNOWN) [192.0.2.7] 80 (http) : Connection refused\n",
    )
    for line in lines:
        (failure,) = of(DialFailure, "$ nc -zv 192.0.2.7 80\n" + line)
        assert (failure.ip, failure.port, failure.error) == ("192.0.2.7", 80, "refused"), line
    (attempt,) = of(Attempt, "$ nc -zv 192.0.2.7 80\nConnection to 192.0.2.7 80 port [tcp/http] succeeded!\n")
    assert attempt.ok
    assert attempt.target == "192.0.2.7:80"


def test_commands_inside_commands() -> None:
    runs = of(
        CommandRun,
        "$ ssh -i k root@n2.example 'ip -br a | grep eth'\n$ crictl exec $(crictl ps -q --name web) cat /etc/resolv.conf\n$ kubectl exec web-0 -- sh -c \"ip route | head\"\n",
    )
    assert [(r.program, r.where) for r in runs] == [
        ("ip", "host n2"),
        ("cat", "container ?"),
        ("ip", "web-0"),
    ]


def test_commands_that_print_nothing() -> None:
    runs = of(CommandRun, "$ iptables-save | grep HOSTPORT\n$ uname -r\n6.1.0\n$ ip r\n")
    assert [r.program for r in silent(runs)] == ["iptables-save"]


@pytest.mark.parametrize(
    ("query", "program"),
    [
        ("Groups[].Rules[].[Proto,From]", ".Groups[].Rules[] | [.Proto, .From]"),
        ("Targets[*].{id:T.Id,up:Health.State}", '.Targets[] | {"id": .T.Id, "up": .Health.State}'),
        ("Attributes[?Key=='a.b'].Value | [0]", '.Attributes[] | select(.Key == "a.b") | .Value'),
    ],
)
def test_cloud_queries(query: str, program: str) -> None:
    assert jmespath.program(query) == program


def test_a_cloud_query_that_computes_is_not_read() -> None:
    with pytest.raises(jmespath.NotRead):
        jmespath.program("length(Groups)")


def test_two_columns_of_one_list_stand_side_by_side() -> None:
    text = "$ kubectl get svc cache -o jsonpath='{.spec.ports[*].name}:{.spec.ports[*].port}'\ntcp-cache http-admin:6379 8080\n"
    services = [r for r in read_bytes("a", text.encode()).records if isinstance(r, Service)]
    assert [(p.name, p.port) for p in services[0].ports] == [("tcp-cache", 6379), ("http-admin", 8080)]
