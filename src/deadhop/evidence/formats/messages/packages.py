"""Package managers' logs: what was upgraded, and when (dpkg(1), apt history.log, dnf.rpm.log)."""

from __future__ import annotations

from deadhop.evidence.formats.messages import catalogue, entry

_EVR = r"\d[\w.+~:-]*"

FORMAT = catalogue(
    "packages",
    (
        entry("package-upgraded", rf"^\s*\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d upgrade (?P<package>[\w.+-]+?)(?::\w+)? (?P<before>{_EVR}) (?P<after>{_EVR})", "dpkg.log"),
        entry("package-upgraded", rf"^\s*Upgrade: (?:.*, )?(?P<package>systemd|udev)(?::\w+)? \((?P<before>{_EVR}), (?P<after>{_EVR})\)", "apt, history.log"),
        entry("package-upgraded", rf"\b(?:SUBDEBUG|INFO|DEBUG) (?:--> )?Upgraded?: (?P<package>[a-z][\w.+-]*?)-(?P<after>{_EVR})", "dnf.rpm.log"),
        entry("package-upgraded", rf"^\s*(?P<package>systemd|systemd-udev|udev)-(?P<after>{_EVR}?)(?:\.\w+)?\s+(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ", "rpm -q --last"),
    ),
    priority=30,
)  # fmt: skip
