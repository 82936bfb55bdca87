"""``deadhop fqdn replay``: recorded lookups and connections run through the toFQDNs core."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from deadhop.fqdn.options import LATEST

if TYPE_CHECKING:
    from deadhop.agent.compile import Compiled
    from deadhop.agent.recorded import Recording
    from deadhop.hops.fqdn import Decision, World

EXAMPLES = """\b
Examples:
  hubble observe -o jsonpb --last 10000 > hubble.json
  deadhop fqdn replay --policy policies/ --queries hubble.json
  deadhop fqdn replay --policy p.yaml --queries hubble.json --connect shop/web=203.0.113.9:443 --at 2026-03-01T10:00:00Z
  deadhop fqdn replay --policy p.yaml --queries coredns.log --endpoint shop/web=ip:10.0.0.5,app=web
"""


@click.command("replay", epilog=EXAMPLES)
@click.option(
    "--policy", "policies", multiple=True, required=True, type=click.Path(exists=True, path_type=Path),
    help="A policy file, or a folder of them; may be repeated.",
)  # fmt: skip
@click.option(
    "--queries", "queries", multiple=True, required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Flows of hubble observe -o jsonpb, or a CoreDNS log.",
)  # fmt: skip
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="NAME=ip:ADDRESS,LABEL…",
    help="A pod that a log knows by address.",
)
@click.option(
    "--connect", "connects", multiple=True, metavar="POD=IP:PORT", help="Judge this connection as well."
)
@click.option(
    "--at", "at", metavar="TIME", help="Judge every connection as if it were opened at this time (RFC 3339)."
)
@click.option("--cilium-version", default=str(LATEST), show_default=True, help="Whose behaviour to follow.")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The ConfigMap cilium-config.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="text or json.")
def replay(
    policies: tuple[Path, ...],
    queries: tuple[Path, ...],
    endpoints: tuple[str, ...],
    connects: tuple[str, ...],
    at: str | None,
    cilium_version: str,
    config: Path | None,
    output: str,
) -> int:
    """Say of each recorded connection whether names allow it, by which one, until when, and what would.

    Exit status: 0 all allowed, 1 some denied, 3 the recording does not say.
    """
    from deadhop.agent import policyfile, recorded
    from deadhop.agent.config import ConfigError, read_config
    from deadhop.agent.endpoints import parse, resolve
    from deadhop.fqdn.options import Version, options_for
    from deadhop.fqdn.patterns import PatternError
    from deadhop.hops.fqdn import replay as run

    try:
        version = Version.parse(cilium_version)
        options, complaints = options_for(version, read_config(config) if config else None)
        if complaints:
            raise ConfigError("; ".join(f"{flag}: {text}" for flag, text in complaints))
        loaded = policyfile.load(policies, version)
        recording = recorded.read(queries, [_local(resolve(parse(text))) for text in endpoints])
        for text in connects:
            recording.connects.append(_connect(text, recording, at))
            recording.verdicts.append("")
    except policyfile.PolicyRefused as refused:
        raise click.UsageError("the policies are refused:\n" + str(refused)) from refused
    except (ConfigError, ValueError) as error:
        raise click.UsageError(str(error)) from error
    for problem in recording.problems:
        click.echo(problem, err=True)
    if at is not None:
        moment = _time(at)
        recording.connects = [_at(connect, moment) for connect in recording.connects]
    world, compiled = recorded.world_of(recording, loaded, version, options)
    try:
        decisions = run(world)
    except PatternError as error:
        raise click.UsageError(f"a DNS rule does not compile: {error}") from error
    found = [_told(world, compiled, place, decision, recording) for place, decision in enumerate(decisions)]
    asked = _asked(world)
    if output == "json":
        import json

        json.dump({"schema": 1, "connections": found, "queries": asked}, sys.stdout, indent=2)
        sys.stdout.write("\n")
    else:
        _print(found, asked)
    answers = {item["allowed"] for item in found}
    if not found:
        answers = {q["outcome"] in ("forwarded", "unseen") for q in asked}
    if False in answers:
        return 1
    return 3 if None in answers or not answers else 0


def _local(endpoint: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(endpoint, device="recorded")


def _time(text: str) -> float:
    from deadhop.fqdn.clock import from_rfc3339

    try:
        return from_rfc3339(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--at") from error


def _at(connect: Any, moment: float) -> Any:
    import msgspec

    return msgspec.structs.replace(connect, at=moment)


def _connect(text: str, recording: Recording, at: str | None) -> Any:
    from deadhop.fqdn.cache import canonical_ip
    from deadhop.hops.fqdn import Connect

    pod, equals, target = text.partition("=")
    ip, colon, port = target.rpartition(":")
    if not equals or not colon or not port.isdecimal():
        raise click.BadParameter(f"{text!r} is not POD=IP:PORT", param_hint="--connect")
    name = pod if pod in recording.endpoints else f"default/{pod}"
    if name not in recording.endpoints:
        known = ", ".join(sorted(recording.endpoints)) or "none"
        raise click.BadParameter(
            f"no pod {pod} in the recording (there are: {known})", param_hint="--connect"
        )
    last = max((q.at for q in recording.queries), default=0.0)
    return Connect(
        at=_time(at) if at else last, endpoint=name, ip=canonical_ip(ip.strip("[]")), port=int(port)
    )


def _told(
    world: World, compiled: dict[str, Compiled], place: int, decision: Decision, recording: Recording
) -> dict[str, Any]:
    from deadhop.agent.recorded import denied_by_rule
    from deadhop.fqdn.clock import protojson_time
    from deadhop.hops.fqdn import remedies

    connect = decision.connect
    denied = denied_by_rule(compiled.get(connect.endpoint), connect)
    allowed = False if denied else decision.allowed
    return {
        "from": connect.endpoint,
        "to": connect.ip,
        "port": connect.port,
        "protocol": connect.protocol,
        "at": protojson_time(connect.at),
        "allowed": allowed,
        "selector": decision.selector.label if decision.selector and not denied else None,
        "names": list(decision.names),
        "until": protojson_time(decision.until) if decision.until is not None else None,
        "because": "an egressDeny rule names the destination" if denied else decision.because,
        "recorded": recording.verdicts[place],
        "sources": [str(source) for source in connect.sources],
        "would_allow": []
        if denied or allowed
        else [{"kind": remedy.kind, "change": remedy.text} for remedy in remedies(world, place)],
    }


def _asked(world: World) -> list[dict[str, Any]]:
    """What becomes of each different question."""
    from deadhop.hops.fqdn.replay import Replay

    run = Replay(world)
    run.run()
    counted: dict[tuple[str, str, str, str], int] = {}
    for place, query in enumerate(world.queries):
        key = query.endpoint, query.name, query.type, str(run.outcomes[place])
        counted[key] = counted.get(key, 0) + 1
    return [
        {"from": pod, "name": name, "type": rtype, "outcome": outcome, "count": count}
        for (pod, name, rtype, outcome), count in counted.items()
    ]


def _print(found: list[dict[str, Any]], asked: list[dict[str, Any]]) -> None:
    words = {True: "allowed", False: "DENIED", None: "unknown"}
    for item in found:
        where = f"[{item['to']}]" if ":" in item["to"] else item["to"]
        click.echo(
            f"{item['at']}  {item['from']} -> {where}:{item['port']}/{item['protocol']}  {words[item['allowed']]}"
        )
        click.echo(f"    because: {item['because']}")
        if item["names"]:
            click.echo(f"    names:   {', '.join(item['names'])}")
        if item["until"]:
            click.echo(
                f"    until:   {item['until']} (then the next DNS GC, or as long as a connection lives)"
            )
        if item["recorded"]:
            click.echo(f"    recorded: {item['recorded']} ({', '.join(item['sources'])})")
        for remedy in item["would_allow"]:
            click.echo(f"    would allow it: {remedy['change']}")
    refused = [q for q in asked if q["outcome"] != "forwarded"]
    if refused:
        click.echo("queries that the proxy does not forward:")
        for q in refused:
            click.echo(f"    {q['count']:>5}  {q['from']}  {q['name']} {q['type']}: {q['outcome']}")
    if not found:
        click.echo("no connections in the recording; --connect POD=IP:PORT asks about one")
