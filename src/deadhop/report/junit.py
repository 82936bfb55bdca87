"""JUnit XML, for CI: one case per finding; a fault fails, a benign finding passes, no finding at all is an error."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree as xml

from deadhop.model.finding import Diagnosis


def render(diagnosis: Diagnosis, **_options: Any) -> str:
    faults = [f for f in diagnosis.findings if f.severity == "fault"]
    insufficient = diagnosis.verdict == "insufficient"
    suite = xml.Element(
        "testsuite",
        name="deadhop",
        tests=str(max(1, len(diagnosis.findings))),
        failures=str(len(faults)),
        errors=str(int(insufficient)),
    )
    for finding in diagnosis.findings:
        case = xml.SubElement(suite, "testcase", classname="deadhop", name=finding.cause)
        if finding.severity == "fault":
            failure = xml.SubElement(case, "failure", message=_plain(finding.title), type=diagnosis.verdict)
            failure.text = _plain("\n".join(f"{line.source}: {line.text}" for line in finding.evidence))
    if not diagnosis.findings:
        case = xml.SubElement(suite, "testcase", classname="deadhop", name=diagnosis.verdict)
        if insufficient:
            error = xml.SubElement(
                case, "error", message="the evidence does not suffice", type="insufficient"
            )
            error.text = _plain("\n".join(f"$ {n.command}\n  {n.decides}" for n in diagnosis.next))
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + xml.tostring(suite, encoding="unicode") + "\n"


def _plain(text: str) -> str:
    """``text`` without the control characters that XML 1.0 forbids."""
    return "".join(c for c in text if c in "\t\n\r" or ord(c) >= 32)
