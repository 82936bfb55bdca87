"""``deadhop ktrace``: the kernel functions that a packet passes, live; and what tells two traces apart."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deadhop.kernel.trace import FunctionTrace
    from deadhop.model.observed.packets import SkbTrace

EPILOG = """\b
FILTER is that of deadhop drops: udp and src port 9053, host 10.0.0.63, netns web and icmp, …
A and B are traces: of this command (text or jsonl), of pwru (text of any release, --output-json), of retis
(retis print --format json).

\b
Examples:
  sudo deadhop ktrace 'udp and src port 9053' -o jsonl > small-mtu.jsonl
  sudo deadhop ktrace host 10.0.0.63 --for 10
  deadhop ktrace diff lost.txt arrived.txt
"""


@click.command("ktrace", epilog=EPILOG)
@click.argument("words", nargs=-1, required=True, metavar="FILTER... | diff A B")
@click.option("-o", "--output", type=click.Choice(["text", "jsonl", "json"]), default="text", show_default=True,
              help="As pwru prints; jsonl is one object a function; json is for diff.")  # fmt: skip
@click.option("-n", "most", type=click.IntRange(1), metavar="COUNT", help="End after so many functions.")
@click.option("--for", "seconds", type=click.FloatRange(0), metavar="SECONDS", help="End after so long.")
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Attach to every function that takes an skb: some 2,000, which takes a while.",
)
def command(
    words: tuple[str, ...], output: str, most: int | None, seconds: float | None, everything: bool
) -> int:
    """Trace matching packets through the kernel's functions, or compare two traces.

    Attaches by kprobe.multi, kprobe or fentry, whatever this kernel allows; needs root. A packet is followed by its
    skb, so that NAT and tunnels do not hide it, and its end is told with the drop reason. By default the functions
    of `deadhop explain`'s catalogue are traced. Nothing is changed.
    """
    if words[0] == "diff":
        if len(words) != 3:
            raise click.UsageError("diff compares two traces: deadhop ktrace diff A B")
        return _diff(Path(words[1]), Path(words[2]), output)
    return _trace(" ".join(words), output, most, seconds, everything)


def _trace(text: str, output: str, most: int | None, seconds: float | None, everything: bool) -> int:
    from deadhop.kernel.drops import DropReasons, NoProbe, types
    from deadhop.kernel.filter import FilterError, parse
    from deadhop.kernel.namespaces import inode_of
    from deadhop.kernel.symbols import Symbols
    from deadhop.kernel.trace import FunctionTrace
    from deadhop.kernel.trace_lines import Lines

    if sys.platform != "linux":
        raise click.UsageError("ktrace traces a Linux kernel; this is none")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    trace: FunctionTrace | None = None
    interrupted = False
    try:
        btf = types()
        reasons = DropReasons(btf)
        node = parse(text, reasons.numbers, inode_of)
        symbols = Symbols()
        if symbols.hidden:
            click.echo(symbols.hidden, err=True)
        if everything and sys.stderr.isatty():
            click.echo("attaching…", err=True)
        trace = FunctionTrace(node, btf, everything=everything)
        click.echo(
            f"tracing {len(trace.functions)} functions by {trace.way}; {len(trace.refused)} cannot be traced here",
            err=True,
        )
        _run(trace, Lines(reasons, symbols), output, most, seconds)
    except FilterError as error:
        raise click.BadParameter(str(error), param_hint="FILTER") from None
    except NoProbe as error:
        raise click.ClickException(
            f"ktrace: {error}\ndeadhop drops works on more kernels: it needs the kfree_skb tracepoint alone"
        ) from None
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if trace:
            passed, lost = trace.counters()
            sys.stdout.flush()
            click.echo(f"{passed} function entries, {lost} lost because the buffer was full", err=True)
            trace.close()
    return 130 if interrupted else 0


def _run(trace: FunctionTrace, lines: object, output: str, most: int | None, seconds: float | None) -> None:
    import msgspec

    from deadhop.kernel.trace_lines import HEADER, Lines

    assert isinstance(lines, Lines)
    end = None if seconds is None else time.monotonic() + seconds
    if output == "text":
        sys.stdout.write(HEADER + "\n")
    shown = 0
    while True:
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            return
        trace.wait(left)
        for event in trace.drain():
            if output == "text":
                sys.stdout.write(lines.text(event) + "\n")
            else:
                sys.stdout.write(msgspec.json.encode(lines.object(event)).decode() + "\n")
            shown += 1
            if most is not None and shown >= most:
                return
        sys.stdout.flush()


def _diff(a: Path, b: Path, output: str) -> int:
    import msgspec

    from deadhop.diagnose.trace_diff import compare, text

    found = compare(_read(a), _read(b))
    if output == "text":
        click.echo(text(found, str(a), str(b)))
    else:
        click.echo(
            msgspec.json.format(msgspec.json.encode(found), indent=2 if output == "json" else -1).decode()
        )
    return 0 if found.parting is None else 1


def _read(path: Path) -> list[SkbTrace]:
    from deadhop.evidence import read
    from deadhop.evidence.documents import NoEvidence
    from deadhop.model.observed.packets import SkbTrace

    try:
        records = read([str(path)]).records
    except NoEvidence as error:
        raise click.UsageError(str(error)) from None
    traces = [record for record in records if isinstance(record, SkbTrace)]
    if not traces:
        raise click.UsageError(
            f"{path}: no trace of kernel functions (pwru, retis or deadhop ktrace) is in it"
        )
    return traces
