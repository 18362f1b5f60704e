"""XML signatures of alerts: one form, strictly; only pinned certificates; and only what was signed is what was read.

CAP 1.2, 3.3.4.1 knows one kind, an enveloped signature of the whole alert. Everything that XML Signature can do besides (references to a part or to
another place, keys in the message, paths, stylesheets, objects) has served to pass off one document for another, and is refused before anything
is computed. signxml then judges the form that is left, and the alert that its signed bytes say must be the alert that was read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Final

from lxml import etree

from lalert.cap.catalogue import RULES
from lalert.cap.certificates import (
    Certificate,
    issued_by,
    load,
    load_key,
    read_certificate,
    read_certificates,
)
from lalert.cap.grammar import NAMESPACES, XMLDSIG
from lalert.cap.opening import open_document
from lalert.cap.parse import examine
from lalert.cap.trees import line_of, name_of
from lalert.errors import BadRequest, Problem
from lalert.model import Alert

if TYPE_CHECKING:
    from signxml.algorithms import CanonicalizationMethod
    from signxml.verifier import XMLVerifier

MAX_SIGNATURES: Final = 3
MAX_NAMESPACES: Final = 64
"""Canonical XML looks at every namespace for every element below it: with a thousand of them this takes minutes, and no alert needs a dozen."""

MAX_VALUE: Final = 16_384
"""Characters of one value inside a signature: the value of an RSA key of 4096 bits has 684, a certificate some 3,000."""

MAX_CHAIN: Final = 5
MAX_OBJECTS: Final = 5

_PATH: Final = "/alert/Signature"
_DS: Final = f"{{{XMLDSIG}}}"
_EXCLUSIVE: Final = "http://www.w3.org/2001/10/xml-exc-c14n#"
_ENVELOPED: Final = f"{XMLDSIG}enveloped-signature"
# With or without comments is the same here: a reference to the whole document leaves them out (XML Signature, 4.4.3.3), and what is verified has none.
_CANONICAL: Final = frozenset(
    {
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
        "http://www.w3.org/TR/2001/REC-xml-c14n-20010315#WithComments",
        "http://www.w3.org/2006/12/xml-c14n11",
        "http://www.w3.org/2006/12/xml-c14n11#WithComments",
        _EXCLUSIVE,
        f"{_EXCLUSIVE}WithComments",
    }
)
_MORE: Final = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE_2007: Final = "http://www.w3.org/2007/05/xmldsig-more#"
_METHODS: Final = frozenset(
    {
        *(f"{_MORE}{key}-sha{bits}" for key in ("rsa", "ecdsa") for bits in (256, 384, 512)),
        *(f"{_MORE_2007}sha{bits}-rsa-MGF1" for bits in (256, 384, 512)),
    }
)
_DIGEST_BYTES: Final[Mapping[str, int]] = {
    "http://www.w3.org/2001/04/xmlenc#sha256": 32,
    f"{_MORE}sha384": 48,
    "http://www.w3.org/2001/04/xmlenc#sha512": 64,
}
_SPACE: Final = re.compile(r"[ \t\r\n]+")
_INSTRUCTION: Final = re.compile(rb"<\?(?!xml[ \t\r\n])")


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of an alert's signature: the SHA-256 of the certificate that it holds with, or what is wrong.

    `signed` says whether there is a signature at all; where there is none, the problem is that it is missing.
    """

    signed: bool
    signer: str | None = None
    problem: Problem | None = None


def verify(raw: bytes, certificates: Iterable[str], at: datetime, alert: Alert) -> Verification:
    """Judge the signature of a document that was read as `alert`, with pinned certificates (PEM), at the time of its receipt.

    One signature that holds is enough: others may be of people whose certificates are not pinned. The certificate must have been valid both
    when the alert was sent and when it came in. Raises nothing for what `parse` has read.
    """
    try:
        signatures = _signatures(raw)
    except _Wrong as wrong:
        return Verification(signed=True, problem=wrong.problem(_PATH, 0))
    if not signatures:
        return Verification(signed=False, problem=RULES["CAP-SIGNATURE-MISSING"].finding("/alert"))
    known = {each.fingerprint: each for each in map(read_certificate, certificates)}
    problems: list[Problem] = []
    for number, signature in enumerate(signatures):
        try:
            signer = _signer(raw, number, signature, known, (alert.sent, at), alert)
            return Verification(signed=True, signer=signer)
        except _Wrong as wrong:
            path = f"{_PATH}[{number + 1}]" if len(signatures) > 1 else _PATH
            problems.append(wrong.problem(path, line_of(signature)))
    # Whose signature nobody here can judge says less than one that should have held.
    telling = [each for each in problems if each.rule != "CAP-SIGNATURE-UNTRUSTED"]
    return Verification(signed=True, problem=(telling or problems)[0])


