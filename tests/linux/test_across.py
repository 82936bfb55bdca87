"""Packets across namespaces by the model, over topologies whose expectations the kernel has met (tests/lab/test_across.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deadhop.evidence.namespace.folders import folders
from deadhop.evidence.topology import loads
from deadhop.hops.linux.across import Wiring, walk_across
from deadhop.model.trace import Disposition
from linux.across_flows import answered, asked

WORLDS = sorted((Path(__file__).parent / "across").glob("*.yaml"))


def wiring(*paths: Path) -> Wiring:
    found, problems = folders([str(p) for p in paths])
    assert not problems
    return Wiring({f.name: f.namespace for f in found})


@pytest.mark.parametrize("path", WORLDS, ids=lambda p: p.stem)
def test_the_model_says_what_the_topology_expects(path: Path) -> None:
    wires = wiring(path)
    for step in asked(loads(path.read_text(), str(path))):
        came, how = answered(wires, step)
        if came is None and "netfilter rules" in how:
            continue  # a topology holds nft's text, and only nft can say what it is in JSON
        assert came is step.answered, f"{step.say}: {how}"
        for netns, reasons in step.drops.items():
            end = walk_across(wires, step.netns, step.flow)
            if end.answer.disposition is Disposition.DELIVERED:
                continue  # it is the answer that dies
            assert end.answer.reason in reasons, f"{step.say}: {end.answer.reason} in {end.netns}"
            assert netns in {stage.netns for stage in end.stages} | {end.netns}, step.say
