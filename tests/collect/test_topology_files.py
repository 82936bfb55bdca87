"""Topology files: what is wrong with one is said with its line, whatever the file holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deadhop.evidence.read import read_bytes
from deadhop.evidence.topology import TopologyError, loads
from deadhop.lab import scenarios

GOOD = """deadhop: topology/1
name: two
title: two namespaces
namespaces:
  a: {addresses: {eth0: [10.0.0.1/24]}}
  b: {}
links:
  - {kind: veth, dev: a/eth0, peer: b/eth0, mtu: 1500}
steps:
  - in: a
    run: ping -c 1 10.0.0.2
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("mtu: 1500", "mtu: many", 8, "Expected `int`"),
        ("mtu: 1500", "mtw: 1500", 8, "unknown field `mtw`"),
        ("kind: veth", "kind: vteh", 8, "Invalid enum value 'vteh'"),
        ("dev: a/eth0", "dev: c/eth0", 8, "no namespace 'c'"),
        ("dev: a/eth0", "dev: a", 8, "a device is NAMESPACE/DEVICE"),
        ("peer: b/eth0", "peer: a/eth0", 8, "made twice"),
        ("10.0.0.1/24", "10.0.0.300/24", 5, "10.0.0.300/24"),
        ("eth0: [10", "eth1: [10", 5, "no link makes a device eth1"),
        ("  b: {}", "  b: {sysctls: {kernel.panic: 1}}", 6, "only settings below net."),
        ("in: a", "in: z", 10, "no 'z'"),
        ("    run: ping -c 1 10.0.0.2", "    say: nothing", 10, "this one does none"),
        ("title: two namespaces\n", "", 1, "missing required field `title`"),
        ("mtu: 1500}", "over: eth0}", 8, "a veth has no over"),
        ("title: two", "title: [two", 4, "not YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    with pytest.raises(TopologyError) as raised:
        loads(GOOD.replace(old, new), "two.yaml")
    text = str(raised.value)
    assert message in text
    assert text.startswith(f"two.yaml:{line}:")


def test_a_good_file() -> None:
    assert loads(GOOD, "two.yaml").links[0].peer == "b/eth0"


@pytest.mark.parametrize("name", list(scenarios.shipped()))
def test_shipped_scenarios_are_right(name: str) -> None:
    scenario = scenarios.load(name)
    assert scenario.name == name
    assert scenario.title
    assert isinstance(scenario.missing(), str)


def test_a_scenario_that_is_not_there() -> None:
    with pytest.raises(LookupError, match=r"no scenario 'no-such'; there are .*mtu-df"):
        scenarios.load("no-such")


def said(text: str) -> str:
    """The error that a text gets, or that of a good one."""
    try:
        loads(text, "x.yaml")
    except TopologyError as error:
        return str(error)
    return "x.yaml: good"


@given(st.text(max_size=400))
def test_any_text_is_a_topology_or_an_error(text: str) -> None:
    assert said(text).startswith("x.yaml:")


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("-:[]{}'\"\n x/0"))
def test_a_damaged_file_is_a_topology_or_an_error(at: int, character: str) -> None:
    assert said(GOOD[:at] + character + GOOD[at + 1 :]).startswith("x.yaml:")


WORDS = ["default", "via", "dev", "eth0", "10.0.0.9", "10.0.0.0/8", "fe80::1", "table", "lookup", "100:", "from", "all", "x", "mtu", "src", "nexthop", "lladdr", "02:00:00:00:00:09"]  # fmt: skip


@given(
    st.sampled_from(["routes", "rules", "neighbours"]),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=8),
)
def test_any_line_of_a_topology_is_read_or_left(where: str, words: list[str]) -> None:
    """What ip would refuse is not a traceback of the reader."""
    line = " ".join(words)
    text = GOOD.replace("  b: {}", f'  b: {{{where}: ["{line}"]}}')
    evidence = read_bytes("x.yaml", text.encode())
    assert evidence.records
