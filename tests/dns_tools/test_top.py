"""``dns top``: what is counted, however the log is cut, prefixed, compressed or broken."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from deadhop.cli import group
from deadhop.dns import toplog
from deadhop.dns.toplog import Tally, tally_block, tally_paths, tally_stream
from deadhop.dns.topreport import report, search_waste


def line(client: str, qtype: str, name: str, rcode: str = "NOERROR", seconds: str = "0.000123") -> str:
    return f'[INFO] {client}:4711 - 99 "{qtype} IN {name} udp 60 false 512" {rcode} qr,rd,ra 153 {seconds}s\n'


LOG = (
    "".join(
        line("10.0.0.1", kind, "api.example.com." + suffix, "NXDOMAIN" if suffix else "NOERROR")
        for kind in ("A", "AAAA")
        for suffix in ("shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local.", "")
    )
    + line("10.0.0.2", "CNAME", "www.example.com.") * 3
    + line("10.0.0.3", "A", "slow.example.net.", "SERVFAIL", "4.000812")
    + line("[fd00::1]", "A", "db.shop.svc.cluster.local.")
    + "[ERROR] plugin/errors: 2 slow.example.net. A: read udp 10.244.0.3:4096->10.1.2.3:53: i/o timeout\n"
    + "something else\n"
)


def top(*args: str, stdin: bytes = b"") -> Any:
    result = CliRunner().invoke(
        group, ["dns", "top", *args, "-o", "json"], input=stdin, standalone_mode=False
    )
    assert result.exception is None, result.exception
    return json.loads(result.output)


def check(found: Any) -> None:
    assert found["queries"] == 13
    assert found["rcodes"] == {"NXDOMAIN": 6, "NOERROR": 6, "SERVFAIL": 1}
    assert found["types"] == {"A": 6, "AAAA": 4, "CNAME": 3}
    assert found["clients"][0] == {"client": "10.0.0.1", "queries": 8, "nxdomain": 6, "failed": 0}
    assert {"client": "fd00::1", "queries": 1, "nxdomain": 0, "failed": 0} in found["clients"]
    assert found["cname_only"] == [{"client": "10.0.0.2", "queries": 3}]
    assert found["failing"] == [{"upstream": "10.1.2.3:53", "error": "i/o timeout", "count": 1}]
    assert found["slow"]["names"] == [{"name": "slow.example.net.", "queries": 1}]
    assert found["search"]["wasted"] == 6
    assert found["search"]["share_of_nxdomain"] == 1.0
    assert found["search"]["saved_by"] == {"trailing_dot": 6, "ndots": {"1": 6, "2": 6, "3": 0, "4": 0}}
    assert {s["suffix"] for s in found["search"]["suffixes"]} == {
        "shop.svc.cluster.local.", "svc.cluster.local.", "cluster.local.",
    }  # fmt: skip


def test_counts(tmp_path: Path) -> None:
    path = tmp_path / "coredns.log"
    path.write_text(LOG)
    check(top(str(path)))
    check(top("-", stdin=LOG.encode()))
    with gzip.open(tmp_path / "log.gz", "wt") as file:
        file.write(LOG)
    check(top(str(tmp_path / "log.gz")))
    path.write_text(
        "".join(
            f"[pod/coredns-5d78c9869d-x/coredns] 2024-05-21T09:40:17.1Z {row}\n" for row in LOG.splitlines()
        )
    )
    check(top(str(path)))
    text = CliRunner().invoke(group, ["dns", "top", str(path)]).output
    assert "ndots:2 6" in text
    assert "10.1.2.3:53: i/o timeout" in text


@pytest.mark.parametrize("octets", [1, 7, 100, 333, 5000])
def test_ranges_and_blocks_count_each_line_once(
    octets: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    path.write_text(LOG)
    monkeypatch.setattr(toplog, "RANGE", octets)
    monkeypatch.setattr(toplog, "BLOCK", 256)
    whole = tally_stream(io.BytesIO(LOG.encode()))
    for workers in (1, 2) if octets > 90 else (1,):
        parts = tally_paths([str(path)], workers=workers)
        assert (parts.lines, parts.questions, parts.failing) == (whole.lines, whole.questions, whole.failing)


def test_hubble() -> None:
    def flow(kind: str, name: str, rcode: int = 0) -> str:
        return json.dumps({"flow": {
            "verdict": "FORWARDED", "IP": {"source": "10.96.0.10", "destination": "10.0.1.9"}, "l4": {"UDP": {"source_port": 53}},
            "destination": {"namespace": "shop", "pod_name": "web-1"},
            "l7": {"type": kind, "latency_ns": "1500000000", "dns": {"query": name, "qtypes": ["A"], "rcode": rcode}},
        }})  # fmt: skip

    text = "\n".join([flow("REQUEST", "a.test."), flow("RESPONSE", "a.test."), flow("RESPONSE", "b.test.", 3),
                      '{"flow": {"l4": {}}}', '{"flow": {"l7": {"dns": 3}}}', "{ \"dns\" broken"])  # fmt: skip
    found = report(tally_stream(io.BytesIO(text.encode())))
    assert (found["queries"], found["rcodes"]) == (2, {"NOERROR": 1, "NXDOMAIN": 1})
    assert found["clients"][0]["client"] == "shop/web-1"
    assert found["slow"]["queries"] == 2


def test_names_without_end_stay_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toplog, "MOST_NAMES", 100)
    tally = Tally()
    for start in range(0, 5000, 50):
        rows = "".join(
            line("10.0.0.1", "A", f"r{n}.flood.test.", "NXDOMAIN") for n in range(start, start + 50)
        )
        tally_block(tally, (rows + line("10.0.0.1", "A", "kept.test.") * 9).encode())
    tally.settle()
    assert len(tally.questions) <= 100
    assert tally.questions.total() == tally.lines == 5900
    assert tally.folded > 0
    assert tally.questions[b"kept.test.", b"NOERROR"] == 900


def test_only_search_suffixes_are_waste() -> None:
    questions = Counter(
        {(b"a.b.", b"NXDOMAIN"): 5, (b"typo.example.com.", b"NXDOMAIN"): 7, (b"example.com.", b"NOERROR"): 2}
    )
    assert search_waste(questions, 14, 10)["wasted"] == 0


def test_nothing_to_count(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("hello\n")
    result = CliRunner().invoke(group, ["dns", "top", str(path)], standalone_mode=False)
    assert result.return_value == 3
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(LOG.encode() * 50)[:-20])
    assert CliRunner().invoke(group, ["dns", "top", str(cut)]).exit_code == 2


@given(
    st.lists(st.sampled_from([*LOG.splitlines(), '{"dns"', "\x00", '"', 'x - 1 "A IN']), max_size=12),
    st.binary(max_size=30),
)
def test_any_octets_are_counted_or_passed_over(lines: list[str], noise: bytes) -> None:
    tally = Tally()
    tally_block(tally, "\n".join(lines).encode() + noise)
    tally.settle()
    report(tally)


CUTS = st.lists(
    st.tuples(st.sampled_from(LOG.splitlines()), st.integers(0, 120), st.sampled_from(["\n", "\n\n", ""])),
    max_size=12,
)


@given(CUTS)
def test_the_quick_expression_finds_what_the_strict_one_finds(pieces: list[tuple[str, int, str]]) -> None:
    """Lines cut off anywhere, one after another: whole lines behind them are all counted, and nothing else is."""
    block = "".join(text[:length] + end for text, length, end in pieces).encode()
    tally = Tally()
    tally.add_lines(block)
    rows = toplog._LINE.findall(block)
    assert tally.lines == len(rows)
    assert tally.clients == Counter((client, kind, rcode) for client, _, kind, rcode, _ in rows)
    assert tally.raw == Counter(span for _, span, *_ in rows)
