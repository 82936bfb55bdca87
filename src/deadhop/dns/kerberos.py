"""Where a Kerberos or Active Directory client looks for its KDCs: the DNS names, and what krb5.conf(5) says of them."""

from __future__ import annotations

import re

import msgspec

LOOKUPS = (
    ("_kerberos._udp", "KDCs over UDP"),
    ("_kerberos._tcp", "KDCs over TCP"),
    ("_kpasswd._udp", "password changes"),
    ("_ldap._tcp.dc._msdcs", "Active Directory's domain controllers"),
)
"""MIT krb5 ``locate_kdc.c`` (k5_locate_server); RFC 4120 section 7.2.3.2; MS-ADTS section 6.3.2.3."""
PREFERENCE_LIMIT = 1465
"""MIT krb5 ``sendto_kdc.c`` DEFAULT_UDP_PREF_LIMIT, in octets: larger requests try TCP first."""
MAX_LIMIT = 32700
_YES = ("y", "yes", "true", "t", "1", "on")


class Krb5Conf(msgspec.Struct, frozen=True, kw_only=True):
    """What a krb5.conf says about finding KDCs. ``kdcs`` are those of the realm's own section."""

    dns_lookup_kdc: bool = True
    udp_preference_limit: int = PREFERENCE_LIMIT
    default_realm: str = ""
    kdcs: tuple[str, ...] = ()


def looks_like_realm(text: str) -> bool:
    """Upper case letters, at least one dot: what realms look like by convention."""
    return (
        text == text.upper() and text != text.lower() and "." in text.rstrip(".") and not text.startswith("_")
    )


def questions(realm: str) -> list[tuple[str, str]]:
    """The SRV names of a realm."""
    return [(f"{prefix}.{realm.rstrip('.').lower()}.", "SRV") for prefix, _ in LOOKUPS]


def read_krb5(text: str, realm: str) -> Krb5Conf:
    """Reads what it knows and passes over the rest; includes are not followed."""
    section, inside = "", ""
    lookup, limit, default, kdcs = True, PREFERENCE_LIMIT, "", []
    for line in text.splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if head := re.fullmatch(r"\[(\w+)\]\*?", line):
            section, inside = head[1].lower(), ""
            continue
        if line.startswith("}"):
            inside = ""
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            continue
        if value == "{":
            inside = key
        elif section == "libdefaults":
            if key in ("dns_lookup_kdc", "dns_fallback"):
                lookup = value.lower() in _YES
            elif key == "udp_preference_limit" and value.isdecimal() and len(value) < 8:
                limit = min(int(value), MAX_LIMIT)
            elif key == "default_realm":
                default = value
        elif section == "realms" and inside.upper() == realm.upper() and key == "kdc":
            kdcs.append(value)
    return Krb5Conf(
        dns_lookup_kdc=lookup, udp_preference_limit=limit, default_realm=default, kdcs=tuple(kdcs)
    )


def advice(conf: Krb5Conf, realm: str) -> list[str]:
    """What the settings mean for this realm, in words."""
    said: list[str] = []
    if conf.kdcs:
        said.append(
            f"krb5.conf names the KDCs of {realm} ({', '.join(conf.kdcs)}): DNS is not asked for them"
        )
    elif not conf.dns_lookup_kdc:
        said.append(f"krb5.conf has dns_lookup_kdc = false and no kdc for {realm}: no KDC will be found")
    else:
        said.append("krb5.conf leaves KDCs to DNS (SRV, by the C library's resolver: UDP without EDNS first)")
    first = (
        "TCP first, always"
        if conf.udp_preference_limit <= 1
        else f"TCP first above {conf.udp_preference_limit} octets"
    )
    said.append(
        f"requests to the KDC: {first} (udp_preference_limit); the lookup of the KDC is not affected by it"
    )
    return said
