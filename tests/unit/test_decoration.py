"""Evidence that went through a log collector, a mail or a coloured terminal says what it said before."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from deadhop.evidence.decoration import undecorated
from deadhop.evidence.read import read_bytes
from deadhop.model.record import Record
from scenario import Case, cases

Dress = Callable[[str], str]


def each(prefix: str, suffix: str = "") -> Dress:
    return lambda row: prefix + row + suffix if row.strip() else row


DRESSES: dict[str, Dress] = {
    "indented": each("    "),
    "quoted in a mail": each("> "),
    "coloured": each("\x1b[32m", "\x1b[0m"),
    "out of the kubelet's log file": each("2024-03-01T10:00:00.123456789Z stdout F "),
    "kubectl logs --prefix": each("[pod/app-5d78c9869d-4kzqf/app] "),
    "docker compose logs": each("app-1  | "),
}
DRESSES["the source of a page"] = html.escape
DRESSES["typeset"] = lambda row: row.replace("  ", "\u00a0 ")
DRESSES["a terminal's tabs"] = lambda row: row.expandtabs(8)
FOLDER = Path(__file__).parent.parent / "scenarios"
DRESSES["Docker's json-file"] = lambda row: json.dumps({"log": row + "\n", "stream": "stdout", "time": "2024-03-01T10:00:00Z"}) if row.strip() else row  # fmt: skip
DRESSES["journalctl -o json"] = lambda row: json.dumps({"__REALTIME_TIMESTAMP": "1", "_HOSTNAME": "n", "MESSAGE": row}) if row.strip() else row  # fmt: skip
SAMPLE = [case for path in sorted(FOLDER.rglob("*.md")) for case in cases(path) if case.fires][::9]


def kinds(data: str) -> list[tuple[type[Record], int]]:
    return [(type(r), max(r.source.line, 1)) for r in read_bytes("evidence.txt", data.encode()).records]


@pytest.mark.parametrize("name", DRESSES)
@pytest.mark.parametrize("case", SAMPLE, ids=lambda c: c.slug)
def test_the_records_are_those_of_the_bare_text(case: Case, name: str) -> None:
    for text in case.files.values():
        dressed = "\n".join(DRESSES[name](row) for row in text.split("\n"))
        assert kinds(dressed) == kinds(text)


@pytest.mark.parametrize(
    "rows",
    [
        ["> GET / HTTP/1.1", "> Host: cart", "> Accept: */*", ">"],  # curl -v
        ["$ cat notes", "> one line is no run", "and no quote"],
        ["web-1  | a table", "db  | with bars"],
        ["apiVersion: v1", "", "  kind: Pod"],
    ],
    ids=["curl's request", "a single mark", "a table", "a document with a margin at its first line"],
)
def test_what_only_looks_like_a_prefix_stays(rows: list[str]) -> None:
    assert undecorated(rows) == rows


def test_stern_names_pod_and_container() -> None:
    rows = ['coredns-5d78c9869d-4kzqf coredns [INFO] 10.0.0.9:4000 - 1 "A IN a. udp 19 false 512" NOERROR', "coredns-5d78c9869d-4kzqf coredns [ERROR] plugin/errors: 2 a. A: timeout"]  # fmt: skip
    assert [row.split(" ")[0] for row in undecorated(rows)] == ["[INFO]", "[ERROR]"]


def test_a_unified_diff_is_what_it_leads_to() -> None:
    rows = ["--- a", "+++ b", "@@ -1,2 +1,2 @@", " kept: 1", "-was: 2", "+is: 3", "$ uname -r", "- an item"]
    assert undecorated(rows) == ["", "", "", "kept: 1", "", "is: 3", "$ uname -r", "- an item"]


def test_marks_of_a_block_on_lines_of_its_content() -> None:
    rows = [
        "```$ ip rule",
        "0: from all lookup local",
        "32766: from all lookup main```",
        "```sh",
        "ip a",
        "```",
    ]
    assert undecorated(rows) == ["$ ip rule", *rows[1:2], "32766: from all lookup main", *rows[3:]]


def test_under_the_items_of_a_list() -> None:
    rows = ["1. on the node:", "", "   $ ip rule", "   0: from all lookup local", "", "2. then I gave up"]
    assert undecorated(rows) == [rows[0], "", "$ ip rule", "0: from all lookup local", "", rows[5]]
    manifest = ["containers:", "- name: web proxy", "", "  image: nginx"]
    assert undecorated(manifest) == manifest