def signatures_loaded() -> bool:
    """Say whether the library is loaded; loading it takes about 0.1 s, once."""
    return "signxml.verifier" in sys.modules


class _Wrong(Exception):
    """Why a signature is not accepted: a rule, and what fills the places of its message."""

    def __init__(self, rule: str, **places: object) -> None:
        super().__init__(rule)
        self._rule = rule
        self._places = places

    def problem(self, path: str, line: int) -> Problem:
        return RULES[self._rule].finding(path, line, **self._places)


def _form(reason: str, reason_ja: str) -> _Wrong:
    return _Wrong("CAP-SIGNATURE-FORM", reason=reason, reason_ja=reason_ja)


def _broken(reason: str, reason_ja: str) -> _Wrong:
    return _Wrong("CAP-SIGNATURE-BROKEN", reason=reason, reason_ja=reason_ja)


def _signatures(raw: bytes) -> list[etree._Element]:
    """Return the signatures of a document; raises `_Wrong` for what could hide one or make it dear to check."""
    root, data = open_document(raw)
    found = list(root.iter(f"{_DS}Signature"))
    if any(signature.getparent() is not root for signature in found):
        raise _form(
            "a Signature stands elsewhere than directly in <alert>",
            "<alert>の直下以外の場所にSignatureがあります",
        )
    if len(found) > MAX_SIGNATURES:
        raise _form(
            f"the alert has more than {MAX_SIGNATURES} signatures", f"署名が{MAX_SIGNATURES}個を超えています"
        )
    if found and data.count(b"xmlns") > MAX_NAMESPACES:
        raise _form(
            f"the document has more than {MAX_NAMESPACES} namespace declarations",
            f"名前空間の宣言が{MAX_NAMESPACES}個を超えています",
        )
    if found and _INSTRUCTION.search(data):
        # It is part of what is signed, and nobody who reads the alert sees it. (What only looks like one, in a comment, may go too.)
        raise _form(
            "a signed alert may not have processing instructions (<?...?>)",
            "署名した警報に処理命令(<?…?>)は使えません",
        )
    return found


def _signer(
    raw: bytes,
    number: int,
    signature: etree._Element,
    known: Mapping[str, Certificate],
    moments: tuple[datetime, datetime],
    alert: Alert,
) -> str:
    """Return the fingerprint of the certificate that a signature holds with; raises `_Wrong`."""
    _check_form(signature)
    candidates = _candidates(signature, known, moments)
    valid = [each for each in candidates if all(map(each.valid_at, moments))]
    if not valid:
        raise _expired(candidates[0], moments)
    failure: _Wrong | None = None
    for document in _documents(raw, number):
        for certificate in valid:
            try:
                signed = _signed_bytes(document, certificate, moments[1])
            except _Wrong as wrong:
                failure = wrong
                continue
            if examine(signed).alert != alert:
                raise _form(
                    "what was signed is not what the alert says",
                    "署名された内容が、読み取った警報の内容と違います",
                )
            return certificate.fingerprint
    assert failure is not None
    raise failure


