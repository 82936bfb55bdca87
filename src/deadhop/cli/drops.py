"""``deadhop drops``: every packet that the running kernel gives up, live."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deadhop.kernel.drops import DropProbe, Event
    from deadhop.kernel.why import Why
    from deadhop.model.netns import NetNamespace

EPILOG = """\b
Filter, in tcpdump's words and the kernel's:
  host, net, port, portrange with src or dst; tcp udp icmp icmp6 sctp ip ip6 arp, proto N
  dev NAME, netns NAME|INODE|self|pid:N, reason NAME, mark VALUE[/MASK], less N, greater N
  and or not ( )

\b
Examples:
  sudo deadhop drops                                      everything, until Ctrl-C
  sudo deadhop drops 'udp and src port 9053' --why        with what decided, by the model
  sudo deadhop drops 'host 10.0.0.63 and not tcp' -n 5 -o jsonl
  sudo deadhop drops reason IP_RPFILTER --for 60 --count
  sudo deadhop drops netns web --evidence node.tar.gz
"""
#: How long a live reading of a namespace's state is believed, in seconds.
FRESH = 5.0


@click.command("drops", epilog=EPILOG)
@click.argument("words", nargs=-1, metavar="[FILTER]")
@click.option("-o", "--output", type=click.Choice(["text", "jsonl"]), default="text", show_default=True)
@click.option("-n", "most", type=click.IntRange(1), metavar="COUNT", help="End after so many drops.")
@click.option("--for", "seconds", type=click.FloatRange(0), metavar="SECONDS", help="End after so long.")
@click.option("--count", is_flag=True, help="Print a table at the end, and no line per drop.")
@click.option(
    "--why", is_flag=True, help="Say what decided: walk each packet through its namespace's state, read now."
)
@click.option("--evidence", "evidence", type=click.Path(path_type=Path, exists=True), metavar="DIR",
              help="As --why, by the state in an evidence folder or archive, one folder per namespace.")  # fmt: skip
def command(
    words: tuple[str, ...],
    output: str,
    most: int | None,
    seconds: float | None,
    count: bool,
    why: bool,
    evidence: Path | None,
) -> int:
    """Watch the packets that the kernel drops: reason, function, namespace, device, packet.

    Runs on the kfree_skb tracepoint of any Linux since 5.8 (reasons since 5.17) with nothing installed; needs root.
    The filter runs in the kernel. What a full buffer lost is counted and printed at the end. Nothing is changed.
    """
    from deadhop.kernel.drops import DropProbe, DropReasons, NoProbe, types
    from deadhop.kernel.filter import FilterError, parse
    from deadhop.kernel.namespaces import inode_of

    if sys.platform != "linux":
        raise click.UsageError("drops watches a Linux kernel; this is none")
    try:
        btf = types()
        node = parse(" ".join(words), DropReasons(btf).numbers, inode_of)
    except FilterError as error:
        raise click.BadParameter(str(error), param_hint="FILTER") from None
    except NoProbe as error:
        raise click.ClickException(f"drops: {error}") from None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    watch = _Watch(output, count)
    if why or evidence:
        watch.states = _Evidence(evidence) if evidence else _Live(watch.names)
    interrupted = False
    try:
        watch.probe = DropProbe(node, btf)
        watch.run(most, seconds)
    except NoProbe as error:
        raise click.ClickException(f"drops: {error}") from None
    except KeyboardInterrupt:
        interrupted = True
    finally:
        watch.end()
    return 130 if interrupted else 0


class _Watch:
    """The loop, and what it prints."""

    probe: DropProbe | None = None

    def __init__(self, output: str, count: bool) -> None:
        from deadhop.kernel.namespaces import Names
        from deadhop.kernel.symbols import Symbols

        self.output = output
        self.count = count
        self.names = Names()
        self.symbols = Symbols()
        self.states: _Evidence | _Live | None = None
        self.table: Counter[tuple[str, str, str, str]] = Counter()
        self.shown = 0
        self.wall = time.time_ns() - time.monotonic_ns()
        self.colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        if self.symbols.hidden:
            click.echo(self.symbols.hidden, err=True)

    def run(self, most: int | None, seconds: float | None) -> None:
        probe = self.probe
        assert probe
        if not probe.reasons.names:
            click.echo(
                "this kernel names no drop reasons (they begin with Linux 5.17); functions still tell",
                err=True,
            )

        if sys.stderr.isatty():
            click.echo("watching; Ctrl-C ends", err=True)
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                return
            probe.wait(left)
            for event in probe.drain():
                self.shown += 1
                self.one(probe, event)
                if most is not None and self.shown >= most:
                    return
            sys.stdout.flush()

    def one(self, probe: DropProbe, event: Event) -> None:
        reason = probe.reasons.name(event.reason) if probe.reasons.names else ""
        function, offset = self.symbols.at(event.location)
        if self.count:
            self.table[reason, function or "?", self.names.name(event.netns), event.dev] += 1
            return
        told = self.why(event, reason)
        if self.output == "jsonl":
            self.line(event, reason, function, offset, told)
        else:
            self.text(event, reason, function, told)

    def why(self, event: Event, reason: str) -> Why | None:
        if self.states is None:
            return None
        from deadhop.kernel.why import explain

        return explain(event, reason, self.states(event.netns, self.names.short(event.netns)))

    def line(self, event: Event, reason: str, function: str, offset: int, told: Why | None) -> None:
        import msgspec

        from deadhop.kernel.describe import tuple_of

        found: dict[str, Any] = {
            "time": (event.time + self.wall) / 1e9,
            "reason": reason or None,
            "function": function or None,
            "offset": offset if function else None,
            "netns": {"inode": event.netns, "name": self.names.name(event.netns)},
            "dev": event.dev or None,
            "ifindex": event.ifindex or None,
            "in_ifindex": event.iif or None,
            "mark": event.mark,
            "packet": tuple_of(event),
        }
        if told:
            found["why"] = msgspec.to_builtins(told)
        sys.stdout.buffer.write(msgspec.json.encode(found) + b"\n")

    def text(self, event: Event, reason: str, function: str, told: Why | None) -> None:
        from deadhop.kernel.describe import packet_line

        moment = (event.time + self.wall) // 1000
        clock = time.strftime("%H:%M:%S", time.localtime(moment // 1_000_000)) + f".{moment % 1_000_000:06d}"
        place = "/".join(part for part in (self.names.name(event.netns), event.dev) if part) or "-"
        shown = click.style(reason or "-", fg="red", bold=True) if self.colour else reason or "-"
        sys.stdout.write(f"{clock} {shown} {function or '?'} {place}: {packet_line(event)}\n")
        if told:
            sign = "contradiction" if told.contradiction else "why"
            sources = f"  [{', '.join(told.sources)}]" if told.sources else ""
            sys.stdout.write(f"    {sign}: {told.text}{sources}\n")

    def end(self) -> None:
        if self.probe is None:
            return
        passed, lost = self.probe.counters()
        self.probe.close()
        if self.count:
            self.summary()
        if self.output == "jsonl":
            sys.stdout.write(f'{{"drops":{passed},"lost":{lost}}}\n')
        sys.stdout.flush()
        click.echo(f"{passed} drops, {lost} lost because the buffer was full", err=True)

    def summary(self) -> None:
        import msgspec

        for (reason, function, netns, dev), times in self.table.most_common():
            if self.output == "jsonl":
                row = {"count": times, "reason": reason, "function": function, "netns": netns, "dev": dev}
                sys.stdout.write(msgspec.json.encode(row).decode() + "\n")
            else:
                place = "/".join(part for part in (netns, dev) if part) or "-"
                sys.stdout.write(f"{times:>8}  {reason or '-':<20} {function:<28} {place}\n")


class _Evidence:
    """States from an evidence folder: by the namespace's ``ip netns`` name, or its inode as the folder's name."""

    def __init__(self, path: Path) -> None:
        from deadhop.evidence.namespace.folders import folders

        found, problems = folders([str(path)])
        self.by_name = {folder.name: folder.namespace for folder in found}
        for problem in problems:
            click.echo(f"{problem.source}: {problem.kind}: {problem.text}", err=True)
        if not found:
            raise click.BadParameter(f"{path} holds no namespace's folder (ip-addr.json and the files beside it)",
                                     param_hint="--evidence")  # fmt: skip

    def __call__(self, inode: int, name: str) -> NetNamespace | None:
        found = self.by_name.get(name) or self.by_name.get(str(inode))
        if found is None and len(self.by_name) == 1:
            return next(iter(self.by_name.values()))
        return found


class _Live:
    """States read from the namespaces of this machine, each again after :data:`FRESH` seconds."""

    def __init__(self, names: Any) -> None:
        self.names = names
        self.read: dict[int, tuple[float, NetNamespace | None]] = {}

    def __call__(self, inode: int, name: str) -> NetNamespace | None:
        moment, state = self.read.get(inode, (0.0, None))
        if time.monotonic() - moment > FRESH:
            state = self._now(inode, name)
            self.read[inode] = time.monotonic(), state
        return state

    def _now(self, inode: int, name: str) -> NetNamespace | None:
        import tempfile

        from deadhop.collect.child import gather_in_child
        from deadhop.collect.enter import set_netns
        from deadhop.evidence.namespace import READERS, load

        path = self.names.path(inode)
        if not path:
            return None
        with tempfile.TemporaryDirectory(prefix="deadhop-") as scratch:
            folder = Path(scratch)
            gather_in_child(
                folder, name or str(inode), lambda: set_netns(path), kernel_log=False, files=False
            )
            files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name in READERS}
        return load(files, name or str(inode), f"{name or inode}/")[0] if files else None
