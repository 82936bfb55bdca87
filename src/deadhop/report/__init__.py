"""Reports: text, JSON, HTML, SARIF, JUnit; one file each, loaded when asked for. Secrets are redacted in all."""

from __future__ import annotations

from importlib import import_module

from deadhop.model.finding import Diagnosis
from deadhop.report.redact import redact


def render(
    diagnosis: Diagnosis, output: str, *, explain_score: bool = False, all_problems: bool = False
) -> str:
    """``diagnosis`` as ``text``, ``json``, ``html``, ``sarif`` or ``junit``."""
    clean = redact(diagnosis)
    module = import_module(f"deadhop.report.{output}")
    rendered = module.render(clean, explain_score=explain_score, all_problems=all_problems)
    assert isinstance(rendered, str)
    return rendered
