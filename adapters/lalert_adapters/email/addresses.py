"""Which e-mail addresses are taken, and how they are kept."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

import idna

MAX_ADDRESS: Final = 254
"""Octets of a path without its angle brackets (RFC 5321, 4.5.3.1.3)."""
MAX_LOCAL: Final = 64

_ASCII_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_KEPT: Final = frozenset("LNM")
"""Letters, digits and marks: what a local part may hold beyond ASCII (RFC 6531, 3.3 allows more, such as invisible characters)."""


def checked(address: str) -> str:
    """Return an address as it is kept: local part in NFC, domain in lower-case ASCII; raises `ValueError` with the reason.

    Quoted local parts and domains in brackets are refused: nobody is reached by them only, and they are what smuggles a second recipient in.
    """
    if len(address) > MAX_ADDRESS:
        raise ValueError(f"must be an e-mail address of at most {MAX_ADDRESS} characters")
    local, at, domain = unicodedata.normalize("NFC", address).rpartition("@")
    if not at or not _is_local(local):
        raise ValueError("must be one plain e-mail address, for instance bousai@town.example.jp")
    ascii_domain = _ascii(domain)
    kept = f"{local}@{ascii_domain}"
    if len(local.encode()) > MAX_LOCAL or len(kept.encode()) > MAX_ADDRESS:
        raise ValueError(f"must have at most {MAX_LOCAL} octets before the @, and {MAX_ADDRESS} in all")
    return kept


def _is_local(local: str) -> bool:
    plain = "".join("a" if not c.isascii() and unicodedata.category(c)[0] in _KEPT else c for c in local)
    return _ASCII_LOCAL.fullmatch(plain) is not None


def _ascii(domain: str) -> str:
    try:
        name = domain.lower() if domain.isascii() else idna.encode(domain, uts46=True).decode()
    except idna.IDNAError:
        name = ""
    labels = name.split(".")
    if len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)) or labels[-1].isdigit():
        raise ValueError("must have a domain name after the @, for instance town.example.jp")
    return name
