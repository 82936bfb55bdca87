"""The files of one namespace's folder, written from inside it: what the tools list, and what /proc and /etc hold.

Each file is made on its own: a tool that is missing, refused or silent costs its file and a line that says why.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from deadhop.collect import offload, procfs
from deadhop.report.redact import clean

#: How long one tool may take, in seconds: a firewall of a hundred thousand rules lists in about ten.
PATIENCE = 60.0

#: File to argument vector. Listings go into the folder as they are.
LISTINGS: dict[str, tuple[str, ...]] = {
    "ip-addr.json": ("ip", "-j", "-d", "addr"),
    "ip-link.json": ("ip", "-j", "-d", "-s", "link"),
    "ip-route.json": ("ip", "-j", "-d", "route", "show", "table", "all"),
    "ip-route6.json": ("ip", "-6", "-j", "-d", "route", "show", "table", "all"),
    "ip-rule.json": ("ip", "-j", "rule"),
    "ip-rule6.json": ("ip", "-6", "-j", "rule"),
    "ip-neigh.json": ("ip", "-j", "neigh"),
    "ip-nexthop.json": ("ip", "-j", "nexthop"),
    "nft.json": ("nft", "-j", "list", "ruleset"),
    "iptables-save.txt": ("iptables-nft-save", "-c"),
    "ip6tables-save.txt": ("ip6tables-nft-save", "-c"),
    "conntrack.txt": ("conntrack", "-L"),
}
#: Asked only where the kernel already has tables of this backend: asking would load the modules.
LEGACY: dict[str, tuple[str, tuple[str, ...]]] = {
    "iptables-legacy-save.txt": ("ip_tables_names", ("iptables-legacy-save", "-c")),
    "ip6tables-legacy-save.txt": ("ip6_tables_names", ("ip6tables-legacy-save", "-c")),
}
#: Shown as a terminal shows them, with the command before the output.
SESSIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "tc.txt": (("tc", "-s", "qdisc", "show"),),
    "sockets.txt": (("ss", "-ltn"), ("ss", "-lun")),
}

Miss = tuple[str, str]
"""A file that could not be made, and why."""


class Missing(Exception):
    """A file cannot be made; the message says why."""


class Nothing(Exception):
    """There is nothing that such a file would hold."""


def gather(
    folder: Path,
    name: str,
    *,
    etc: Path = Path("/etc"),
    kernel_log: bool = True,
    kernel_since: float = 0.0,
    files: bool = True,
) -> list[Miss]:
    """Writes the files of the calling process's namespace into ``folder``; gives what could not be made.

    ``name`` stands in prompts. ``files`` are the machine's sysctl.d files and udev rules. ``etc`` is where the
    namespace's processes have ``/etc``. ``kernel_since`` leaves out older lines of the kernel's log, in seconds since
    boot.
    """
    missing: list[Miss] = []
    for file, make in _files(name, etc, kernel_log, kernel_since, files):
        try:
            text = make()
        except Nothing:
            continue
        except (Missing, OSError) as error:
            missing.append((file, str(error) if isinstance(error, Missing) else error.strerror or str(error)))
            continue
        try:
            (folder / file).write_text(redacted(file, text))
        except OSError as error:
            missing.append((file, f"cannot be written: {error.strerror}"))
    return missing


def _files(
    name: str, etc: Path, kernel_log: bool, kernel_since: float, files: bool
) -> Iterator[tuple[str, Callable[[], str]]]:
    for file, argv in LISTINGS.items():
        if file == "conntrack.txt":
            yield file, conntrack
        else:
            yield file, lambda argv=argv: run(argv)  # type: ignore[misc]
    for file, (names, argv) in LEGACY.items():
        yield file, lambda names=names, argv=argv: legacy(names, argv)  # type: ignore[misc]
    for file, commands in SESSIONS.items():
        yield file, lambda commands=commands: "".join(session(name, c) for c in commands)  # type: ignore[misc]
    yield "tc-filters.txt", lambda: filters(name)
    yield "sysctl.txt", procfs.sysctls
    yield "counters.txt", lambda: session_text(name, "nstat -asz", procfs.counters())
    yield "offload.txt", lambda: offload.features(name)
    yield "uname.txt", procfs.uname
    if kernel_log:
        yield "kernel-log.txt", lambda: session_text(name, "dmesg", procfs.kernel_log(kernel_since))
    yield "resolv-conf.txt", lambda: cat(name, etc, "resolv.conf")
    yield "hosts.txt", lambda: cat(name, etc, "hosts")
    if files:
        yield "sysctl-files.txt", lambda: procfs.sysctl_files(name)
        yield "udev-rules.txt", lambda: procfs.udev_rules(name)


def run(argv: tuple[str, ...]) -> str:
    """What a tool prints. Raises :class:`Missing`."""
    try:
        done = subprocess.run(
            argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        raise Missing(f"{argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise Missing(f"{' '.join(argv)} did not end within {PATIENCE:.0f} seconds") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise Missing(f"{' '.join(argv)}: {said[0] if said else f'exit status {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def session_text(name: str, command: str, output: str) -> str:
    """A command and its output as root's terminal in ``name`` shows them."""
    end = "" if not output or output.endswith("\n") else "\n"
    return f"root@{name}:~# {command}\n{output}{end}"


def session(name: str, argv: tuple[str, ...]) -> str:
    return session_text(name, " ".join(argv), run(argv))


def legacy(names: str, argv: tuple[str, ...]) -> str:
    """iptables-save of the legacy backend; an empty listing where the kernel has no table of it."""
    try:
        tables = Path(f"/proc/thread-self/net/{names}").read_text().split()
    except FileNotFoundError:
        tables = []
    return run(argv) if tables else f"# the kernel has no tables of the legacy backend ({names})\n"


def conntrack() -> str:
    """The connection table by ``conntrack -L``, else as /proc shows it."""
    try:
        return run(LISTINGS["conntrack.txt"])
    except Missing as error:
        try:
            return Path("/proc/thread-self/net/nf_conntrack").read_text()
        except OSError as second:
            raise Missing(f"{error}, and /proc/net/nf_conntrack: {second.strerror}") from None


def filters(name: str) -> str:
    """The tc filters of every device that has a clsact or ingress qdisc."""
    listed = run(("tc", "qdisc", "show"))
    out = ""
    for dev in re.findall(r"^qdisc (?:clsact|ingress) \S+ dev (\S+)", listed, re.M):
        for side in ("ingress", "egress"):
            out += session(name, ("tc", "filter", "show", "dev", dev, side))
    if not out:
        raise Nothing
    return out


def cat(name: str, etc: Path, file: str) -> str:
    return session_text(name, f"cat /etc/{file}", (etc / file).read_text(errors="replace"))


def redacted(file: str, text: str) -> str:
    """``text`` without secrets; JSON stays JSON."""
    if not file.endswith(".json"):
        return clean(text)
    try:
        return msgspec.json.encode(_clean(msgspec.json.decode(text))).decode()
    except msgspec.DecodeError:
        return clean(text)


def _clean(value: object) -> object:
    if isinstance(value, str):
        return clean(value) if len(value) > 7 else value
    if isinstance(value, dict):
        return {key: _clean(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_clean(below) for below in value]
    return value