def _candidates(
    signature: etree._Element, known: Mapping[str, Certificate], moments: Sequence[datetime]
) -> list[Certificate]:
    """Return the certificates that may have signed: the pinned one that the signature names, all pinned ones if it names none.

    What a message brings along is never trusted for itself: it is looked up among the pinned ones, or one of these must have issued it.
    """
    carried = [_decoded(element) for element in signature.iter(f"{_DS}X509Certificate")]
    if len(carried) > MAX_CHAIN:
        raise _form(f"it carries more than {MAX_CHAIN} certificates", f"証明書が{MAX_CHAIN}個を超えています")
    if not carried and known:
        return list(known.values())
    fingerprints = [hashlib.sha256(each).hexdigest() for each in carried]
    named = [known[each] for each in fingerprints if each in known]
    own = [each for each in named if not each.authority]
    if own:
        return own
    authorities = [each for each in known.values() if each.authority]
    # Where an authority's is carried, it goes with the one that it issued; alone it is the signer's own, as openssl makes it.
    if authorities and len(carried) > len(named):
        return [_issued(carried, authorities, moments)]
    if named:
        return named
    raise _Wrong("CAP-SIGNATURE-UNTRUSTED", fingerprint=fingerprints[0] if fingerprints else "-")


def _issued(
    carried: Sequence[bytes], authorities: Sequence[Certificate], moments: Sequence[datetime]
) -> Certificate:
    """Return the one certificate of a chain that is no authority's, if a pinned authority vouches for it all the time; raises `_Wrong`."""
    untrusted = _Wrong("CAP-SIGNATURE-UNTRUSTED", fingerprint=hashlib.sha256(carried[0]).hexdigest())
    try:
        chain = [read_certificate(_pem(each)) for each in carried]
    except BadRequest as error:
        raise untrusted from error
    between = [each for each in chain if each.authority]
    leaves = [each for each in chain if not each.authority]
    if len(leaves) != 1:
        raise untrusted
    [leaf] = leaves
    if not all(map(leaf.valid_at, moments)):
        raise _expired(leaf, moments)
    if not all(issued_by(leaf, between, authorities, moment) for moment in moments):
        raise untrusted
    return leaf


def _pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(der).decode()}\n-----END CERTIFICATE-----\n"


def _expired(certificate: Certificate, moments: Sequence[datetime]) -> _Wrong:
    moment = next(moment for moment in moments if not certificate.valid_at(moment))
    return _Wrong(
        "CAP-SIGNATURE-EXPIRED",
        subject=certificate.subject,
        begins=f"{certificate.begins:%Y-%m-%d}",
        ends=f"{certificate.ends:%Y-%m-%d}",
        moment=moment.isoformat(timespec="seconds"),
    )


def _documents(raw: bytes, number: int) -> Iterator[bytes]:
    """Yield the document as a signature may have covered it, with that signature as the first.

    The transform removes only the signature that it stands in (XML Signature, 6.6.4), so that a second one covers the first. Some networks
    sign without covering the sender's signature; each then holds only with the others removed. Without comments, KeyInfo and Objects there
    is one reading of what is left, and no key to choose but the one that is handed in.
    """
    for alone in (False, True):
        root, _ = open_document(raw)
        signatures = root.findall(f"{_DS}Signature")
        if alone and len(signatures) == 1:
            return
        signature = signatures.pop(number)
        for element in list(signature)[2:]:
            signature.remove(element)
        for other in signatures if alone else ():
            _cut(other)
        if not alone and number:
            _cut(signature)
            signatures[0].addprevious(signature)
        yield etree.tostring(root)


