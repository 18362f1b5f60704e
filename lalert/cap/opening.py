"""From a stranger's bytes to an XML tree, or a refusal: everything that could hurt is turned away before anything is read.

One decoding serves the checks and the parser alike, so that no encoding can show one document to the former and another to the latter.
The tree has no comments, no processing instructions and no entities; adjoining pieces of text are one.
"""

from __future__ import annotations

import codecs
import re
import threading
from collections.abc import Mapping
from typing import Final, cast

from lxml import etree

from lalert.cap.catalogue import RULES
from lalert.cap.rules import printable
from lalert.errors import NotXml, Problem

MAX_BYTES: Final = 1024 * 1024
"""The largest document that is read. A nationwide alert with every municipality in two languages has about 600 kB."""

MAX_MARKUP: Final = 60_000  # an area for every municipality, in two languages, has 40,000
MAX_ATTRIBUTES: Final = 1_000
MAX_NAMESPACES: Final = 1_000
MAX_EQUALS_SIGNS: Final = (
    20_000  # far more than texts have, and few enough to count the attributes among them after parsing
)
MAX_PROLOG: Final = 50
MAX_NAMES: Final = 300
MAX_NAME_BYTES: Final = 10_000
# A parser remembers every name that it has met for as long as its thread lives: documents of ever new names would fill the memory.
# Short ones cannot hold many, and looking would cost them a tenth of their time.
_ROOM_FOR_NAMES = 16 * 1024
# Documents shorter than this cannot have so many: the shortest attribute is 5 bytes, the shortest namespace declaration 10.
_ROOM_FOR_ATTRIBUTES = 5 * MAX_ATTRIBUTES
_ROOM_FOR_NAMESPACES = 10 * MAX_NAMESPACES

XINCLUDE: Final = "http://www.w3.org/2001/XInclude"

_UTF_8 = "utf-8"
_ENCODINGS: Final[Mapping[str, str]] = {
    # XML 1.0, 4.3.3 names the Japanese ones; utf8, shift-jis and those with x- are other spellings that can mean but one of them. Whatever
    # else iconv knows (UTF-7, EBCDIC) serves to smuggle rather than to write.
    "utf-8": _UTF_8,
    "utf8": _UTF_8,
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "latin-1",
    "windows-1252": "cp1252",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "cp932": "cp932",
    "euc-jp": "euc_jp",
    "x-euc-jp": "euc_jp",
    "iso-2022-jp": "iso2022_jp",
}
_BOMS = ((codecs.BOM_UTF8, _UTF_8), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
_BOMS_REFUSED = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)

_DECLARATION = re.compile(
    rb"<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:\"[^\"<>]*\"|'[^'<>]*')"
    rb"(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*[\"']([A-Za-z][A-Za-z0-9._-]*)[\"'])?[^<>]*\?>"
)
_USUAL_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>'
_SPACE = re.compile(rb"[ \t\r\n]*")
_LETTER_OF_THREE = re.compile(rb"[\xe0-\xf4]")  # with which a letter of three bytes or four begins in UTF-8
_ELEMENT_NAME = re.compile(rb"<([^ \t\r\n/<>!?]+)")
_ATTRIBUTE_NAME = re.compile(rb"[ \t\r\n]([^ \t\r\n=<>\"'/]++)[ \t\r\n]*=[ \t\r\n]*[\"']")


