"""Command lines in transcripts: prompts of many shells, aliases, wrappers.

``parse`` says whether a line is a command line (what it runs is said by ``command_line``). A line with a shell prompt is one; a line
without a prompt is one only if it starts with a known program and reads like a command, not like a sentence.
"""

from __future__ import annotations

import re

import msgspec

from deadhop.evidence.command_line import Command, effective

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
#: An arrow between a command and what came of it: a note, and no shell's syntax.
_OUTCOME = re.compile(r"[\w\]/.'\"]\s+(?:-+>|=+>|→)\s*[\w\"'<{\[(]")
#: A heading that is a machine's name and nothing else: a label of it ends in a number.
_MACHINE = re.compile(
    r"(?:(?:on|node|host|from|at)[:\s]\s*)?(?P<name>(?:[a-z]{2,}[a-z0-9]*-?|[a-z][a-z0-9]*(?:-[a-z0-9]+)*-)\d[a-z0-9-]*(?:\.[a-z][\w.-]*)?):?"
)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_WORD = re.compile(r"^[A-Za-z][a-z']*[,.;:]?$")
#: What a program prints of itself (``iptables v1.8.4 (legacy)``): its name and a version.
_VERSION = re.compile(r"v\d+(?:\.\d+)+[\w.+-]*,?")


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
    command = effective(line.strip(), line)
    if (
        command
        and _known(command.argv)
        and len(command.argv) > 1
        and not _VERSION.fullmatch(command.argv[1])
        and not _sentence(command.argv)
        and _shaped(command)
    ):
        return command
    return None


def _prompted(text: str, line: str) -> Command | None:
    """The command behind the prompt with which ``text``, the end of ``line``, begins; None where it has none."""
    for pattern in _STRONG:
        if match := pattern.match(text):
            command = effective(match["cmd"], line)
            if command and (_known(command.argv) or _plausible(command.argv)):
                return msgspec.structs.replace(command, host=_host(text))
    for pattern in _WEAK:
        if match := pattern.match(text):
            command = effective(match["cmd"], line)
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
