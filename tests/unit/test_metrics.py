"""Samples of Prometheus in the layouts in which people paste them, and the rows that a tally keeps."""

from __future__ import annotations

import pytest

from deadhop.evidence import read_bytes
from deadhop.model.observed.kernel import Counter
from deadhop.model.observed.mesh import EnvoyAccess


def counters(text: str) -> list[tuple[str, float]]:
    return [(r.name, r.value) for r in read_bytes("a", text.encode()).records if isinstance(r, Counter)]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('up_total{job="a",instance="b:1"} 3', ("up_total", 3.0)),
        ('up_total{job="a"} 3 1728889512123', ("up_total", 3.0)),
        ('up_total{job="a"} => 3 @[1728889512.1]', ("up_total", 3.0)),
        ('{__name__="up_total", job="a"} 1.5e3', ("up_total", 1500.0)),
        ("node_netstat_Tcp_InCsumErrors 12", ("node_netstat_Tcp_InCsumErrors", 12.0)),
        ('increase(x_total{a="b"}[1h]) 7', ("x_total", 7.0)),
        ('cilium_drop_count_total{reason="Policy denied"} 2', ("cilium_drop", 2.0)),
        ('envoy_cluster_upstream_cx_total{envoy_cluster_name="a|b"} 2', ("envoy.cluster.a|b.upstream_cx_total", 2.0)),
    ],
)  # fmt: skip
def test_samples(line: str, expected: tuple[str, float]) -> None:
    assert counters(line) == [expected]


@pytest.mark.parametrize(
    "line",
    ['histogram_quantile(0.99, x_bucket{le="1"}) 4', "# HELP up_total what it counts", "word 3", '{"a": 3}'],
)
def test_no_samples(line: str) -> None:
    assert counters(line) == []


def test_a_tally_keeps_what_was_counted() -> None:
    text = '$ kubectl logs gw | jq -c \'[.response_code,.response_flags]\' | sort | uniq -c\n   40 [200,"-"]\n    3 [503,"UO"]\n'
    lines = [r for r in read_bytes("a", text.encode()).records if isinstance(r, EnvoyAccess)]
    assert [(a.status, sorted(a.flags)) for a in lines] == [(200, []), (503, ["UO"])]
