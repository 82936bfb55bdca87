"""``deadhop observe``: flows of a running agent, or of recordings, in the formats of ``hubble observe``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from deadhop.agent.filters import FlowFilter
    from deadhop.fqdn.flows import FlowLine

SOCKET = Path("/run/deadhop/fqdn.sock")
EXAMPLES = """\b
Examples:
  sudo deadhop observe -f --pod shop/web --verdict DROPPED
  sudo deadhop observe --name '*.example.com' -o jsonpb
  deadhop observe hubble-flows.json --pod shop/web     recorded with hubble observe -o jsonpb
  kubectl exec ... -- hubble observe -o jsonpb | deadhop observe -
"""


@click.command("observe", epilog=EXAMPLES)
@click.argument(
    "recordings", nargs=-1, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@click.option("-f", "--follow", is_flag=True, help="Go on with flows as they come (agent only).")
@click.option(
    "--last", type=click.IntRange(0), help="How many flows. [default: 20 of the agent, all of a recording]"
)
@click.option(
    "--pod", "pods", multiple=True, help="Only flows of this pod, pod or namespace/pod, on either side."
)
@click.option("--verdict", "verdicts", multiple=True, help="Only this verdict, such as DROPPED.")
@click.option(
    "--name", "names", multiple=True, help="Only flows about names that match, in matchPattern's form."
)
@click.option(
    "-o", "--output", type=click.Choice(["compact", "jsonpb", "json"]), default="compact", help="The format."
)
@click.option("--print-node-name", is_flag=True, help="Name the node in compact lines.")
@click.option(
    "--socket",
    type=click.Path(path_type=Path),
    default=SOCKET,
    show_default=True,
    help="The agent's unix socket.",
)
def command(
    recordings: tuple[Path, ...],
    follow: bool,
    last: int | None,
    pods: tuple[str, ...],
    verdicts: tuple[str, ...],
    names: tuple[str, ...],
    output: str,
    print_node_name: bool,
    socket: Path,
) -> int:
    """Show flows: DNS queries and answers, and the policy verdicts on connections."""
    from deadhop.agent.filters import FlowFilter
    from deadhop.fqdn.patterns import PatternError

    try:
        wanted = FlowFilter(pods, verdicts, names)
    except (PatternError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    if recordings and follow:
        raise click.UsageError("a recording cannot be followed")
    problems: list[str] = []
    lines = _recorded(recordings, problems) if recordings else _live(socket, follow, last, wanted)
    chosen: Iterable[FlowLine] = (line for line in lines if wanted.accepts(line.flow))
    if last is not None and not follow:
        chosen = deque(chosen, maxlen=last)
    write = _writer(output, print_node_name)
    for line in chosen:
        write(line)
        if follow:
            sys.stdout.flush()
    for problem in problems:
        click.echo(problem, err=True)
    return 0


def _writer(output: str, node: bool) -> Any:
    from datetime import datetime

    from deadhop.fqdn.flows import compact_line, encode_line

    offset = datetime.now().astimezone().utcoffset()
    if output != "compact":
        return lambda line: sys.stdout.write(encode_line(line) + "\n")
    return lambda line: sys.stdout.write(compact_line(line.flow, node=node, offset=offset) + "\n")


def _live(socket: Path, follow: bool, last: int | None, wanted: FlowFilter) -> Iterator[FlowLine]:
    import msgspec

    from deadhop.cli.fqdn_cache import ask
    from deadhop.fqdn.flows import FlowLine

    request: dict[str, Any] = {"cmd": "observe", "follow": follow}
    if last is not None or not wanted.everything:
        # What is filtered out must not count, so the agent is asked for all that it has.
        request["last"] = last if wanted.everything else (0 if follow and last is None else 1 << 30)
    for answer in ask(socket, request):
        yield msgspec.convert(answer, FlowLine)


def _recorded(paths: Iterable[Path], problems: list[str]) -> Iterator[FlowLine]:
    import msgspec

    from deadhop.fqdn.flows import decode_line

    for path in paths:
        name = "-" if str(path) == "-" else str(path)
        skipped, first = 0, 0
        with click.open_file(name, "rb") as stream:
            for number, raw in enumerate(stream, 1):
                if not raw.strip():
                    continue
                try:
                    yield decode_line(raw)
                except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError):
                    skipped, first = skipped + 1, first or number
        if skipped:
            problems.append(f"{name}:{first}: {skipped} lines are no flows of hubble observe -o jsonpb")
