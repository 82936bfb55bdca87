"""The phases of a toFQDNs policy and the client that asks CNAME first, played for real."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from deadhop.lab.scenarios import load
from deadhop.lab.topology.made import Lab
from deadhop.lab.topology.story import Story

pytestmark = pytest.mark.lab


@pytest.mark.parametrize("name", ["fqdn-phases", "fqdn-cname-first"])
def test_the_story_holds(name: str, tmp_path: Path) -> None:
    scenario = load(name)
    if reason := scenario.missing():
        pytest.skip(reason)
    out = io.StringIO()
    story = Story(out)
    with Lab() as lab:
        scenario.run(story, lab, tmp_path)
    assert story.checks
    assert story.failed == [], out.getvalue()
