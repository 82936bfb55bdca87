"""Command lines in transcripts: prompts of many shells, aliases, wrappers.

``parse`` says whether a line is a command line and what it runs. A line with a shell prompt is one; a line
without a prompt is one only if it starts with a known program and reads like a command, not like a sentence.
"""

from __future__ import annotations

import re
import shlex

import msgspec

_NAMES = """
kubectl k kg kgp oc ip sysctl cat nsenter systemd-cgls route journal journalctl dmesg tcpdump dig nslookup host
curl wget ping ping6 nc ncat telnet iptables iptables-save ip6tables ip6tables-save iptables-legacy
iptables-legacy-save nft conntrack cilium cilium-dbg cilium-agent hubble istioctl linkerd calicoctl bridge ethtool
ss netstat traceroute tracepath mtr crictl ctr docker helm ls grep tail head echo sudo getent openssl grpcurl pwru
bpftool service systemctl lsmod modprobe awk watch arp arping env printenv resolvectl systemd-resolve uname wg
tshark ipset networkctl nmcli nstat iperf iperf3 minikube kind k3s talosctl export vi vim ps pgrep find kdig drill
iptables-nft iptables-nft-save iptables-restore ip6tables-legacy ip6tables-legacy-save ip6tables-nft ip6tables-nft-save
firewall-cmd ufw brctl tc ipvsadm ifconfig virsh lxc podman nerdctl etcdctl calico-node rabbitmqctl
paste sed jq yq rpm dpkg zgrep xargs uptime
pilot-agent getcap nmap ssh aws az gcloud eksctl kinit pip python python3 sh bash exec exit node go
"""
PROGRAMS = frozenset(_NAMES.split())
_ALIAS = {
    "k": ("kubectl",),
    "oc": ("kubectl",),
    "kg": ("kubectl", "get"),
    "kgp": ("kubectl", "get", "pods"),
    "journal": ("journalctl",),
}

