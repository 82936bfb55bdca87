"""Walks a topology's steps: does each, listens to the kernel meanwhile, and holds what came against what was expected."""

from __future__ import annotations

import operator
import re
from pathlib import Path

from deadhop.lab.topology import build, serve, testimony, traffic
from deadhop.lab.topology.evidence import Evidence
from deadhop.lab.topology.made import Lab
from deadhop.lab.topology.story import Story
from deadhop.model.topology import Amount, Expect, Step, Topology

#: Lines of a command's output that the story shows; the evidence keeps all.
SHOWN = 8


def play(lab: Lab, topology: Topology, story: Story, keep: Path | None) -> None:
    """Builds, serves and plays. Evidence goes below ``keep``, or where None into the lab's own folder, which goes
    with it. Raises :class:`~deadhop.lab.topology.made.LabError` where something cannot be made."""
    story.title(topology.name, topology.title, topology.about)
    build.build(lab, topology)
    serve.start(lab, topology)
    story.say(f"namespaces: {', '.join(f'{n} ({lab.full(n)})' for n in topology.namespaces)}", 2)
    player = _Player(lab, topology, story, keep or lab.scratch / "evidence")
    try:
        for step in topology.steps:
            player.step(step)
    finally:
        player.close()


class _Player:
    def __init__(self, lab: Lab, topology: Topology, story: Story, folder: Path) -> None:
        self.lab = lab
        self.story = story
        self.names = list(topology.namespaces)
        self.inodes = {lab.inode(name): name for name in self.names}
        self.evidence = Evidence(lab, topology, folder)
        self.drops = testimony.Drops(why_not="not asked for in a guest" if topology.guest else "")
        if self.drops.why_not:
            story.say(f"drop reasons are not shown: {self.drops.why_not}", 2)

    def close(self) -> None:
        self.evidence.close()
        self.drops.close()

    def step(self, step: Step) -> None:
        story = self.story
        if step.fault or step.fix:
            self._change(step)
            return
        if step.capture:
            story.step(step.say or f"capture in {', '.join(step.capture)}")
            self.evidence.capture(step.capture)
            return
        if step.collect:
            self._collect(step)
            return
        before = {name: testimony.counters(self.lab, name) for name in self.names}
        self.drops.take(self.inodes)
        self._send(step)
        after = {name: testimony.counters(self.lab, name) for name in self.names}
        changed = {name: testimony.moved(before[name], after[name]) for name in self.names}
        dropped = self.drops.take(self.inodes)
        counted = [
            f"{name}: " + " ".join(f"{key} {value:+}" for key, value in deltas.items())
            for name, deltas in changed.items()
            if deltas
        ]
        if counted or dropped:
            story.saw("\n".join([*testimony.show(dropped), *counted]), "kernel")
        for name, wanted in step.expect.counters.items():
            for key, amount in wanted.items():
                delta = after[name].get(key, 0) - before[name].get(key, 0)
                story.check(f"{key} of {name} moves {amount}", _fits(delta, amount), f"{delta:+}")
        for name, reasons in step.expect.drops.items():
            seen = {reason for reason, _packet in dropped.get(name, ())}
            for reason in reasons:
                if self.drops.why_not:
                    story.saw(f"the drop reason {reason} in {name} is not checked: {self.drops.why_not}")
                else:
                    said = ", ".join(sorted(seen)) or "none"
                    story.check(f"{name} drops with reason {reason}", reason in seen, said)

    def _send(self, step: Step) -> None:
        story, expect = self.story, step.expect
        if step.run:
            story.step(step.say or f"{step.in_} runs {step.run}")
            done = self.evidence.session(step.in_, step.run)
            rows = done.stdout.rstrip().splitlines()
            more = [f"… {len(rows) - SHOWN} more lines"] if len(rows) > SHOWN else []
            story.saw("\n".join([f"$ {step.run}", *rows[:SHOWN], *more]))
            if expect.exit is not None:
                story.check(
                    f"exit status {expect.exit}", done.returncode == expect.exit, str(done.returncode)
                )
            if expect.output:
                held = re.search(expect.output, done.stdout, re.M) is not None
                story.check(f"output matches /{expect.output}/", held, "it does not")
            return
        if step.udp:
            total = step.udp.count * step.udp.flows
            what = f"{total} UDP datagram{'s' * (total > 1)} of {step.udp.size} bytes to {step.udp.to}"
            what += f" from {step.udp.flows} ports" if step.udp.flows > 1 else ""
            story.step(step.say or f"{step.in_} sends {what}")
            story.saw(f"{step.in_}: {what}, IP_MTU_DISCOVER {step.udp.pmtudisc}", "sent")
            outcome = traffic.udp(self.lab, step.in_, step.udp)
        else:
            assert step.http is not None
            body = f" with a body of {step.http.size} bytes" if step.http.size else ""
            story.step(step.say or f"{step.in_} asks {step.http.url}{body}")
            story.saw(f"{step.in_}: POST {step.http.url}{body}", "sent")
            outcome = traffic.http(self.lab, step.in_, step.http)
        story.saw(str(outcome), "seen")
        self._judge(expect, outcome)

    def _judge(self, expect: Expect, outcome: traffic.Outcome) -> None:
        check = self.story.check
        if expect.answered is not None:
            check(f"{expect.answered} answered", _fits(outcome.answered, expect.answered), str(outcome))
        if expect.status is not None:
            wanted = f"HTTP {expect.status}" if expect.status else "no answer"
            check(wanted, outcome.status == expect.status, str(outcome))
        if expect.errno:
            check(f"the sender gets {expect.errno}", outcome.errno == expect.errno, str(outcome))

    def _change(self, step: Step) -> None:
        kind, changes = ("fault", step.fault) if step.fault else ("fix", step.fix)
        self.story.step(step.say or kind)
        for name, change in changes.items():
            lines = [
                *(f"{path}:\n{text.rstrip()}" for path, text in change.files.items()),
                *(f"sysctl -w {key}={value}" for key, value in change.sysctls.items()),
                *(f"ip {line}" for line in change.ip),
                *(f"tc {line}" for line in change.tc),
                *([f"nft -f - <<E\n{change.nft.rstrip()}\nE"] if change.nft else []),
                *change.run,
            ]
            self.story.saw("\n".join(lines), f"{kind} {name}")
            build.change(self.lab, name, change)

    def _collect(self, step: Step) -> None:
        story, name = self.story, step.collect
        story.step(step.say or f"collect evidence: {name}")
        folder = self.evidence.collect(name)
        kept = not folder.is_relative_to(self.lab.scratch)
        story.saw(str(folder) if kept else "goes with the lab; --keep FOLDER keeps it", "evidence")
        if step.expect.cause:
            found, said = self.evidence.diagnose(folder)
            story.saw("\n".join(said), "diagnosis")
            story.check(
                f"diagnose names {step.expect.cause}", found == step.expect.cause, found or "no finding"
            )


_BOUNDS = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}


def _fits(number: int, wanted: Amount) -> bool:
    """Whether a number is what a topology asks for: ``2`` and ``+2`` exactly, ``>0``, ``>=2``, ``<12``, ``<=3`` as bounds."""
    text = str(wanted).replace(" ", "")
    for sign, holds in _BOUNDS.items():
        if text.startswith(sign):
            return bool(holds(number, int(text.removeprefix(sign))))
    return number == int(text)
