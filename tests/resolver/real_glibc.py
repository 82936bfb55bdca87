"""Run inside a private network and mount namespace: one rcode for every name, glibc asks, the questions are printed.

Arguments: a directory for resolv.conf, then ``RCODE:NAME`` cases. Prints one JSON object.
"""

from __future__ import annotations

import json
import pathlib
import socket
import subprocess
import sys
import threading

from deadhop.model.dns import RR, Message, Question, Rcode, type_name
from deadhop.wire.build import write_message
from deadhop.wire.dns import read_question

KNOWN = "api.example.com."


def serve(server: socket.socket, seen: list[tuple[str, str]], rcode: list[int]) -> None:
    while True:
        data, client = server.recvfrom(4096)
        asked = read_question(data)
        kind = type_name(asked.type)
        seen.append((asked.name, kind))
        answers: tuple[RR, ...] = ()
        code = rcode[0]
        if asked.name == KNOWN:
            code = 0
            answers = (RR(KNOWN, 30, kind, "192.0.2.7" if kind == "A" else "2001:db8::7"),)
        message = Message(
            id=asked.id,
            response=True,
            recursion_available=True,
            rcode=code,
            questions=(Question(asked.name, kind),),
            answers=answers,
        )
        server.sendto(write_message(message), client)


def main() -> None:
    place = pathlib.Path(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    text = "nameserver 127.0.0.1\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\n"
    (place / "resolv.conf").write_text(f"{text}options ndots:5 timeout:1 attempts:2\n")
    subprocess.run(["mount", "--bind", str(place / "resolv.conf"), "/etc/resolv.conf"], check=True)
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    seen: list[tuple[str, str]] = []
    rcode = [0]
    threading.Thread(target=serve, args=(server, seen, rcode), daemon=True).start()
    found = {}
    for case in sys.argv[2:]:
        word, _, name = case.partition(":")
        rcode[0] = 0 if word == "NODATA" else Rcode[word]
        seen.clear()
        try:
            infos = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            told = sorted({str(info[4][0]) for info in infos})
        except socket.gaierror as error:
            names = {getattr(socket, n): n for n in dir(socket) if n.startswith("EAI_")}
            told = [names.get(error.errno or 0, str(error.errno))]
        found[case] = {"questions": list(seen), "told": told}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