class Unreadable(NotXml):
    """A refusal of bytes, with the problem that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(
            f"line {problem.line}: {problem.message}" if problem.line else problem.message, line=problem.line
        )
        self.problem: Problem = problem


def refusal(rule: str, line: int = 0, **args: str) -> Unreadable:
    """Return the exception for a rule of the catalogue."""
    entry = RULES[rule]
    return Unreadable(
        Problem(
            rule,
            entry.severity,
            "/",
            line,
            entry.message.format(**args),
            entry.message_ja.format(**args),
            entry.help,
            entry.help_ja,
        )
    )


def open_document(raw: bytes, *, indented: bool = True) -> tuple[etree._Element, bytes]:
    """Return the root of a document and its bytes in UTF-8; without the white space between elements unless it is `indented`.

    A signature is over the white space too. For reading, its nodes would only cost time.

    Raises NotXml for what is not well-formed, forbidden, or more than any alert needs.
    """
    if len(raw) > MAX_BYTES:
        raise refusal("CAP-XML-SIZE", limit=str(MAX_BYTES))
    data = _in_utf_8(raw)
    _check_bytes(data)
    root = _parsed(data, indented=indented)
    _check_tree(root, data)
    return root, data


def _in_utf_8(raw: bytes) -> bytes:
    if raw.startswith(_USUAL_DECLARATION):
        return raw
    encoding, body = _encoding_and_body(raw)
    if encoding == _UTF_8:
        return body
    if body is raw and _speaks_utf_8(raw):
        raise _contradiction(_declared(raw) or "", _UTF_8)
    data = _decoded(raw, encoding, body).encode()
    declaration = _DECLARATION.match(data)
    # The declaration names the encoding of before; without it, and with its line breaks, the parser counts the same lines.
    return (
        b"\n" * data.count(b"\n", 0, declaration.end()) + data[declaration.end() :] if declaration else data
    )


def _speaks_utf_8(raw: bytes) -> bool:
    """Say whether a document that declares another encoding is in UTF-8 all the same: read as declared, its Japanese would be gibberish.

    Text of another encoding hardly ever reads as a letter of three bytes, and nothing in it as anything else.
    """
    if _LETTER_OF_THREE.search(raw) is None:
        return False
    try:
        raw.decode(_UTF_8)
    except UnicodeDecodeError:
        return False
    return True


def _decoded(raw: bytes, encoding: str, body: bytes) -> str:
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        offset = len(raw) - len(body) + error.start
        name = (_declared(body) or encoding).upper()
        raise _undecodable(
            f"the byte at offset {offset} is not {name}",
            f"{offset}バイト目が{name}ではありません",
            body.count(b"\n", 0, error.start) + 1,
        ) from None


def _encoding_and_body(raw: bytes) -> tuple[str, bytes]:
    if raw.startswith(_BOMS_REFUSED):
        raise _undecodable("UTF-32 is not read", "UTF-32は読み込みません")
    for bom, encoding in _BOMS:
        if raw.startswith(bom):
            body = raw[len(bom) :]
            if body.startswith(bom):  # the second is a character, which libxml2 would swallow (XML 1.0, 2.8)
                raise refusal("CAP-XML-FORM", 1, reason="there is something before the first element")
            declared = _declared(
                body if encoding == _UTF_8 else body[:400].decode(encoding, "replace").encode()
            )
            if declared is not None and declared.replace("-", "") not in _names_of(encoding):
                raise _contradiction(declared, encoding)
            return encoding, body
    if b"\0" in raw[:4]:
        raise _undecodable(
            "it looks like UTF-16 or UTF-32 without a byte order mark",
            "バイト順マークのないUTF-16かUTF-32のようです",
        )
    declared = _declared(raw) or _UTF_8
    if declared.startswith("utf-16"):
        raise _undecodable(
            f"it declares {declared.upper()}, but has no byte order mark",
            f"宣言は{declared.upper()}ですが、バイト順マークがありません",
        )
    if declared not in _ENCODINGS:
        raise _undecodable(f"the encoding {declared} is not read", f"文字コード{declared}は読み込みません")
    return _ENCODINGS[declared], raw


def _names_of(encoding: str) -> tuple[str, str]:
    name = encoding.replace("-", "")
    return name, name.removesuffix("le").removesuffix("be")


def _declared(data: bytes) -> str | None:
    match = _DECLARATION.match(data)
    return match[1].decode("ascii").lower() if match and match[1] else None


def _contradiction(declared: str, actual: str) -> Unreadable:
    return _undecodable(
        f"it declares {declared.upper()} but is in {actual.upper()}",
        f"宣言は{declared.upper()}ですが、実際の文字コードは{actual.upper()}です",
    )


def _undecodable(reason: str, reason_ja: str, line: int = 0) -> Unreadable:
    return refusal("CAP-XML-ENCODING", line, reason=reason, reason_ja=reason_ja)


def _check_bytes(data: bytes) -> None:
    if len(data) > MAX_MARKUP and data.count(b"<") > MAX_MARKUP:
        raise refusal("CAP-XML-LIMIT", what="markup", what_ja="要素", limit=str(MAX_MARKUP))
    if len(data) > _ROOM_FOR_NAMESPACES and data.count(b"xmlns") > MAX_NAMESPACES:
        raise refusal(
            "CAP-XML-LIMIT",
            what="namespace declarations",
            what_ja="名前空間の宣言",
            limit=str(MAX_NAMESPACES),
        )
    if len(data) > _ROOM_FOR_NAMES:
        names = set(_ELEMENT_NAME.findall(data)).union(_ATTRIBUTE_NAME.findall(data))
        if len(names) > MAX_NAMES or sum(map(len, names)) > MAX_NAME_BYTES:
            raise refusal(
                "CAP-XML-LIMIT", what="different names", what_ja="要素名や属性名の種類", limit=str(MAX_NAMES)
            )
    if len(data) > MAX_EQUALS_SIGNS and data.count(b"=") > MAX_EQUALS_SIGNS:
        raise _too_many_attributes()
    place = _doctype(data)
    if place >= 0:
        raise refusal("CAP-XML-DTD", data.count(b"\n", 0, place) + 1)


def _doctype(data: bytes) -> int:
    """Return where a DOCTYPE begins, -1 for none: it can only stand before the root, after comments and processing instructions."""
    at = len(_USUAL_DECLARATION) if data.startswith(_USUAL_DECLARATION) else 0
    head = data[at : at + 8].lstrip()
    if head[:1] == b"<" and head[1:2].isalpha():
        return -1
    for _ in range(MAX_PROLOG):
        space = _SPACE.match(data, at)
        at = space.end() if space else at
        if data.startswith(b"<?", at):
            end = data.find(b"?>", at)
            at = end + 2
        elif data.startswith(b"<!--", at):
            end = data.find(b"-->", at + 4)
            at = end + 3
        else:
            return at if data.startswith(b"<!", at) else -1
        if end < 0:
            return -1
    raise refusal(
        "CAP-XML-LIMIT",
        what="comments before the root element",
        what_ja="ルート要素の前のコメント",
        limit=str(MAX_PROLOG),
    )


class _Parsers(threading.local):
    """Parsers for each thread: documents above 64 kB are read outside the event loop's thread."""

    def __init__(self) -> None:
        self.bare = _parser(remove_blank_text=True)
        self.indented = _parser(remove_blank_text=False)


