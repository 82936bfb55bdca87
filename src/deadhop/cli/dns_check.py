"""``deadhop dns check``: every server, every transport, and what would break."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deadhop.dns.findings import Finding, Fit
    from deadhop.dns.probe import Place, Tried

EXAMPLES = """\b
Examples:
  deadhop dns check api.example.com                                  the servers of /etc/resolv.conf
  deadhop dns check _ldap._tcp.example.com --type SRV --server 10.96.0.10 --server 10.0.0.2
  deadhop dns check CORP.EXAMPLE.COM                                 a realm: finds its KDCs
  sudo deadhop dns check api.example.com --netns web                 here and in a namespace
  deadhop dns check api.example.com --bufsize 1400 -o json
"""


@click.command("check", epilog=EXAMPLES)
@click.argument("name", metavar="NAME|REALM")
@click.option("--type", "rtype", metavar="TYPE", help="The record type. [default: A; SRV for a realm]")
@click.option("--server", "servers", multiple=True, metavar="IP[:PORT]",
              help="Ask this server; repeat it for more. [default: those of resolv.conf]")  # fmt: skip
@click.option("--tcp", "only", flag_value="tcp", help="TCP only.")
@click.option("--udp", "only", flag_value="udp", help="UDP only.")
@click.option(
    "--bufsize", type=click.IntRange(512, 65535), help="UDP with this EDNS size (and TCP, unless --udp)."
)
@click.option("--netns", metavar="NAME|PID|PATH", help="Ask from this network namespace too, and compare.")
@click.option("--krb5-conf", type=click.Path(dir_okay=False, path_type=Path), default=Path("/etc/krb5.conf"),
              show_default=True, help="Read for a realm, where it is there.")  # fmt: skip
@click.option("--timeout", type=click.FloatRange(0.05), default=2.0, show_default=True,
              help="Seconds for each of two tries.")  # fmt: skip
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def command(
    name: str,
    rtype: str | None,
    servers: tuple[str, ...],
    only: str | None,
    bufsize: int | None,
    netns: str | None,
    krb5_conf: Path,
    timeout: float,
    output: str,
) -> int:
    """Ask every server by every transport and EDNS size; show sizes, truncation, DF and times, and say what differs and
    what would break at which MTU.

    NAME is asked as it stands: the search list is not applied. An upper-case name with a dot and no --type is a
    Kerberos realm. DF is seen by root only. Exit status: 0 fine, 1 findings, 3 no server answered.
    """
    import contextlib

    from deadhop.cli.progress import progress
    from deadhop.dns import findings, kerberos, probe
    from deadhop.dns.sockets import endpoint
    from deadhop.model.dns import type_number
    from deadhop.wire.names import write_name

    realm = name.rstrip(".") if rtype is None and kerberos.looks_like_realm(name) else ""
    questions = kerberos.questions(realm) if realm else [(name.rstrip(".") + ".", (rtype or "A").upper())]
    places: dict[str, Place] = {"here": contextlib.nullcontext}
    resolv = Path("/etc/resolv.conf")
    try:
        for question, kind in questions:
            type_number(kind)
            write_name(question)
        if netns:
            places[f"netns {netns}"], inner = _namespace(netns)
            resolv = inner or resolv
        asked = list(servers) or _nameservers(resolv)
        for server in asked:
            endpoint(server)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    ways = [w for w in probe.WAYS if only in (None, w.transport)]
    if bufsize:
        ways = [probe.Way("udp", bufsize)] if only != "tcp" else []
        ways += [probe.TCP] if only != "udp" else []
    asks = probe.asks_of(questions, asked, ways, places)
    with progress("asking") as tick:
        tick(f"{len(asked)} servers")
        results = probe.probe_all(asks, timeout, places)
    found = findings.judge(results)
    if realm:
        found = _of_realm(found, results, realm)
    fits = findings.fits(results)
    plain = findings.without_edns(results)
    krb5 = _krb5(krb5_conf, realm) if realm else []
    if output == "json":
        _json(name, realm, results, found, fits, plain, krb5)
    else:
        _text(name, realm, results, found, fits, plain, krb5)
    if all(t.error for t in results):
        return 3
    return 1 if any(f.severity != "note" for f in found) else 0


def _namespace(text: str) -> tuple[Place, Path | None]:
    """How to enter the namespace, and its resolv.conf where it has one of its own. Raises ``ValueError``."""
    from deadhop.collect.enter import inside

    if "/" in text:
        path, resolv = Path(text), None
    elif text.isdecimal():
        path, resolv = Path(f"/proc/{text}/ns/net"), Path(f"/proc/{text}/root/etc/resolv.conf")
    else:
        path, resolv = Path(f"/run/netns/{text}"), Path(f"/etc/netns/{text}/resolv.conf")
    try:
        with inside(str(path)):
            pass
    except OSError as error:
        raise ValueError(f"--netns {text}: {path}: {error.strerror or error}") from None
    return lambda: inside(str(path)), resolv if resolv is not None and resolv.exists() else None


def _nameservers(path: Path) -> list[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; give --server") from None
    found = [words[1] for line in lines if (words := line.split())[:1] == ["nameserver"] and len(words) > 1]
    if not found:
        raise ValueError(f"{path} names no nameserver; give --server")
    return found


def _of_realm(found: list[Finding], results: list[Tried], realm: str) -> list[Finding]:
    """A realm needs one of its KDC names; the others may be missing."""
    from deadhop.dns.findings import Finding

    kdcs = [
        t for t in results if t.name.startswith("_kerberos.") and any(r.startswith("SRV ") for r in t.records)
    ]
    kept = [f for f in found if f.kind != "no-records"]
    if not kdcs and any(not t.error for t in results):
        text = (
            f"no SRV record of a KDC reached this place: clients say 'Cannot find KDC for realm \"{realm}\"'"
        )
        return [Finding(kind="no-kdc", severity="fault", name=realm, type="SRV", text=text), *kept]
    return kept


def _krb5(path: Path, realm: str) -> list[str]:
    from deadhop.dns import kerberos

    try:
        text = path.read_text(errors="replace")
    except OSError:
        text = ""
    return kerberos.advice(kerberos.read_krb5(text, realm), realm)


def _json(
    name: str,
    realm: str,
    results: list[Tried],
    found: list[Finding],
    fits: list[Fit],
    plain: list[str],
    krb5: list[str],
) -> None:
    import msgspec

    body = {
        "schema": 1, "name": name, "realm": realm or None, "answered": any(not t.error for t in results),
        "findings": found, "results": results, "mtu": fits, "without_edns": plain, "krb5": krb5,
        "kdcs": _kdcs(results) if realm else [],
    }  # fmt: skip
    click.echo(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())


def _kdcs(results: list[Tried]) -> list[str]:
    """``host:port`` of every KDC, by name."""
    words = (
        r.split()
        for t in results
        if t.name.startswith("_kerberos.")
        for r in t.records
        if r.startswith("SRV ")
    )
    return sorted({f"{w[4].rstrip('.')}:{w[3]}" for w in words if len(w) == 5})


def _text(
    name: str,
    realm: str,
    results: list[Tried],
    found: list[Finding],
    fits: list[Fit],
    plain: list[str],
    krb5: list[str],
) -> None:
    from deadhop.dns.findings import outcome

    serious = [f for f in found if f.severity != "note"]
    if all(t.error for t in results):
        click.echo(f"{name}: no server answered")
    elif not serious:
        click.echo(f"{name}: fine")
    else:
        faults = sum(f.severity == "fault" for f in serious)
        risks = len(serious) - faults
        words = [
            f"{n} {word}{'' if n == 1 else 's'}" for n, word in ((faults, "fault"), (risks, "risk")) if n
        ]
        click.echo(f"{name}: {', '.join(words)}")
    for finding in found:
        place = f" in {finding.where}" if finding.where not in ("here", "") else ""
        by = f" [{finding.server}{place}]" if finding.server else place
        click.echo(
            f"  {finding.severity:<5} {finding.kind}{by} {finding.name} {finding.type}: {finding.text}"
        )
    last = None
    for tried in results:
        head = (tried.name, tried.type, tried.server, tried.where)
        if head != last:
            where = "" if tried.where == "here" else f" from {tried.where}"
            click.echo(f"\n{tried.name} {tried.type} @{tried.server}{where}")
            last = head
        if tried.error:
            click.echo(f"  {tried.way!s:<14} {tried.error}")
            continue
        df = "" if tried.transport == "tcp" else {True: "DF", False: "no DF", None: "DF unknown"}[tried.df]
        cells = [f"{outcome(tried):<9}", f"{tried.size:>5} octets", f"{len(tried.records):>3} records"]
        cells += ["TC"] * tried.truncated + [f"ttl {tried.ttl}"] * (tried.ttl is not None) + [df] * bool(df)
        cells += [f"fragments of {tried.fragment}"] * bool(tried.fragment) + [
            f"{tried.seconds * 1000:.1f} ms"
        ]
        click.echo(f"  {tried.way!s:<14} " + "  ".join(cells))
    broken: dict[tuple[str, str, str, int, str], list[str]] = {}
    for fit in fits:
        if fit.outcome != "fits":
            key = (fit.name, fit.type, fit.server, fit.packet, fit.outcome)
            broken.setdefault(key, []).append(f"{fit.mtu} ({fit.link})")
    if broken:
        click.echo("\nWhat would break by UDP")
        for (question, kind, server, packet, end), mtus in broken.items():
            click.echo(
                f"  {question} {kind} from {server}, a packet of {packet}: {end} at an MTU of {', '.join(mtus)}"
            )
    elif fits:
        click.echo(
            f"\nThe largest UDP answer is a packet of {max(f.packet for f in fits)} octets: fits every MTU from 1280 up"
        )
    if plain:
        click.echo("\nA client without EDNS gets")
        for line in plain:
            click.echo(f"  {line}")
    if realm:
        kdcs = _kdcs(results)
        more = f" and {len(kdcs) - 6} more" if len(kdcs) > 6 else ""
        click.echo(f"\nKDCs: {', '.join(kdcs[:6]) or 'none'}{more}")
        for line in krb5:
            click.echo(f"  {line}")
