"""A topology played by a kernel of its own: packed with this package into a guest, which plays it and sends the story
and the evidence back over its console."""

from __future__ import annotations

import base64
import io
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from deadhop.lab import guest
from deadhop.lab.topology.made import Lab, LabError
from deadhop.lab.topology.play import play
from deadhop.lab.topology.story import Story
from deadhop.model.topology import Topology

_EVIDENCE = "@@deadhop-evidence"
#: What every guest needs beside the topology's own programs.
PROGRAMS = ("dash", "tc")
_PROGRAM = "from deadhop.lab.topology.in_guest import main; main()\n"


def run(topologies: Sequence[Topology], story: Story, keep: Path, scratch: Path) -> None:
    """Boots, plays one after the other, prints what the guest printed, and unpacks the evidence below ``keep``, in
    folders of their own where there are several. Raises :class:`LabError`."""
    story.say("a guest with a kernel of its own plays it; its story comes at its end, in about a minute")
    needs = [program for topology in topologies for program in topology.needs if "/" not in program]
    try:
        status, said = guest.run(
            _PROGRAM,
            scratch,
            modules=[module for topology in topologies for module in topology.guest],
            programs=dict.fromkeys((*PROGRAMS, *needs)),
            files={
                "/topologies.json": msgspec.json.encode(topologies),
                "/etc/hosts": b"127.0.0.1 localhost\n",
            },
        )
    except guest.CannotBoot as error:
        raise LabError(str(error)) from None
    text, _, packed = said.partition(_EVIDENCE)
    story.say(text.strip("\n"))
    for line in text.splitlines():
        if expected := re.match(r"\s+expected: (.*): (ok|NOT SO)(?: \(|$)", line):
            story.checks.append((expected[1], expected[2] == "ok"))
    if packed:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed)), mode="r:gz") as archive:
            archive.extractall(keep, filter="data")
    if status:
        raise LabError("the guest could not play it: what it said is above")


def main() -> None:
    """Runs in the guest: plays ``/topologies.json``."""
    topologies = msgspec.json.decode(Path("/topologies.json").read_bytes(), type=list[Topology])
    os.environ["NO_COLOR"] = "1"
    Path("/bin/sh").symlink_to("/usr/bin/dash")
    for applet in ("ping", "seq", "cat", "grep", "dmesg"):
        Path("/bin", applet).symlink_to("/bin/busybox")
    keep = Path("/evidence")
    story = Story()
    failed = False
    for topology in topologies:
        into = keep / topology.name if len(topologies) > 1 else keep
        into.mkdir(parents=True)
        with Lab() as lab:
            try:
                play(lab, topology, story, into)
            except LabError as error:
                story.say(f"{topology.name}: {error}")
                failed = True
        story.say()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.add(keep, arcname=".")
    print(_EVIDENCE)
    print(base64.b64encode(out.getvalue()).decode(), flush=True)
    raise SystemExit(1 if failed else 0)
