"""Output that a command cut down to some fields is read as the part of the whole that it shows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deadhop.evidence import jq, templates
from deadhop.evidence.projection import fit, grow
from deadhop.evidence.read import read_bytes
from deadhop.model.observed.kube import Endpoints, Namespace, NetworkPolicy, Pod, Service
from deadhop.model.observed.policy import Flow, FqdnCacheEntry
from deadhop.model.record import Record


def records(text: str, kind: type[Record]) -> list[Any]:
    return [r for r in read_bytes("session", text.encode()).records if isinstance(r, kind)]


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (
            "kubectl get po -n mail -o json | jq -r '.items[] | [.metadata.name, .status.podIP] | @tsv'",
            "imap-0\t10.4.1.9",
        ),
        (
            "kubectl get po -n mail -o json | jq -r '.items[] | \"\\(.metadata.name) \\(.status.podIP)\"'",
            "imap-0 10.4.1.9",
        ),
        (
            "kubectl get po -n mail -o json | jq -c '.items[] | {n: .metadata.name, ip: .status.podIP}'",
            '{"n":"imap-0","ip":"10.4.1.9"}',
        ),
        (
            "kubectl get po -n mail -o json | jq '[.items[] | {n: .metadata.name, ip: .status.podIP}]'",
            '[\n  {\n    "n": "imap-0",\n    "ip": "10.4.1.9"\n  }\n]',
        ),
        ("kubectl -n mail get pods imap-0 -o jsonpath='{.status.podIP}'", "10.4.1.9"),
        (
            'kubectl get pods --namespace=mail -o jsonpath=\'{range .items[*]}{.metadata.name}{"\\t"}{.status.podIP}{"\\n"}{end}\'',
            "imap-0\t10.4.1.9",
        ),
        (
            "kubectl get pods -n mail -o custom-columns=POD:.metadata.name,ADDR:.status.podIP",
            "POD      ADDR\nimap-0   10.4.1.9",
        ),
        ("kubectl get pods -n mail -o wide | awk '{print $1, $6}'", "imap-0 10.4.1.9"),
        (
            "kubectl get pods -A -o wide | grep imap | awk '{print $1,$2,$7,$8}'",
            "mail imap-0 10.4.1.9 node-3",
        ),
        (
            "kubectl get pods -n mail -o go-template='{{range .items}}{{.metadata.name}} {{.status.podIP}}{{\"\\n\"}}{{end}}'",
            "imap-0 10.4.1.9",
        ),
        ("kubectl get pod imap-0 -n mail -o yaml | yq .status", "podIP: 10.4.1.9\nphase: Running"),
        ("kubectl get pod imap-0 -n mail -o yaml | grep -A3 '^status'", "status:\n  podIP: 10.4.1.9"),
    ],
)
def test_a_pod_and_its_address(command: str, output: str) -> None:
    pods = records(f"$ {command}\n{output}\n", Pod)
    assert [(p.namespace, p.name, p.ip) for p in pods] == [("mail", "imap-0", "10.4.1.9")]


def test_what_a_filter_demanded_is_known_of_every_row() -> None:
    command = "kubectl get po -A -o json | jq -r '.items[] | .metadata as $m | .spec.containers[].ports[]? | select(.name==\"amqp\") | [$m.namespace,$m.name,.containerPort] | @tsv'"
    pods = records(f"$ {command}\nbus\trabbit-0\t5672\nold\trabbit-0\t5671\n", Pod)
    ports = [p.raw["spec"]["containers"][0]["ports"] for p in pods]
    assert ports == [[{"containerPort": 5672, "name": "amqp"}], [{"containerPort": 5671, "name": "amqp"}]]


def test_rows_of_one_object_are_one_object() -> None:
    command = "kubectl -n bus get pods -o json | jq -r '.items[] | .metadata.name as $n | .spec.containers[] | [$n, .image] | @tsv'"
    (pod,) = records(f"$ {command}\nrabbit-0\tq/rabbit:3\nrabbit-0\tq/exporter:1\n", Pod)
    assert [c["image"] for c in pod.raw["spec"]["containers"]] == ["q/rabbit:3", "q/exporter:1"]


def test_several_values_in_turn() -> None:
    command = "kubectl -n pay get netpol vault -o json | jq -c '.spec.podSelector, .spec.ingress'"
    text = (
        f'$ {command}\n{{"matchLabels":{{"app":"vault"}}}}\n[{{"from":[{{"podSelector":{{}}}}]}}]\n$ date\n'
    )
    policies = records(text, NetworkPolicy)
    assert [(p.namespace, p.name) for p in policies] == [("pay", "vault")]
    assert policies[0].spec["podSelector"] == {"matchLabels": {"app": "vault"}}
    assert policies[0].spec["ingress"] == [{"from": [{"podSelector": {}}]}]


def test_slices_of_one_service() -> None:
    command = "kubectl get endpointslice -n bus -l kubernetes.io/service-name=rabbit -o json | jq -r '.items[].endpoints[] | [.addresses[0], .conditions.ready] | @tsv'"
    (slice_,) = records(f"$ {command}\n10.4.2.2\ttrue\n10.4.2.3\tfalse\n", Endpoints)
    assert (slice_.service, slice_.ready, slice_.not_ready) == ("rabbit", ("10.4.2.2",), ("10.4.2.3",))


def test_values_of_other_programs() -> None:
    command = "cilium-dbg fqdn cache list -o json | jq -r '.[] | [.fqdn, (.ips|join(\",\"))] | @tsv'"
    rows = records(f"# {command}\nfeeds.example.net.\t192.0.2.7,192.0.2.8\n", FqdnCacheEntry)
    assert {(r.fqdn, ip) for r in rows for ip in r.ips} == {
        ("feeds.example.net", "192.0.2.7"),
        ("feeds.example.net", "192.0.2.8"),
    }
    command = "hubble observe --verdict DROPPED --from-pod shop/till -o json | jq -c '.flow | {d: .IP.destination, l4}'"
    (flow,) = records(f'$ {command}\n{{"d":"10.9.8.7","l4":{{"TCP":{{"destination_port":6379}}}}}}\n', Flow)
    assert (flow.verdict, flow.src.name, flow.dst.ip, flow.dst.port) == (
        "DROPPED",
        "shop/till",
        "10.9.8.7",
        6379,
    )


def test_columns_that_are_labels() -> None:
    command = "kubectl get po -A -L db-client --no-headers | awk '{print $1,$2,$NF}'"
    pods = records(f"$ {command}\npay api-1 true\npay vault-0 12d\n", Pod)
    assert [(p.name, p.labels) for p in pods] == [("api-1", (("db-client", "true"),)), ("vault-0", ())]


@pytest.mark.parametrize(
    "command",
    [
        "kubectl get po -o json | jq '.items | length'",
        "kubectl get po -o json | jq -r '.items[] | if .spec.hostNetwork then .metadata.name else empty end'",
        "kubectl get po | awk '{s+=$4} END {print s}'",
        "kubectl get po -o json | python3 -c 'print(1)'",
    ],
)
def test_what_computes_says_nothing(command: str) -> None:
    assert records(f"$ {command}\n3\n", Pod) == []


def test_a_document_in_a_config_map_is_left_to_its_reader() -> None:
    text = "$ kubectl -n kube-system get cm coredns -o jsonpath='{.data.Corefile}'\n.:53 {\n    errors\n    forward . 192.0.2.53\n}\n"
    kinds = [type(r).__name__ for r in read_bytes("s", text.encode()).records]
    assert "CorefileText" in kinds
    assert "ConfigMap" not in kinds


def test_other_objects() -> None:
    text = (
        "$ kubectl get svc web -n a -o jsonpath='{.spec.clusterIP} {.spec.ports[0].port}'\n10.96.3.3 8080\n"
        "$ kubectl get ns prod -o jsonpath='{.metadata.labels}'\n"
        '{"team":"x"}\n'
    )
    (service,) = records(text, Service)
    assert (service.cluster_ip, [p.port for p in service.ports]) == ("10.96.3.3", [8080])
    (namespace,) = records(text, Namespace)
    assert namespace.labels == (("team", "x"),)


PROGRAMS = st.lists(
    st.sampled_from(
        [*".[]{}()|,:?$", "..", ".a", ".items[]", "select(", '"x"', '"\\(.a)"', "@tsv", "as $m", "map(", "//", "==", " ", "1", "if", "join(\",\")"]
    ),
    max_size=14,
).map("".join)  # fmt: skip
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=4)),
    lambda v: st.one_of(
        st.lists(v, max_size=3), st.dictionaries(st.sampled_from(["a", "items", "n"]), v, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(PROGRAMS, VALUES)
def test_every_program_and_value_is_total(program: str, value: object) -> None:
    try:
        shapes = jq.shapes(program)
    except jq.NotRead:
        return
    for shape in shapes:
        for found in fit(shape, value) or []:
            json.dumps(grow(found))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.text(alphabet="{}[].*?@=='\"abc \\n:,$-0", max_size=30), VALUES)
def test_every_template_is_total(text: str, value: object) -> None:
    shape = templates.template(text)
    if shape is not None:
        fit(shape, value)
    templates.columns(text)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        [
            "kubectl get po -A -o json | jq -c '.items[] | [.metadata.name,.spec]'",
            "kubectl get po -o wide | awk '{print $1,$6}'",
            "kubectl get netpol p -o jsonpath='{.spec}'",
            "kubectl get po -o custom-columns=A:.metadata.name,B:.spec.containers[*].name",
            "hubble observe -o json | jq -c '.flow|[.verdict,.IP,.l4]'",
            "kubectl get svc s -o yaml | yq .spec",
            "tshark -r x -T fields -e ip.src -e dns.qry.name -e dns.flags.rcode",
        ]
    ),
    st.lists(
        st.one_of(VALUES.map(json.dumps), st.text(st.characters(codec="utf-8"), max_size=40)), max_size=5
    ),
)
def test_every_output_is_total(command: str, rows: list[str]) -> None:
    read_bytes("s", ("$ " + command + "\n" + "\n".join(rows)).encode())


def test_lists_in_several_cells_belong_to_one_row() -> None:
    flows = records(
        '$ hubble observe --pod a/b -o jsonpb | jq -r \'[.flow.l7.type,.flow.l7.dns.query,(.flow.l7.dns.qtypes//[]|join(",")),'
        '(.flow.l7.dns.ips//[]|join(","))]|@tsv\'\n'
        "RESPONSE\tone.example.\tA\t192.0.2.1,192.0.2.2\nREQUEST\ttwo.example.\tAAAA\n",
        Flow,
    )
    assert [(f.dns.qname, f.dns.qtypes, f.dns.ips) for f in flows] == [
        ("one.example", ("A",), ("192.0.2.1", "192.0.2.2")),
        ("two.example", ("AAAA",), ()),
    ]
    assert (flows[0].dst.name, flows[1].src.name) == ("a/b", "a/b")


def test_every_port_of_a_cell_is_kept() -> None:
    (pod,) = records(
        "$ kubectl get po -o custom-columns=N:.metadata.name,P:.spec.containers[0].ports[*].hostPort\nN P\nedge 443,80\n", Pod
    )  # fmt: skip
    assert pod.raw["spec"]["containers"] == [{"ports": [{"hostPort": 443}, {"hostPort": 80}]}]


def test_a_length_of_nought_is_an_empty_list_and_another_says_nothing() -> None:
    command = "$ kubectl get endpointslices -n kube-system -o json | jq -r '.items[]|[.metadata.name,(.endpoints|length)]|@tsv'\n"
    assert [e.ready for e in records(command + "dns-ab12c\t0\n", Endpoints)] == [()]
    assert records(command + "dns-ab12c\t3\n", Endpoints) == []