def _parser(*, remove_blank_text: bool) -> etree.XMLParser:
    # Never XMLParser(schema=...): with an entity bomb it crashes the process (lxml 6.1.3).
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        recover=False,
        remove_comments=True,
        remove_pis=True,
        remove_blank_text=remove_blank_text,
        collect_ids=False,
    )


_parsers = _Parsers()

_INVALID_ENCODING = 81  # libxml2 XML_ERR_INVALID_ENCODING
_RESOURCE_LIMIT = (
    114  # libxml2 XML_ERR_RESOURCE_LIMIT: deeper than 256 elements, a name or text beyond its bounds
)


def _parsed(data: bytes, *, indented: bool) -> etree._Element:
    try:
        return etree.fromstring(data, _parsers.indented if indented else _parsers.bare)
    except etree.XMLSyntaxError as error:
        line = max(error.position[0] or 0, 0)
        code = cast(int, getattr(error, "code", 0))
        if code == _INVALID_ENCODING:
            _decoded(data, _UTF_8, data)
        if code == _RESOURCE_LIMIT:
            raise refusal("CAP-XML-LIMIT", line, what="nesting", what_ja="入れ子", limit="256") from None
        raise refusal("CAP-XML-FORM", line, reason=_reason(error.msg or "")) from None


_POSITION = re.compile(r",? *line \d+, column \d+.*\Z", re.DOTALL)


def _reason(message: str) -> str:
    text = printable(" ".join(_POSITION.sub("", message).split()))
    return text[:150] + "…" if len(text) > 150 else text


def _check_tree(root: etree._Element, data: bytes) -> None:
    if b"!" in data and root.getroottree().docinfo.internalDTD is not None:
        raise refusal("CAP-XML-DTD")
    if len(data) > _ROOM_FOR_ATTRIBUTES and data.count(b"=") > MAX_ATTRIBUTES:
        _count_attributes(root)


def forbid_xinclude(root: etree._Element) -> None:
    """Refuse a document with an XInclude element; needs to be asked only where an element is not of CAP."""
    if next(root.iter(f"{{{XINCLUDE}}}*"), None) is not None:
        raise refusal("CAP-XML-XINCLUDE")


def _count_attributes(root: etree._Element) -> None:
    count = 0
    for element in root.iter():
        count += len(element.attrib)
        if count > MAX_ATTRIBUTES:
            raise _too_many_attributes()


def _too_many_attributes() -> Unreadable:
    return refusal("CAP-XML-LIMIT", what="attributes", what_ja="属性", limit=str(MAX_ATTRIBUTES))
