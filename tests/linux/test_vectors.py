"""What kernel 6.18 did with real packets in router namespaces, and what the model says.

The folder named by ``DEADHOP_VECTORS_LINUX`` holds ``KIND-NN/`` with ``evidence/NETNS/``, ``flows.jsonl`` and
``kernel.jsonl``. An unknown kind or field is a failure: it would be a promise that nobody checks.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deadhop.evidence.namespace import load
from deadhop.hops.linux.walk import walk_packet
from deadhop.model.netns import NetNamespace
from deadhop.model.packet import PacketFlow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("DEADHOP_VECTORS_LINUX", ROOT.parent / "shared" / "vectors" / "linux"))
KINDS = {"fib", "rpf", "mtu", "nft", "v6"}
FIELDS = {"id", "disposition", "reasons", "icmp", "icmp_not_observable", "out"}

cases = sorted(FOLDER.iterdir()) if FOLDER.is_dir() else []


class Flow(PacketFlow, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A flow line; a field that the model does not know is an error."""

    kind: str
    scope: str = "namespace"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


def namespaces(case: Path) -> dict[str, NetNamespace]:
    found = {}
    for folder in (case / "evidence").iterdir():
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        found[folder.name], problems = load(files, folder.name)
        assert not problems
    return found


@pytest.mark.skipif(not cases, reason=f"no vectors in {FOLDER} (DEADHOP_VECTORS_LINUX)")
@pytest.mark.parametrize("case", cases, ids=lambda path: path.name)
def test_the_model_agrees_with_the_kernel(case: Path) -> None:
    assert case.name.split("-")[0] in KINDS
    worlds = namespaces(case)
    flows = {line["id"]: msgspec.convert(line, Flow) for line in lines(case / "flows.jsonl")}
    for truth in lines(case / "kernel.jsonl"):
        assert set(truth) <= FIELDS
        flow = flows[truth["id"]]
        assert flow.kind == "packet"
        assert flow.scope == "namespace"
        answer = walk_packet(worlds[str(flow.netns)], flow)
        got = {
            "disposition": str(answer.disposition),
            "reasons": [answer.reason] if answer.reason else [],
            "icmp": msgspec.structs.asdict(answer.icmp) if answer.icmp else None,
            "out": sorted(list(pair) for pair in answer.out),
        }
        want = {
            "disposition": truth["disposition"],
            "reasons": truth["reasons"],
            "icmp": truth["icmp"],
            "out": sorted(truth.get("out", [])),
        }
        if truth["icmp_not_observable"] and got["disposition"] == "rejected":
            got["disposition"], got["icmp"] = "dropped", None
        assert got == want, (flow, answer.steps)
        assert answer.steps
