"""Alerts with a few changes: each mutant is one draw of a `Random`, so that a seed, hypothesis or a fuzzer's bytes can make them alike."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Final, cast

from lxml import etree

from lalert.cap.grammar import NAMESPACES, XMLDSIG

GOOD: Final = Path(__file__).parents[1] / "tests" / "data" / "cap" / "good"
_SEEDS: Final = ("everything.xml", "1.1.xml", "1.0.xml", "signed.xml", "ack.xml", "two-languages.xml")
_XML: Final = "http://www.w3.org/XML/1998/namespace"
_XSI: Final = "http://www.w3.org/2001/XMLSchema-instance"

_TIMES: Final = (
    "2026-07-04T02:20:00+09:00",
    "2026-07-03T17:20:00-00:00",
    "2026-07-03T17:20:00+00:00",
    "2026-07-04T24:00:00+09:00",
    "2026-07-04T24:00:01+09:00",
    "2026-07-04T23:59:60+09:00",
    "2026-07-04T02:20:00+14:00",
    "2026-07-04T02:20:00-14:01",
    "2026-07-04T02:20:00+13:60",
    "2026-02-29T02:20:00+09:00",
    "2024-02-29T02:20:00+09:00",
    "2100-02-29T02:20:00+09:00",
    "2026-13-04T02:20:00+09:00",
    "0000-07-04T02:20:00+09:00",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T24:00:00-14:00",
    "12026-07-04T02:20:00+09:00",
    "-2026-07-04T02:20:00+09:00",
    "2026-07-04T02:20:00Z",
    "2026-07-04T02:20:00.5+09:00",
    "2026-07-04T02:20:00",
    "2026-07-04T02:20:00,09:00",
    "2026-07-04T02:20+09:00",
    "2026-07-04 02:20:00+09:00",
    "2026-7-4T02:20:00+09:00",
    "２０２６-07-04T02:20:00+09:00",
)
_URIS: Final = (
    "https://example.jp/a?b=c&d=%E9%81%BF#e",
    "http://[2001:db8::1]:8080/",
    "https://例え.jp/避難 所",
    "map.txt",
    "javascript:alert(1)",
    "file:///etc/hostname",
    "mailto:a@example.jp",
    "http://[",
    "http://a:b/",
    "http://a/#b#c",
    "%zz",
    "a b",
    ":",
    "//",
    '<a>"',
    "http://a/\u3000",
)
_NUMBERS: Final = (
    "0",
    "-0",
    "+1",
    "12",
    "-1",
    "1.",
    ".5",
    "-.5",
    "1.5",
    "1e3",
    "INF",
    "NaN",
    "１",
    "1 5",
    "1,5",
    "0x1",
    "9" * 400,
    "0" * 400 + "1",
    "350 ft",
)
_LANGUAGES: Final = (
    "ja",
    "en-US",
    "zh-Hans-CN",
    "x-a",
    "jp",
    "ja_JP",
    "ja-",
    "abcdefghi",
    "日本語",
    "1",
    "j a",
)
_WORDS: Final = (
    *("Actual", "Exercise", "System", "Test", "Draft", "Alert", "Update", "Cancel", "Ack", "Error"),
    *("Public", "Restricted", "Private", "Met", "CBRNE", "Geo", "Evacuate", "Avoid", "AllClear", "None"),
    *("Immediate", "Past", "Extreme", "Minor", "Observed", "Likely", "Very Likely", "Unknown"),
    *("actual", " Actual", "Actual\n", "PUBLIC", "Met Geo"),
)
_PLACES: Final = (
    "32.20,130.74 32.20,130.78 32.23,130.78 32.20,130.74",
    "32.20,130.74\n32.20,130.78\t32.23,130.78  32.20,130.74",
    "32,130 33,131 32,131 33,130 32,130",
    "32,130 33,131 32,130",
    "32,130 33,131 34,132 32,130",
    "32,130 32,131 33,131",
    "130,32 130,33 131,33 130,32",
    "91,130 32,131 33,131 91,130",
    "NaN,1 1,2 2,2 NaN,1",
    "1, 1 1, 2 2, 2 1, 1",
    "80,0 80,90 80,180 80,-90 80,0",
    "0,179 1,179 1,-179 0,179",
    "32.21,130.76 2.5",
    "32.21,130.76 0",
    "32.21,130.76 -1",
    "32.21,130.76  5",
    "32.21,130.76,5",
    "32.21,130.76 99999",
)
_REFERENCES: Final = (
    "a@example.jp,a-1,2026-07-03T20:00:00+09:00",
    "a@example.jp,a-1,2026-07-03T20:00:00,09:00",
    "a@example.jp,a-1",
    "a-1/a@example.jp",
    '"a b" c',
    '"a b',
    "bousai@city.hitoyoshi.example.jp,hitoyoshi-20260704-0001,2026-07-04T02:20:00+09:00",
)
_TEXTS: Final = (
    "",
    " ",
    "\n\t ",
    "\u3000",
    "\u00a0",
    "x",
    "避難指示",
    "a b",
    "a,b",
    "a&b",
    "a<b",
    "&nbsp;",
    "<b>x</b>",
    "]]>",
    "\u202ex",
    "\x85",
    "\ufffd",
    "\U0001f6a8",
    "name=value",
    "=",
    "text/plain; charset=utf-8",
    "image/",
    "44GC",
    "44GD",
    "44G",
    "98fdfc0a7426bbb0fca0b106fd1a6c907446d7c0",
    "x" * 200,
)
_ALL: Final = (*_TEXTS, *_TIMES, *_URIS, *_NUMBERS, *_LANGUAGES, *_WORDS, *_PLACES, *_REFERENCES)
_LIKELY: Final[Mapping[str, Sequence[str]]] = {
    **dict.fromkeys(("sent", "effective", "onset", "expires"), _TIMES),
    **dict.fromkeys(("web", "uri"), _URIS),
    **dict.fromkeys(("size", "altitude", "ceiling"), _NUMBERS),
    **dict.fromkeys(("polygon", "circle"), _PLACES),
    **dict.fromkeys(("references", "addresses", "incidents"), _REFERENCES),
    **dict.fromkeys(("status", "msgType", "scope", "category", "responseType"), _WORDS),
    **dict.fromkeys(("urgency", "severity", "certainty"), _WORDS),
    "language": _LANGUAGES,
}
_NAMES: Final = (
    *("identifier", "sender", "sent", "status", "msgType", "scope", "password", "note", "info", "language"),
    *("category", "event", "responseType", "urgency", "expires", "web", "parameter", "valueName", "value"),
    *(
        "resource",
        "mimeType",
        "derefUri",
        "area",
        "areaDesc",
        "polygon",
        "altitude",
        "ceiling",
        "alert",
        "extra",
    ),
)
_ATTRIBUTES: Final = (
    ("a", "b"),
    ("xmlns-x", ""),
    ("{urn:x}b", "c"),
    (f"{{{_XML}}}lang", "ja"),
    (f"{{{_XML}}}space", "preserve"),
    (f"{{{_XML}}}base", "http://127.0.0.1:9/"),
    (f"{{{_XML}}}id", "a"),
    (f"{{{_XSI}}}nil", "true"),
    (f"{{{_XSI}}}nil", "false"),
    (f"{{{_XSI}}}nil", "maybe"),
    (f"{{{_XSI}}}type", "alert"),
    *(
        (f"{{{_XSI}}}type", f"xs:{name}")
        for name in ("string", "token", "date", "anyType", "decimal", "none")
    ),
    (f"{{{_XSI}}}type", "cap:info"),
    (f"{{{_XSI}}}schemaLocation", "urn:oasis:names:tc:emergency:cap:1.2 http://127.0.0.1:9/cap.xsd"),
    (f"{{{_XSI}}}schemaLocation", "odd"),
    (f"{{{_XSI}}}noNamespaceSchemaLocation", "http://127.0.0.1:9/a b"),
    (f"{{{_XSI}}}other", "x"),
)


def mutant(random: Random) -> bytes:
    """Return a well-formed document: an alert with none to four changes, written in one of many ways."""
    root = copy.deepcopy(_seeds()[random.randrange(len(_SEEDS))])
    if random.random() < 0.7:
        _thin_out(root, random)
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        random.choice(_CHANGES)(root, random)
    return _written(root, random)


@cache
def _seeds() -> Sequence[etree._Element]:
    return [etree.fromstring((GOOD / name).read_bytes()) for name in _SEEDS]


def _thin_out(root: etree._Element, random: Random) -> None:
    """Take optional elements away: small documents are judged faster, and what a rule needs is not always there."""
    for name in ("info", "area", "resource", "parameter", "eventCode", "references", "expires", "Signature"):
        if random.random() < 0.3:
            for element in list(root.iter(f"{{*}}{name}")):
                parent = element.getparent()
                if parent is not None:
                    parent.remove(element)


def _any(root: etree._Element, random: Random) -> etree._Element:
    return random.choice(list(root.iter("*")))


def _leaf(root: etree._Element, random: Random) -> etree._Element:
    return random.choice([element for element in root.iter("*") if not len(element)])


def _namespace(root: etree._Element) -> str:
    return etree.QName(root).namespace or ""


def _set_likely(root: etree._Element, random: Random) -> None:
    leaf = _leaf(root, random)
    leaf.text = random.choice(_LIKELY.get(etree.QName(leaf).localname, _TEXTS))


def _draw_ring(root: etree._Element, random: Random) -> None:
    polygons = list(root.iter("{*}polygon"))
    if polygons:
        points = [f"{random.randint(0, 4)},{random.randint(0, 4)}" for _ in range(random.randint(2, 7))]
        random.choice(polygons).text = " ".join(points + points[: random.random() < 0.9])


def _draw_time(root: etree._Element, random: Random) -> None:
    times = [
        e for e in root.iter("*") if etree.QName(e).localname in {"sent", "effective", "onset", "expires"}
    ]
    if times:
        written = "2026-07-04T{:02}:{:02}:00{}".format(
            random.randint(0, 24),
            random.choice((0, 20)),
            random.choice(("+09:00", "-00:00", "-11:30", "+14:00")),
        )
        random.choice(times).text = written


def _set_any(root: etree._Element, random: Random) -> None:
    _any(root, random).text = random.choice(_ALL)


def _edit(root: etree._Element, random: Random) -> None:
    leaf = _leaf(root, random)
    text = leaf.text or ""
    at = random.randint(0, len(text))
    put = random.choice((" ", "\n", "\u00a0", "\u3000", "0", "-", ",", ".", "x", "&", "<", '"', "٣", ""))
    leaf.text = text[:at] + put + text[at + random.randint(0, 2) :]


def _pad(root: etree._Element, random: Random) -> None:
    leaf = _leaf(root, random)
    pads = ("", " ", "\n    ", "\t", "\r", "\u3000", "\u00a0")
    leaf.text = random.choice(pads) + (leaf.text or "") + random.choice(pads)


def _copy_text(root: etree._Element, random: Random) -> None:
    _leaf(root, random).text = _leaf(root, random).text


def _remove(root: etree._Element, random: Random) -> None:
    element = _any(root, random)
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _duplicate(root: etree._Element, random: Random) -> None:
    element = _any(root, random)
    if element.getparent() is not None:
        element.addnext(copy.deepcopy(element))


def _swap(root: etree._Element, random: Random) -> None:
    element = _any(root, random)
    following = element.getnext()
    if element.getparent() is not None and following is not None:
        following.addnext(element)


def _move(root: etree._Element, random: Random) -> None:
    element, target = _any(root, random), _any(root, random)
    if element is not root and not any(ancestor is element for ancestor in (target, *target.iterancestors())):
        target.insert(random.randint(0, len(target)), element)


def _rename(root: etree._Element, random: Random) -> None:
    element = _any(root, random)
    namespace = random.choice((_namespace(root),) * 4 + ("", "urn:x", *NAMESPACES, XMLDSIG))
    name = random.choice((etree.QName(element).localname, *_NAMES))
    element.tag = f"{{{namespace}}}{name}" if namespace else name


def _add(root: etree._Element, random: Random) -> None:
    parent = _any(root, random)
    namespace = random.choice((_namespace(root),) * 4 + ("", "urn:x", XMLDSIG, _XSI))
    child = etree.Element(f"{{{namespace}}}{random.choice(_NAMES)}" if namespace else random.choice(_NAMES))
    if random.random() < 0.7:
        child.text = random.choice(_ALL)
    parent.insert(random.randint(0, len(parent)), child)


def _sign(root: etree._Element, random: Random) -> None:
    nsmap: dict[str | None, str] = {None: XMLDSIG} if random.random() < 0.5 else {"ds": XMLDSIG}
    signature = etree.Element(f"{{{XMLDSIG}}}Signature", nsmap=cast(dict[str, str], nsmap))
    if random.random() < 0.5:
        signature.set("Id", "a")
    inner = etree.SubElement(
        signature, f"{{{random.choice((XMLDSIG, 'urn:x', _namespace(root)))}}}SignedInfo"
    )
    inner.text = random.choice(_TEXTS)
    parent = root if random.random() < 0.7 else _any(root, random)
    parent.insert(random.choice((len(parent), random.randint(0, len(parent)))), signature)


def _attribute(root: etree._Element, random: Random) -> None:
    name, value = random.choice(_ATTRIBUTES)
    element = root if random.random() < 0.3 else _any(root, random)
    element.set(name, value)


def _tail(root: etree._Element, random: Random) -> None:
    element = _any(root, random)
    if element is not root:
        element.tail = random.choice(_TEXTS)


def _interrupt(root: etree._Element, random: Random) -> None:
    leaf = _leaf(root, random)
    text = leaf.text or ""
    at = random.randint(0, len(text))
    node = etree.Comment("x") if random.random() < 0.5 else etree.ProcessingInstruction("x", "y")
    leaf.text, node.tail = text[:at], text[at:]
    leaf.append(node)


def _other_version(root: etree._Element, random: Random) -> None:
    old, new = _namespace(root), random.choice((*NAMESPACES, "urn:oasis:names:tc:emergency:cap:1.3"))
    for element in root.iter("*"):
        if element.tag.startswith(f"{{{old}}}"):
            element.tag = f"{{{new}}}{etree.QName(element).localname}"


_CHANGES: Final[Sequence[Callable[[etree._Element, Random], None]]] = (
    *(_set_likely,) * 5,
    *(_draw_ring,) * 2,
    _draw_time,
    *(_set_any,) * 2,
    *(_edit,) * 3,
    *(_remove,) * 2,
    _pad,
    _copy_text,
    _duplicate,
    _swap,
    _move,
    _rename,
    _add,
    _sign,
    _attribute,
    _tail,
    _interrupt,
    _other_version,
)

_WAYS: Final = (
    *(("utf-8", "UTF-8", b""),) * 8,
    ("utf-8", "", b""),
    ("utf-8", "utf-8", b"\xef\xbb\xbf"),
    ("utf-16-le", "UTF-16", b"\xff\xfe"),
    ("utf-16-be", "UTF-16", b"\xfe\xff"),
    ("cp932", "Shift_JIS", b""),
    ("euc_jp", "EUC-JP", b""),
    ("iso2022_jp", "ISO-2022-JP", b""),
    ("ascii", "US-ASCII", b""),
)


def _written(root: etree._Element, random: Random) -> bytes:
    etree.cleanup_namespaces(root)
    text = etree.tostring(root, encoding="unicode")
    if '"xs:' in text:
        text = text.replace("xmlns", 'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns', 1)
    if random.random() < 0.1:
        text = text.replace(">\n", ">\r\n")
    if random.random() < 0.1:
        text = text.replace("\n", "")
    encoding, name, bom = random.choice(_WAYS)
    declaration = f'<?xml version="1.0" encoding="{name}"?>' if name else ""
    if declaration and random.random() < 0.8:
        declaration += "\n"
    return bom + (declaration + text).encode(encoding, "xmlcharrefreplace")


_TOKENS: Final = (
    *(b"<", b">", b"</", b"/>", b"&", b"&amp;", b"&#0;", b"&#x80;", b"&#xD800;", b"&#x110000;", b"&lt;b&gt;"),
    *(b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?", b"?>", b"<?xml ", b"<!DOCTYPE a>", b"<!ENTITY", b"&x;"),
    *(b"xmlns=", b'xmlns:x="urn:x"', b'xml:lang="ja"', b'xsi:type="x"', b"<x:y/>", b'""', b"=", b'"', b"'"),
    *(
        b"\0",
        b"\x01",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xc0\xbc",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbf\xbe",
    ),
    *(
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xfe\xff",
        b"\r",
        b"\n",
        b"\r\n",
        b"\xc2\x85",
        b"\xe2\x80\xa8",
        b"\t",
        b" ",
    ),
    *(b"UTF-8", b"UTF-16", b"Shift_JIS", b"EUC-JP", b"ISO-2022-JP", b"UTF-7", b"\x1b$B", b"\x1b(B", b"+ADw-"),
    *(
        b"<info>",
        b"</info>",
        b"<area>",
        b"</area>",
        b"<polygon>",
        b"</polygon>",
        b"<references>",
        b"</alert>",
    ),
    *(b"0", b"-", b",", b".", b"1e999", b"99999999999999999999", b"+09:00", b"-00:00", b"Z", b"24:00:00"),
)


def garbled(random: Random) -> bytes:
    """Return a mutant whose bytes were damaged as well, so that it need not be XML at all."""
    data = bytearray(mutant(random))
    for _ in range(random.choice((1, 1, 2, 3, 8))):
        at, length = random.randrange(len(data) + 1), random.choice((0, 1, 1, 2, 8, 64))
        kind = random.randrange(5)
        if kind == 0:
            data[at : at + length] = b""
        elif kind == 1:
            data[at : at + length] = random.choice(_TOKENS)
        elif kind == 2:
            data[at:at] = data[at : at + length] * random.choice((1, 2, 9))
        elif kind == 3 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        else:
            other = random.randrange(len(data) + 1)
            data[at : at + length] = data[other : other + random.choice((1, 8, 64))]
    return bytes(data)
