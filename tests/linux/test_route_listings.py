"""What a pasted ``ip route`` shows: a whole table, a part of it, exceptions of the path MTU."""

from __future__ import annotations

from pathlib import Path

import pytest

from deadhop.evidence import read
from deadhop.model.net import Listing
from deadhop.model.observed.node import RouteGet


@pytest.mark.parametrize(
    ("command", "whole"),
    [
        ("ip route", True), ("ip r", True), ("ip -4 route show", True), ("ip ro ls table 100", True), ("ip route show table all", True),
        ("ip route show dev eth0", False), ("ip route list proto bird", False), ("ip r s 10.0.0.0/8", False),
    ],
)  # fmt: skip
def test_a_selection_is_no_whole_table(tmp_path: Path, command: str, whole: bool) -> None:
    path = tmp_path / "session.txt"
    path.write_text(f"$ {command}\ndefault via 10.0.0.1 dev eth0\n10.0.0.0/24 dev eth0 scope link\n")
    assert any(isinstance(r, Listing) for r in read([str(path)]).records) is whole


def test_the_cache_of_exceptions(tmp_path: Path) -> None:
    path = tmp_path / "session.txt"
    path.write_text(
        "$ ip route show cache\n203.0.113.9 via 10.0.0.1 dev eth0\n    cache expires 597sec mtu 1400\n"
        "198.51.100.4 dev eth0\n    cache expires 310sec users 2 mtu 1280\n"
    )
    records = read([str(path)]).records
    assert [(r.dst, r.mtu) for r in records if isinstance(r, RouteGet)] == [
        ("203.0.113.9", 1400),
        ("198.51.100.4", 1280),
    ]
    assert not any(isinstance(r, Listing) for r in records)
