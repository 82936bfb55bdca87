"""The manual says what the tests show, and its configuration is one."""

from __future__ import annotations

import re
from pathlib import Path

from deadhop.gateway.config import parse, warnings
from gateway.test_smuggling import CUT, REFUSED

MANUAL = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()


def test_every_hostile_case_stands_in_the_manual_with_its_status() -> None:
    for name, (_, status) in REFUSED.items():
        assert f"| {name} | {status} |" in MANUAL
    for name in CUT:
        assert f"- {name}\n" in MANUAL


def test_the_manuals_configuration_is_read(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", MANUAL, re.DOTALL)
    assert example
    for name in ("api-key", "ca.pem", "session-secret", "client-secret"):
        (tmp_path / name).touch()
    config = parse(example[1], "gateway.yaml", tmp_path)
    assert len(config.routes) == 2
    assert not list(warnings(config))