def _cut(element: etree._Element) -> None:
    """Take an element out of its parent and leave the text that follows it."""
    parent, before, tail = element.getparent(), element.getprevious(), element.tail or ""
    assert parent is not None
    if before is None:
        parent.text = (parent.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
    element.tail = None
    parent.remove(element)


def _signed_bytes(document: bytes, certificate: Certificate, at: datetime) -> bytes:
    """Return what the first signature of a document covers, in canonical form; raises `_Wrong` where it does not hold."""
    from signxml.algorithms import CanonicalizationMethod
    from signxml.exceptions import InvalidDigest
    from signxml.verifier import SignatureConfiguration, VerifyResult

    expected = SignatureConfiguration(
        location="./",
        expect_references=1,
        verification_time=at,
        default_reference_c14n_method=CanonicalizationMethod.CANONICAL_XML_1_0,
    )
    parser = etree.XMLParser(resolve_entities=False, load_dtd=False, no_network=True, huge_tree=False)
    try:
        result = _verifier()().verify(
            document,
            x509_cert=load(certificate.pem),
            validate_schema=False,  # the form has been checked, more strictly
            parser=parser,
            expect_config=expected,
        )
    except InvalidDigest as error:
        raise _broken(
            "the document is not the one that was signed; something has changed it on the way",
            "署名したときの文書から内容が変わっています",
        ) from error
    except Exception as error:  # whatever a stranger's signature does to the library, it does not hold
        raise _broken(
            f"it was not made with the key of {certificate.subject}",
            f"証明書({certificate.subject})の鍵による署名ではありません",
        ) from error
    assert isinstance(result, VerifyResult)
    return result.signed_data


@cache
def _verifier() -> type[XMLVerifier]:
    """Return signxml's verifier, mended for signatures whose namespace is the default one, as most programs but signxml write them.

    Of an element inside a document, lxml puts `xmlns=""` into the canonical form of every child that inherits such a namespace; of one that
    stands alone it writes what the standard says.
    """
    from signxml.verifier import XMLVerifier

    class Verifier(XMLVerifier):
        def _c14n(
            self,
            nodes: etree._Element,
            algorithm: CanonicalizationMethod,
            inclusive_ns_prefixes: list[str] | None = None,
        ) -> bytes:
            alone = etree.fromstring(etree.tostring(nodes, with_tail=False), self.parser)
            canonical: bytes = super()._c14n(alone, algorithm, inclusive_ns_prefixes)
            return canonical

    return Verifier


# The one form, by a list of what may be there: everything else is refused, not skipped.


def _check_form(signature: etree._Element) -> None:
    # NAADS, Canada, notes its own remarks in an Object. Nobody signs or reads it, unless it were to hide an alert.
    objects = [each for each in signature if etree.QName(each).localname == "Object"]
    if len(objects) > MAX_OBJECTS or any(map(_hides_an_alert, objects)):
        raise _unexpected(signature)
    parts = list(signature)[: len(signature) - len(objects)]
    names = ["SignedInfo", "SignatureValue", "KeyInfo"][: max(len(parts), 2)]
    if [each.tag for each in parts] != [f"{_DS}{name}" for name in names]:
        raise _unexpected(signature)
    info, value, *key_info = parts
    for element in signature.iter():
        if len(element.text or "") > MAX_VALUE:
            raise _form("a value in it is too long", "値が長すぎます")
    _decoded(value)
    canonical, method, reference = _children(info, ["CanonicalizationMethod", "SignatureMethod", "Reference"])
    _check_canonical(canonical)
    _children(method, [])
    if method.get("Algorithm") not in _METHODS:
        raise _weak(method)
    _check_reference(reference)
    for element in key_info:
        _check_key_info(element)


def _hides_an_alert(element: etree._Element) -> bool:
    return any(etree.QName(each).namespace in NAMESPACES for each in element.iter())


def _check_reference(reference: etree._Element) -> None:
    if reference.get("URI") != "" or not set(reference.attrib) <= {"URI", "Id"}:
        raise _form(
            'it must cover the whole alert: <Reference URI="">',
            '署名は警報全体を対象にしてください(<Reference URI="">)',
        )
    transforms, method, value = _children(reference, ["Transforms", "DigestMethod", "DigestValue"])
    steps = _children(transforms, ["Transform"] * len(transforms))
    if len(steps) not in (1, 2) or steps[0].get("Algorithm") != _ENVELOPED:
        raise _form(
            "its transforms must be enveloped-signature and at most one canonicalization",
            "変換(Transform)はenveloped-signatureと、必要なら正規化1つだけにしてください",
        )
    _children(steps[0], [])
    for step in steps[1:]:
        _check_canonical(step)
    _children(method, [])
    length = _DIGEST_BYTES.get(method.get("Algorithm", ""))
    if length is None:
        raise _weak(method)
    if len(_decoded(value)) != length:
        raise _form(
            "its digest does not have the length of its kind", "ダイジェスト値の長さが方式と合いません"
        )


def _check_canonical(element: etree._Element) -> None:
    """Canonical XML; the exclusive kind may name prefixes (Exclusive XML Canonicalization, 4)."""
    algorithm = element.get("Algorithm")
    if algorithm not in _CANONICAL:
        raise _form(
            f"{_shown(algorithm)} is no canonicalization that is accepted: use Canonical XML, exclusive or not",
            f"正規化方式{_shown(algorithm)}は使えません。Canonical XML(排他的なものも可)を使ってください",
        )
    children = list(element)
    if algorithm.startswith(_EXCLUSIVE) and len(children) == 1:
        [prefixes] = children
        if prefixes.tag == f"{{{_EXCLUSIVE}}}InclusiveNamespaces" and set(prefixes.attrib) == {"PrefixList"}:
            children = list(prefixes)
    if children:
        raise _unexpected(element)


def _check_key_info(key_info: etree._Element) -> None:
    """What names a key may be there and counts for nothing; what fetches one may not."""
    for element in key_info:
        if element.tag not in {f"{_DS}KeyName", f"{_DS}KeyValue", f"{_DS}X509Data"}:
            raise _unexpected(key_info)


def _children(element: etree._Element, names: Sequence[str]) -> list[etree._Element]:
    """Return the children of an element, which must be exactly those of XML Signature with these names."""
    children = list(element)
    if [child.tag for child in children] != [f"{_DS}{name}" for name in names]:
        raise _unexpected(element)
    return children


def _unexpected(element: etree._Element) -> _Wrong:
    name = name_of(element)
    return _form(
        f"<{name}> does not hold exactly what it may: a SignedInfo with one Reference, a SignatureValue, and at most a KeyInfo after it",
        f"<{name}>の中身が規定と違います。Referenceが1つのSignedInfo、SignatureValue、必要ならKeyInfoの順に置いてください",
    )


def _weak(method: etree._Element) -> _Wrong:
    return _Wrong("CAP-SIGNATURE-WEAK", algorithm=_shown(method.get("Algorithm")))


def _shown(algorithm: str | None) -> str:
    return (algorithm or "-").rpartition("#")[2][:60] or "-"


def _decoded(element: etree._Element) -> bytes:
    """Return what base64 stands for, in its one spelling: with other bits in the padding the same value has several (RFC 4648, 3.5)."""
    name = etree.QName(element).localname
    text = _SPACE.sub("", element.text or "")
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(element) or not decoded or base64.b64encode(decoded).decode() != text:
        raise _form(f"<{name}> is no base64", f"<{name}>がBase64として正しくありません")
    return decoded


def sign(raw: bytes, key: str, certificate: str) -> bytes:
    """Return a document with an enveloped signature by a private key, whose certificate goes with it (both PEM).

    RSA or ECDSA with SHA-256 over exclusive canonical XML, so that it still holds where the alert is put into another document.
    """
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from signxml.algorithms import CanonicalizationMethod, SignatureMethod
    from signxml.signer import XMLSigner

    root, _ = open_document(raw)
    private = load_key(key)
    rsa = isinstance(private, RSAPrivateKey)
    made = XMLSigner(
        signature_algorithm=SignatureMethod.RSA_SHA256 if rsa else SignatureMethod.ECDSA_SHA256,
        c14n_algorithm=CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0,
    )
    signed = made.sign(root, key=private, cert=[load(certificate)])
    return etree.tostring(signed, encoding="UTF-8", xml_declaration=True)


@dataclass(frozen=True, slots=True)
class Signer:
    """A private key with its certificate; `published` is what readers verify with: the certificate, and those that came with it, as PEM."""

    key: str = field(repr=False)
    certificate: Certificate
    published: str

    def sign(self, raw: bytes) -> bytes:
        """Return the document, signed."""
        return sign(raw, self.key, self.certificate.pem)


def signer(key: str, certificates: str) -> Signer:
    """Return the signer of a key and its certificate, the first of `certificates` (PEM); raises `BadRequest` where they do not belong together."""
    chain = read_certificates([certificates])
    if load_key(key).public_key() != load(chain[0].pem).public_key():
        raise BadRequest("the private key is not that of the certificate; the signer's own must come first")
    return Signer(key, chain[0], "".join(each.pem for each in chain))
