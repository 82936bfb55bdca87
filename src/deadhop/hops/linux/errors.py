"""How a walk ends early: by the kernel's decision, or because the evidence does not reach."""

from __future__ import annotations

from deadhop.model.packet import PacketAnswer

EPERM, EAGAIN, EACCES, EINVAL, EMSGSIZE = 1, 11, 13, 22, 90
EADDRNOTAVAIL, ENETUNREACH, EHOSTUNREACH = 99, 101, 113

ERRNO = {
    EPERM: "EPERM",
    EAGAIN: "EAGAIN",
    EACCES: "EACCES",
    EINVAL: "EINVAL",
    EMSGSIZE: "EMSGSIZE",
    EADDRNOTAVAIL: "EADDRNOTAVAIL",
    ENETUNREACH: "ENETUNREACH",
    EHOSTUNREACH: "EHOSTUNREACH",
}


class Unknown(Exception):
    """The evidence cannot say; the message names what is missing or what is not modelled."""


class Ended(Exception):
    """The packet's way ends here; the answer lacks its steps, which the walk adds."""

    def __init__(self, answer: PacketAnswer) -> None:
        super().__init__(answer.disposition)
        self.answer = answer
