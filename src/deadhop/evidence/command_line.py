"""What a command line runs: wrappers, shells and pipes taken off, and where it runs told apart from what.

``sudo``, ``kubectl exec``, ``nsenter``, ``crictl exec``, ``ssh``, ``ip netns exec`` and ``sh -c`` stand before the command
that prints; a distribution's own program (``microk8s kubectl``) and an alias stand for it.
"""

from __future__ import annotations

import re
import shlex

import msgspec

_ALIAS = {
    "k": ("kubectl",),
    "oc": ("kubectl",),
    "kg": ("kubectl", "get"),
    "kgp": ("kubectl", "get", "pods"),
    "journal": ("journalctl",),
}
#: Distributions that bring kubectl within a program of their own.
_BUNDLES = frozenset("microk8s k3s k0s rke2 minikube".split())
_SHELLS = ("sh", "bash", "ash")
#: What people run ahead of the command that matters: ``date -u; kubectl …``, ``sleep 60; cat …``, ``cd /tmp && ip a``.
_AHEAD = re.compile(
    r"^(?:(?:date|sleep|hostname|clear|cd|pushd|set|uptime)\b[^;&|\"'$()]*(?:;|&&)\s*)+(?=\S)"
)


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command line: what was typed, the effective command, where it ran, the filters behind pipes."""

    line: str
    argv: tuple[str, ...]
    filters: tuple[str, ...] = ()
    host: str = ""
    where: str | None = None
    enters: bool = False


def effective(text: str, line: str) -> Command | None:
    """The command that ``text``, the end of ``line`` behind its prompt, runs; None where there is none."""
    first, *filters = _split_pipes(_AHEAD.sub("", text))
    try:
        words = _substituted(shlex.split(first, comments=True))
    except ValueError:
        words = first.split()
    where: str | None = None
    enters = False
    for _ in range(6):
        while words and re.match(r"^[A-Z_][A-Z0-9_]*=\S*$", words[0]):
            words = words[1:]
        if not words:
            return None
        if words[0] in ("sudo", "time", "watch", "strace", "timeout", "exec") and len(words) > 1:
            words = words[1:]
            while words and (words[0].startswith("-") or words[0].replace(".", "").isdigit()):
                words = words[1:]
            continue
        if words[0] in _BUNDLES and words[1:2] == ["kubectl"]:
            words = words[1:2] + words[3 if words[2:3] == ["--"] else 2 :]
        if words[0] in _ALIAS:
            words = [*_ALIAS[words[0]], *words[1:]]
        if (inside := _inside(words)) is not None:
            where, words = inside
            words = words or ["bash"]
            enters = _program(words) in _SHELLS
            continue
        if _program(words) in _SHELLS and len(words) == 3 and words[1] in ("-c", "-lc", "-ec"):
            inner, *more = _split_pipes(words[2])
            try:
                words = shlex.split(inner)
            except ValueError:
                words = inner.split()
            filters = [*more, *filters]
            if not words:
                return None
            continue
        if words[0] == "ssh" and (there := _ssh(words)):
            host, words, more = there
            where, filters = f"host {host}", [*more, *filters]
            continue
        if words[:3] == ["ip", "netns", "exec"] and len(words) > 4:
            where, words = f"netns {words[3]}", words[4:]
            continue
        break
    if not words:
        return None
    return Command(
        line=line.strip(),
        argv=tuple(words),
        filters=tuple(f.strip() for f in filters),
        where=where,
        enters=enters,
    )


def _program(words: list[str]) -> str:
    return words[0].rsplit("/", 1)[-1]


def _inside(words: list[str]) -> tuple[str, list[str]] | None:
    """Where a command that goes into a container or a namespace goes, and what it runs there; None for any other."""
    if words[0] == "kubectl" and "exec" in words[1:6]:
        return _kubectl_exec(words)
    if _program(words) == "nsenter":
        return _nsenter(words)
    if _program(words) in ("crictl", "docker", "podman", "nerdctl") and "exec" in words[1:4]:
        return _container_exec(words)
    return None


def _substituted(words: list[str]) -> list[str]:
    """A command substitution ``$(…)`` as one word, whatever it holds."""
    made: list[str] = []
    depth = 0
    for word in words:
        if depth:
            made[-1] += f" {word}"
            depth += word.count("(") - word.count(")")
        else:
            made.append(word)
            depth = word.count("(") - word.count(")") if "$(" in word else 0
        depth = max(0, depth)
    return made


def _split_pipes(text: str) -> list[str]:
    parts: list[str] = []
    quote = ""
    current = ""
    depth = 0
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c == "(" and (depth or current.endswith("$")):
            depth += 1
        elif c == ")" and depth:
            depth -= 1
        elif c == "|" and not depth:
            parts.append(current)
            current = ""
            continue
        current += c
    return [*parts, current]


def _kubectl_exec(words: list[str]) -> tuple[str, list[str]]:
    rest = words[words.index("exec") + 1 :]
    front = words[: words.index("exec")]
    namespace = pod = ""
    options = [*front[1:]]
    command: list[str] = []
    if "--" in rest:
        cut = rest.index("--")
        options += rest[:cut]
        command = rest[cut + 1 :]
    else:
        options += rest
    i = 0
    while i < len(options):
        word = options[i]
        if word in ("-n", "--namespace") and i + 1 < len(options):
            namespace = options[i + 1]
            i += 1
        elif word.startswith("--namespace="):
            namespace = word.partition("=")[2]
        elif word in ("-c", "--container", "--context") and i + 1 < len(options):
            i += 1
        elif not word.startswith("-"):
            if pod:
                command = [w for w in options[i:] if w != "--"]
                break
            pod = word
        i += 1
    pod = pod.removeprefix("pod/")
    return (f"{namespace}/{pod}" if namespace else pod), command


def _container_exec(words: list[str]) -> tuple[str, list[str]]:
    """The container and the command of ``crictl exec [OPTIONS] CONTAINER COMMAND``; a container may be ``$(…)``."""
    rest = words[words.index("exec") + 1 :]
    while rest and rest[0].startswith("-"):
        takes = rest[0] in ("-u", "--user", "-w", "--workdir", "-e", "--env", "--timeout")
        rest = rest[2:] if takes else rest[1:]
    if not rest:
        return "container", []
    depth, last = 0, 0
    for at, word in enumerate(rest):
        depth, last = depth + word.count("(") - word.count(")"), at
        if depth <= 0:
            break
    name = rest[0] if last == 0 and re.fullmatch(r"[\w./-]+", rest[0]) else "?"
    return f"container {name}", [w for w in rest[last + 1 :] if w != "--"]


#: Options of ssh(1) that take a word of their own.
_SSH_WORD = ("-i", "-p", "-l", "-o", "-J", "-F", "-E", "-c", "-b", "-S", "-W", "-L", "-R", "-D")


def _ssh(words: list[str]) -> tuple[str, list[str], list[str]] | None:
    """Host, command and filters of ``ssh [OPTIONS] HOST COMMAND``; None for a session without a command."""
    i = 1
    while i < len(words) and words[i].startswith("-"):
        i += 2 if words[i] in _SSH_WORD else 1
    if i + 1 >= len(words):
        return None
    host = words[i].rpartition("@")[2].partition(".")[0]
    rest = words[i + 1 :]
    if len(rest) > 1:
        return host, rest, []
    first, *more = _split_pipes(rest[0])
    try:
        return host, shlex.split(first), more
    except ValueError:
        return host, first.split(), more


def _nsenter(words: list[str]) -> tuple[str, list[str]]:
    where = ""
    i = 1
    while i < len(words):
        word = words[i]
        if word in ("-t", "--target") and i + 1 < len(words):
            where = f"pid {words[i + 1]}"
            i += 1
        elif word.startswith("--target="):
            where = f"pid {word.partition('=')[2]}"
        elif re.match(r"-t\d+$", word):
            where = f"pid {word[2:]}"
        elif word.startswith("--net="):
            where = f"netns {word.partition('=')[2].rsplit('/', 1)[-1]}"
        elif not word.startswith("-"):
            break
        i += 1
    return where, words[i:]
