"""The HTML report: one self-contained page that opens from a ticket, offline; nothing in it runs."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader

from deadhop.model.finding import Diagnosis

_VERDICT = {
    "cause-found": "Cause found",
    "likely": "Likely",
    "insufficient": "Insufficient evidence",
    "healthy": "Healthy",
}


def render(diagnosis: Diagnosis, **_options: Any) -> str:
    environment = Environment(
        loader=PackageLoader("deadhop.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html")
    return page.render(
        d=diagnosis,
        verdict=_VERDICT[diagnosis.verdict],
        head=diagnosis.findings[0] if diagnosis.findings else None,
    )
