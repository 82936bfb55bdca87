"""``collect node``: the calling namespace and every other one that can be entered, a folder each, and a manifest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from deadhop import __version__
from deadhop.collect import enter
from deadhop.collect.capture import Capture
from deadhop.collect.child import gather_in_child
from deadhop.collect.discover import Found, asked, discover, folder_name
from deadhop.collect.gather import session_text
from deadhop.collect.procfs import counters

MANIFEST = "manifest.json"


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is not there, and why."""

    file: str
    why: str


class Manifest(msgspec.Struct, kw_only=True):
    """What was collected. ``namespaces`` maps a folder to how its namespace was found."""

    collected: str = "deadhop collect node"
    schema: int = 1
    version: str = __version__
    at: str = ""
    root: bool = False
    namespaces: dict[str, dict[str, Any]] = {}
    missing: list[Missed] = []


def collect(
    folder: Path,
    pods: Sequence[str] = (),
    *,
    capture_seconds: float = 0.0,
    progress: Callable[[str], None] = lambda _text: None,
) -> Manifest:
    """Writes everything below ``folder``. Without ``pods`` every namespace that is found is entered.

    Captures run in all of them at once, before the listings, so that these show what the traffic left. Raises
    :class:`~deadhop.collect.discover.NoNamespace` for a pod that does not exist.
    """
    refused: list[tuple[str, str]] = []
    if pods:
        others = asked(pods)
    else:
        others, refused = discover()
    manifest = Manifest(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        root=os.geteuid() == 0,
        missing=[Missed(file=what, why=why) for what, why in refused],
    )
    host = folder_name(os.uname().nodename, {entry.name for entry in others})
    places: list[tuple[str, Found | None]] = [(host, None), *((entry.name, entry) for entry in others)]
    for name, _entry in places:
        (folder / name).mkdir(parents=True, exist_ok=True)
    if capture_seconds > 0:
        _capture(folder, places, capture_seconds, manifest, progress)
    for name, entry in places:
        progress(f"{name}: listings")
        missing = gather_in_child(
            folder / name,
            name,
            _entering(entry),
            etc=_etc(entry),
            kernel_log=entry is None,
            files=entry is None,
        )
        manifest.missing += [Missed(file=f"{name}/{file}", why=why) for file, why in missing]
        manifest.namespaces[name] = (
            {"path": entry.path, "inode": entry.inode, "pid": entry.pid, "pod_uid": entry.pod_uid}
            if entry
            else {"path": "/proc/self/ns/net", "inode": os.stat("/proc/self/ns/net").st_ino}
        )
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    return manifest


def _entering(entry: Found | None) -> Callable[[], None]:
    if entry is None:
        return lambda: None
    path = entry.path
    return lambda: enter.set_netns(path)


def _etc(entry: Found | None) -> Path:
    """Where the namespace's processes have their /etc: by a process's root, or what ip-netns(8) lays over it."""
    if entry is None:
        return Path("/etc")
    if entry.pid:
        return Path(f"/proc/{entry.pid}/root/etc")
    own = [Path("/etc/netns", name) for name in entry.names if Path("/etc/netns", name).is_dir()]
    return own[0] if own else Path("/etc")


def _capture(
    folder: Path,
    places: list[tuple[str, Found | None]],
    seconds: float,
    manifest: Manifest,
    progress: Callable[[str], None],
) -> None:
    running: dict[str, Capture] = {}
    try:
        for name, entry in places:
            try:
                if entry is None:
                    running[name] = Capture()
                else:
                    with enter.inside(entry.path):
                        running[name] = Capture()
            except OSError as error:
                manifest.missing.append(
                    Missed(file=f"{name}/capture.pcapng", why=error.strerror or str(error))
                )
        for name, entry in places:
            _counters(folder / name, name, entry)
        if running:
            progress(f"capturing in {len(running)} namespaces for {seconds:g} s")
            threading.Event().wait(seconds)
        for name in list(running):
            (folder / name / "capture.pcapng").write_bytes(running.pop(name).finish())
    finally:
        for capture in running.values():
            capture.close()


def _counters(folder: Path, name: str, entry: Found | None) -> None:
    """The counters before the capture, beside those that the listings take behind it."""
    try:
        if entry is None:
            text = counters()
        else:
            with enter.inside(entry.path):
                text = counters()
    except OSError:
        return
    (folder / "counters-before.txt").write_text(session_text(name, "nstat -asz", text))
