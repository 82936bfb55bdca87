"""The scenarios that need a kernel of their own, one after the other in one guest with Debian's kernel."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from deadhop import causes
from deadhop.diagnose.engine import diagnose
from deadhop.evidence.read import read
from deadhop.lab import guest, scenarios
from deadhop.lab.topology import in_guest
from deadhop.lab.topology.story import Story
from deadhop.model.topology import Topology

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(bool(guest.unavailable()), reason=guest.unavailable() or "available"),
]


def test_a_kernel_of_its_own_does_what_the_scenarios_say(tmp_path: Path) -> None:
    found = [scenarios.load(name) for name in scenarios.shipped()]
    played: list[Topology] = [
        s.topology for s in found if s.topology and s.topology.guest and not s.missing()
    ]
    assert len(played) >= 4
    said = io.StringIO()
    story = Story(said)
    in_guest.run(played, story, tmp_path, tmp_path)
    assert story.failed == [], said.getvalue()
    assert len(story.checks) >= 3 * len(played)
    for topology in played:
        after = tmp_path / topology.name / "after"
        if after.is_dir():
            faults = [
                f.cause for f in diagnose(read([str(after)]), causes.load()).findings if f.severity == "fault"
            ]
            assert faults == [], topology.name