# What may stand before a command. Each needs its sigil; `#` and `>` alone are too weak and need a known program.
_STRONG = (
    re.compile(r"^\s*\(?[\w.-]+\)?\s*[\w.-]+@[\w.-]+[:\s]?\s*[~/\w.-]*\s?[$#%»❯➜▶>]+\s*(?P<cmd>\S.*)$"),
    re.compile(r"^\s*[\w.-]+@[\w.-]+[:\s]?\s*[~/\w.-]*\s?[$#%»❯➜▶>]+\s*(?P<cmd>\S.*)$"),
    re.compile(r"^\s*\[[\w.@:~ /-]+\]\s?[~\w/]*\s?[$#]\s?(?P<cmd>\S.*)$"),
    re.compile(r"^\s*~[\w/.-]*\s?[$#»❯➜▶>]+\s*(?P<cmd>\S.*)$"),
    re.compile(r"^\s*~?:?/[\w/.-]*\s?[$#]\s+(?P<cmd>\S.*)$"),
    re.compile(r"^\s*(?P<host>[a-zA-Z][\w.-]*):[~/][\w/.~-]*\s?[$#]\s*(?P<cmd>\S.*)$"),
    # PowerShell; a user and a folder in brackets of their own.
    re.compile(r"^\s*PS (?:[A-Za-z]:[\\/]|[/~])[^>\n]{0,200}> ?(?P<cmd>\S.*)$"),
    re.compile(r"^\s*\[[\w.-]+@[\w.-]+\]\s?\[[^\]\n]{0,200}\]\s?[$#]\s?(?P<cmd>\S.*)$"),
)
_WEAK = (
    re.compile(r"^\s*[A-Za-z]:\\[^>\n]{0,200}>\s?(?P<cmd>\S.*)$"),
    # Oh My Zsh: the folder behind the arrow, and what git says of it.
    re.compile(r"^\s*➜\s+[\w~./-]+(?: git:\([^)\n]{0,100}\))?(?: [✗✔])?\s+(?P<cmd>[a-z][\w-]*\s.*)$"),
    re.compile(r"^\s*(?:[$❯➜»▶λ]+|%)\s*(?P<cmd>\S.*)$"),
    re.compile(r"^\s*(?:[\w.-]+)?[#>]\s*(?P<cmd>\S.*)$"),
    re.compile(r"^\s*~[\w/.-]*\s+(?P<cmd>[\w-]+(?:\s.*)?)$"),
    re.compile(r"^\s*~?:?[\w/.~-]*[#$]\s*(?P<cmd>\S.*)$"),
    re.compile(r"^\s*[a-zA-Z][\w.-]* [#$] (?P<cmd>\S.*)$"),
    # Gentoo, Flatcar and openSUSE: machine and folder parted by a blank.
    re.compile(r"^\s*(?P<host>[a-zA-Z][\w.-]*) [~/][\w/.~-]* ?[$#%] ?(?P<cmd>\S.*)$"),
)
#: What prompts show before themselves: the time, the cluster (kube-ps1), the corner of a prompt of two lines.
_STATUS = re.compile(r"^\s*(?:(?:\[?\d{1,2}:\d\d(?::\d\d)?\]?|\([⎈☸][^)\n]{0,100}\)|[└╰]─+[╼>]?)\s*)+(?=\S)")
#: Distributions that bring kubectl within a program of their own.
_BUNDLES = frozenset("microk8s k3s k0s rke2 minikube".split())
#: What people run ahead of the command that matters: ``date -u; kubectl …``, ``sleep 60; cat …``, ``cd /tmp && ip a``.
_AHEAD = re.compile(
    r"^(?:(?:date|sleep|hostname|clear|cd|pushd|set|uptime)\b[^;&|\"'$()]*(?:;|&&)\s*)+(?=\S)"
)
#: An arrow between a command and what came of it: a note, and no shell's syntax.
_OUTCOME = re.compile(r"[\w\]/.'\"]\s+(?:-+>|=+>|→)\s*[\w\"'<{\[(]")
#: A heading that is a machine's name and nothing else: a label of it ends in a number.
_MACHINE = re.compile(
    r"(?:(?:on|node|host|from|at)[:\s]\s*)?(?P<name>(?:[a-z]{2,}[a-z0-9]*-?|[a-z][a-z0-9]*(?:-[a-z0-9]+)*-)\d[a-z0-9-]*(?:\.[a-z][\w.-]*)?):?"
)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_WORD = re.compile(r"^[A-Za-z][a-z']*[,.;:]?$")


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A command line: what was typed, the effective command, where it ran, the filters behind pipes."""

    line: str
    argv: tuple[str, ...]
    filters: tuple[str, ...] = ()
    host: str = ""
    where: str | None = None
    enters: bool = False


def parse(line: str) -> Command | None:
    """The command on ``line``, or None where the line is not a command line."""
    if (
        len(line) > 4096
        or not line.strip()
        or line.startswith("#!")
        or _OUTCOME.search(_QUOTED.sub("''", line))
    ):
        return None
    if (command := _prompted(line, line)) is not None:
        return command
    if (status := _STATUS.match(line)) and (command := _prompted(line[status.end() :], line)) is not None:
        return command
    command = _command(line.strip(), line)
    if (
        command
        and _known(command.argv)
        and len(command.argv) > 1
        and not _sentence(command.argv)
        and _shaped(command)
    ):
        return command
    return None


def _prompted(text: str, line: str) -> Command | None:
    """The command behind the prompt with which ``text``, the end of ``line``, begins; None where it has none."""
    for pattern in _STRONG:
        if match := pattern.match(text):
            command = _command(match["cmd"], line)
            if command and (_known(command.argv) or _plausible(command.argv)):
                return msgspec.structs.replace(command, host=_host(text))
    for pattern in _WEAK:
        if match := pattern.match(text):
            command = _command(match["cmd"], line)
            wrapped = command is not None and command.where is not None
            if command and (_known(command.argv) or wrapped) and not _sentence(command.argv):
                return msgspec.structs.replace(command, host=match.groupdict().get("host") or "")
    return None


def machine(label: str) -> str:
    """The machine that a heading (``# node-2``, ``== on worker3 ==`` without its marks) names; empty where it names none."""
    match = _MACHINE.fullmatch(label.strip())
    return match["name"] if match else ""


def _host(line: str) -> str:
    match = re.match(
        r"^\s*(?:\[?[\w.-]+@([\w.-]+)|\[([a-z][\w.-]*)\]\s?[#$]|([a-zA-Z][\w.-]*):[~/][\w/.~-]*\s?[$#])", line
    )
    return next((name for name in match.groups() if name), "") if match else ""


def _known(argv: tuple[str, ...]) -> bool:
    if argv[:1] == ("for",):  # a loop on one line: for NAME in WORDS; do …
        return len(argv) > 5 and argv[2] == "in" and "do" in argv[4:]
    return bool(argv) and argv[0].rsplit("/", 1)[-1] in PROGRAMS


def _plausible(argv: tuple[str, ...]) -> bool:
    return bool(re.fullmatch(r"[./\w-]{2,40}", argv[0])) and not _sentence(argv)


def _shaped(command: Command) -> bool:
    """A command without a prompt: at least one option, path, pipe, address or subcommand, and no sentence."""
    rest = command.argv[1:]
    if command.argv[0] in (
        "host",
        "ping",
        "service",
        "find",
        "watch",
        "exec",
        "go",
        "node",
        "export",
        "route",
        "env",
        "head",
        "tail",
        "kind",
        "bridge",
        "sh",
        "bash",
    ):
        return any(a.startswith("-") or "." in a or "/" in a for a in rest)
    return any(re.search(r"[-./:=@]", a) for a in rest) or len(rest) <= 3


def _sentence(argv: tuple[str, ...]) -> bool:
    """Whether the words behind the program read as a sentence: a run of plain words, or a closing full stop."""
    run = longest = 0
    for word in argv[1:]:
        run = run + 1 if _WORD.match(word) else 0
        longest = max(longest, run)
    if any(word.startswith("-") and len(word) > 1 for word in argv[1:]):
        return False  # nobody writes options into a sentence
    return longest >= 5 or (len(argv) > 3 and argv[-1].endswith((".", ":")) and longest >= 2)


def _command(text: str, line: str) -> Command | None:
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
        if words[0] == "kubectl" and "exec" in words[1:6]:
            where, words = _kubectl_exec(words)
            enters = not words or words[0].rsplit("/", 1)[-1] in ("bash", "sh", "ash")
            if not words:
                words = ["bash"]
            continue
        if words[0].rsplit("/", 1)[-1] == "nsenter":
            where, words = _nsenter(words)
            enters = not words or words[0].rsplit("/", 1)[-1] in ("bash", "sh", "ash")
            if not words:
                words = ["bash"]
            continue
        if words[0].rsplit("/", 1)[-1] in ("crictl", "docker", "podman", "nerdctl") and "exec" in words[1:4]:
            where, words = _container_exec(words)
            enters = not words or words[0].rsplit("/", 1)[-1] in ("bash", "sh", "ash")
            if not words:
                words = ["bash"]
            continue
        if (
            words[0].rsplit("/", 1)[-1] in ("sh", "bash", "ash")
            and len(words) == 3
            and words[1] in ("-c", "-lc", "-ec")
        ):
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
