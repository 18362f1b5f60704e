"""Signatures: what is genuine holds, in every form that senders use; of what is forged nothing does."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from signxml.algorithms import (
    CanonicalizationMethod,
    DigestAlgorithm,
    SignatureMethod,
)
from signxml.signer import SignatureReference, XMLSigner

from lalert import cap
from lalert.errors import LalertError
from lalert.model import Alert
from lalert.testing import make_cap
from tests.signing_kit import Signer, authority, member, signer

DS = "http://www.w3.org/2000/09/xmldsig#"
CAP = "urn:oasis:names:tc:emergency:cap:1.2"
SENT = datetime(2026, 7, 4, 2, 20, tzinfo=UTC)
NOW = SENT + timedelta(minutes=1)
EXCLUSIVE = CanonicalizationMethod.EXCLUSIVE_XML_CANONICALIZATION_1_0

RAW = make_cap(identifier="genuine", sent=SENT, headline="球磨川が氾濫するおそれ <至急> & 𠮷野家")
TOWN = signer()


def judged(raw: bytes, *pinned: Signer, at: datetime = NOW, alert: Alert | None = None) -> cap.Verification:
    return cap.verify(raw, [each.certificate for each in pinned or (TOWN,)], at, alert or cap.parse(raw))


def problem(raw: bytes, *pinned: Signer, at: datetime = NOW, alert: Alert | None = None) -> str:
    judgement = judged(raw, *pinned, at=at, alert=alert)
    assert judgement.signer is None
    assert judgement.problem is not None
    assert "{" not in judgement.problem.message + judgement.problem.message_ja
    return judgement.problem.rule.removeprefix("CAP-SIGNATURE-")


def accepted(raw: bytes, *pinned: Signer) -> Alert | None:
    """Return the alert that would go out as signed, if any would, even from a sender to whom everything is forgiven that can be."""
    try:
        alert = cap.parse(raw, tolerant=True)
    except LalertError:
        return None
    return alert if judged(raw, *pinned, alert=alert).signer else None


def signed(
    raw: bytes = RAW,
    by: Signer = TOWN,
    *,
    method: SignatureMethod = SignatureMethod.RSA_SHA256,
    digest: DigestAlgorithm = DigestAlgorithm.SHA256,
    c14n: CanonicalizationMethod = CanonicalizationMethod.CANONICAL_XML_1_0,
    named: bool = True,
) -> bytes:
    """Sign as another program would, with signxml alone."""
    made = XMLSigner(signature_algorithm=method, digest_algorithm=digest, c14n_algorithm=c14n)
    root = made.sign(etree.fromstring(raw), key=by.key, cert=by.certificate)
    if not named:
        found(root, "Signature").remove(found(root, "KeyInfo"))
    return etree.tostring(root, encoding="UTF-8")


def found(root: etree._Element, name: str) -> etree._Element:
    element = root.find(f".//{{{DS}}}{name}")
    assert element is not None
    return element


def fingerprint(of: Signer) -> str:
    return cap.read_certificate(of.certificate).fingerprint


# What holds


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_what_lalert_signs_verifies_and_reads_as_before(kind: str) -> None:
    by = signer("hub", kind)
    raw = cap.sign(RAW, by.key, by.certificate)
    assert cap.parse(raw) == cap.parse(RAW)
    assert cap.parse(raw).defects == ()
    assert judged(raw, by) == cap.Verification(signed=True, signer=fingerprint(by))
    assert judged(raw, TOWN, by).signer == fingerprint(by)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_older_alerts_are_signed_and_verified_alike(version: str) -> None:
    alert = cap.parse(make_cap(identifier="old", sent=SENT, response=()))
    raw = cap.render(replace(alert, version=version))
    assert judged(cap.sign(raw, TOWN.key, TOWN.certificate)).signer == fingerprint(TOWN)


METHODS = [
    m for m in SignatureMethod if m.name.startswith(("RSA_SHA", "ECDSA_SHA", "SHA")) and "SHA3" not in m.name
]
GOOD_METHODS = [
    m for m in METHODS if any(bits in m.name for bits in ("256", "384", "512")) and "512_256" not in m.name
]


@pytest.mark.parametrize("method", GOOD_METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("named", [True, False], ids=["with its certificate", "without KeyInfo"])
def test_every_strong_method_is_taken(method: SignatureMethod, named: bool) -> None:
    by = signer("strong", "ec" if "ECDSA" in method.name else "rsa")
    raw = signed(by=by, method=method, named=named)
    assert judged(raw, TOWN, by).signer == fingerprint(by)
    assert judged(raw, TOWN).signer is None


@pytest.mark.parametrize(
    "c14n",
    CanonicalizationMethod,
    ids=lambda c14n: c14n.name,
)
@pytest.mark.parametrize("digest", [DigestAlgorithm.SHA256, DigestAlgorithm.SHA384, DigestAlgorithm.SHA512])
def test_every_canonical_form_is_taken(c14n: CanonicalizationMethod, digest: DigestAlgorithm) -> None:
    assert judged(signed(c14n=c14n, digest=digest)).signer == fingerprint(TOWN)


def by_hand(raw: bytes, more: str = "") -> bytes:
    """Sign as Java and .NET do, the namespace of the signature as the default one, without any library for signatures: its canonical form is written out."""
    algorithms = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
    digest = hashlib.sha256(etree.tostring(etree.fromstring(raw), method="c14n")).digest()
    info = (
        f'<CanonicalizationMethod Algorithm="{algorithms}"></CanonicalizationMethod>'
        '<SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"></SignatureMethod>'
        f'<Reference URI=""><Transforms><Transform Algorithm="{DS}enveloped-signature"></Transform></Transforms>'
        '<DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></DigestMethod>'
        f"<DigestValue>{base64.b64encode(digest).decode()}</DigestValue></Reference></SignedInfo>"
    )
    private = load_pem_private_key(TOWN.key.encode(), None)
    assert isinstance(private, RSAPrivateKey)
    value = private.sign(f'<SignedInfo xmlns="{DS}">{info}'.encode(), PKCS1v15(), SHA256())
    return raw.replace(
        b"</alert>",
        f'<Signature xmlns="{DS}"><SignedInfo>{info}<SignatureValue>{base64.b64encode(value).decode()}</SignatureValue>'
        f"{more}</Signature></alert>".encode(),
    )


def test_what_other_programs_sign_holds_too() -> None:
    assert judged(by_hand(RAW)).signer == fingerprint(TOWN)
    assert problem(by_hand(RAW), signer("stranger")) == "BROKEN"
    assert problem(by_hand(RAW).replace(b"genuine", b"forged")) == "BROKEN"


def test_remarks_in_an_object_count_for_nothing() -> None:
    # As NAADS of Canada writes them.
    remark = '<Object xmlns=""><SignatureProperties><SignatureProperty Id="a" Target="b"/></SignatureProperties></Object>'
    assert judged(by_hand(RAW, f"<KeyInfo/>{remark}")).signer == fingerprint(TOWN)
    assert problem(by_hand(RAW, remark), signer("stranger")) == "BROKEN"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "shift_jis", "euc-jp", "iso-2022-jp"])
def test_a_signature_holds_in_every_encoding_that_is_read(encoding: str) -> None:
    raw = make_cap(identifier="genuine", sent=SENT, headline="球磨川が氾濫するおそれ")
    text = signed(raw).decode()
    recoded = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)
    assert judged(recoded).signer == fingerprint(TOWN)


def test_an_alert_without_a_signature_says_so() -> None:
    assert (judged(RAW).signed, problem(RAW)) == (False, "MISSING")


@pytest.mark.parametrize(
    "covered", [True, False], ids=["the second covers the first", "each covers the alert alone"]
)
def test_of_two_signatures_each_holds_for_whoever_knows_its_certificate(covered: bool) -> None:
    network = signer("network", "ec")
    first = signed()
    second = signed(first if covered else RAW, network, method=SignatureMethod.ECDSA_SHA256)
    if not covered:
        root, other = etree.fromstring(first), etree.fromstring(second)
        root.append(other[-1])
        second = etree.tostring(root)
    assert second.count(b"<ds:SignedInfo") == 2
    assert judged(second, TOWN).signer == fingerprint(TOWN)
    assert judged(second, network).signer == fingerprint(network)
    assert problem(second, signer("stranger")) == "UNTRUSTED"


# What does not


def test_another_key_is_named_and_refused() -> None:
    stranger = signer("stranger")
    raw = signed(by=stranger)
    why = judged(raw).problem
    assert why is not None
    assert (why.rule, why.path) == ("CAP-SIGNATURE-UNTRUSTED", "/alert/Signature")
    assert fingerprint(stranger) in why.message
    assert why.line > 0
    assert problem(signed(by=stranger, named=False)) == "BROKEN"
    # The stranger's signature under the town's name.
    body = "".join(TOWN.certificate.splitlines()[1:-1])
    forged = etree.fromstring(raw)
    found(forged, "X509Certificate").text = body
    assert problem(etree.tostring(forged)) == "BROKEN"


@pytest.mark.parametrize(
    ("begins", "ends", "at"),
    [
        (SENT + timedelta(seconds=30), NOW + timedelta(days=1), NOW),
        (SENT - timedelta(days=1), SENT + timedelta(seconds=30), NOW),
        (SENT - timedelta(days=2), SENT - timedelta(days=1), NOW),
    ],
    ids=["not yet when sent", "no longer when received", "long over"],
)
def test_a_certificate_must_be_valid_when_sent_and_when_received(
    begins: datetime, ends: datetime, at: datetime
) -> None:
    by = signer("brief", "ec", begins, ends)
    raw = signed(by=by, method=SignatureMethod.ECDSA_SHA256)
    assert problem(raw, by, at=at) == "EXPIRED"


class _Old(XMLSigner):
    def check_deprecated_methods(self) -> None:
        """Sign as programs of long ago do."""


@pytest.mark.parametrize(
    ("method", "digest"),
    [
        (SignatureMethod.RSA_SHA1, DigestAlgorithm.SHA256),
        (SignatureMethod.RSA_SHA256, DigestAlgorithm.SHA1),
        (SignatureMethod.RSA_SHA224, DigestAlgorithm.SHA256),
    ],
    ids=["signature by SHA-1", "digest by SHA-1", "SHA-224"],
)
def test_what_can_be_forged_is_refused_although_it_holds(
    method: SignatureMethod, digest: DigestAlgorithm
) -> None:
    made = _Old(signature_algorithm=method, digest_algorithm=digest)
    raw = etree.tostring(made.sign(etree.fromstring(RAW), key=TOWN.key, cert=TOWN.certificate))
    assert problem(raw) == "WEAK"


def test_a_shared_secret_is_no_signature() -> None:
    # The classic confusion: a key that everybody has, used as the secret of an HMAC.
    public = x509.load_pem_x509_certificate(TOWN.certificate.encode()).public_key()
    secret = cap.read_certificate(TOWN.certificate).pem.encode()
    assert public is not None
    made = XMLSigner(signature_algorithm=SignatureMethod.HMAC_SHA256)
    raw = etree.tostring(made.sign(etree.fromstring(RAW), key=secret))
    assert problem(raw) == "WEAK"


# Certificates that a pinned authority has issued

ROOT = authority("root")
MIDDLE = authority("middle", ROOT)


def with_chain(by: Signer, *above: Signer, first: bool = True) -> bytes:
    chain = [by.certificate, *(each.certificate for each in above)]
    made = XMLSigner(signature_algorithm=SignatureMethod.ECDSA_SHA256, c14n_algorithm=EXCLUSIVE)
    root = made.sign(etree.fromstring(RAW), key=by.key, cert="".join(chain if first else chain[::-1]))
    return etree.tostring(root, encoding="UTF-8")


@pytest.mark.parametrize("first", [True, False], ids=["the signer's first", "the signer's last"])
def test_a_certificate_that_a_pinned_authority_issued_holds_and_is_named_itself(first: bool) -> None:
    direct, below = member("direct", ROOT), member("below", MIDDLE)
    assert judged(with_chain(direct, ROOT, first=first), ROOT).signer == fingerprint(direct)
    assert judged(with_chain(direct), TOWN, ROOT).signer == fingerprint(direct)
    assert judged(with_chain(below, MIDDLE, first=first), ROOT).signer == fingerprint(below)
    assert judged(with_chain(below), MIDDLE).signer == fingerprint(below)
    # Pinning who signs does not pin who else there is.
    assert problem(with_chain(below, MIDDLE, ROOT), direct) == "UNTRUSTED"


@pytest.mark.parametrize(
    "forged",
    [
        lambda: with_chain(
            member("stranger", authority("root of strangers")), authority("root of strangers")
        ),
        lambda: with_chain(member("stranger", authority("root", path_length=3)), ROOT),
        lambda: with_chain(member("without the middle", MIDDLE)),
        lambda: with_chain(member("below a member", member("direct", ROOT)), member("direct", ROOT)),
        lambda: with_chain(member("not for signatures", ROOT, signs=False)),
        lambda: with_chain(
            member("too deep", authority("deep", authority("flat", ROOT, 0))), authority("flat", ROOT, 0)
        ),
        lambda: with_chain(signer("self", "ec"), ROOT),
        lambda: with_chain(authority("an authority of its own"), ROOT),
        lambda: with_chain(member("direct", ROOT), member("another", ROOT)),
    ],
    ids=[
        "another root",
        "another root of the same name",
        "a link is missing",
        "a member is no authority",
        "its key is not for signatures",
        "the authority may not have others below it",
        "self-signed",
        "an authority that nobody vouches for",
        "two signers",
    ],
)
def test_whom_no_pinned_authority_vouches_for_is_refused(forged: Callable[[], bytes]) -> None:
    raw = forged()
    for pinned in ((ROOT,), (TOWN, ROOT)):
        assert problem(raw, *pinned) == "UNTRUSTED"


def test_what_an_authority_issued_must_be_valid_when_sent_and_when_received() -> None:
    late = member("late", ROOT, SENT + timedelta(seconds=30))
    over = member("over", ROOT, SENT - timedelta(days=1), SENT + timedelta(seconds=30))
    for by in (late, over):
        assert problem(with_chain(by), ROOT) == "EXPIRED"


def test_a_long_chain_is_refused_before_it_is_followed() -> None:
    many = [signer(f"crowd {n}", "ec") for n in range(6)]
    assert problem(with_chain(member("direct", ROOT), *many), ROOT) == "FORM"


def retold(old: str, new: str, raw: bytes = b"") -> bytes:
    text = (raw or signed()).decode()
    assert text.count(old) >= 1, (old, text)
    return text.replace(old, new, 1).encode()


OTHER_FORMS: dict[str, Callable[[], bytes]] = {
    "no reference": lambda: retold('<ds:Reference URI=""', '<ds:Reference URI="" Type="x"'),
    "no URI": lambda: retold('<ds:Reference URI=""', "<ds:Reference"),
    "a part": lambda: retold('URI=""', 'URI="#info"'),
    "xpointer": lambda: retold('URI=""', 'URI="#xpointer(/)"'),
    "another place": lambda: retold('URI=""', 'URI="http://192.0.2.1/alert.xml"'),
    "a file": lambda: retold('URI=""', 'URI="file:///etc/passwd"'),
    "two references": lambda: doubled("Reference"),
    "two SignedInfo": lambda: doubled("SignedInfo"),
    "two values": lambda: doubled("SignatureValue"),
    "two KeyInfo": lambda: doubled("KeyInfo"),
    "an alert in an object": lambda: retold(
        "</ds:Signature>", f'<Object xmlns=""><info xmlns="{CAP}"/></Object></ds:Signature>'
    ),
    "an object at the wrong place": lambda: retold("<ds:SignatureValue>", "<ds:Object/><ds:SignatureValue>"),
    "six objects": lambda: retold("</ds:Signature>", "<ds:Object/>" * 6 + "</ds:Signature>"),
    "a manifest": lambda: retold("</ds:Signature>", "<ds:Manifest/></ds:Signature>"),
    "XSLT": lambda: transformed("http://www.w3.org/TR/1999/REC-xslt-19991116"),
    "XPath": lambda: transformed("http://www.w3.org/TR/1999/REC-xpath-19991116"),
    "XPath filter": lambda: transformed("http://www.w3.org/2002/06/xmldsig-filter2"),
    "base64": lambda: transformed(f"{DS}base64"),
    "an unknown canonical form": lambda: transformed("http://www.w3.org/2010/xml-c14n2"),
    "three transforms": lambda: doubled("Transform"),
    "not enveloped": lambda: retold(f"{DS}enveloped-signature", "http://www.w3.org/2006/12/xml-c14n11"),
    "an XPath in a transform": lambda: retold(
        f'<ds:Transform Algorithm="{DS}enveloped-signature"/>',
        f'<ds:Transform Algorithm="{DS}enveloped-signature"><ds:XPath>1</ds:XPath></ds:Transform>',
    ),
    "a shortened HMAC": lambda: retold(
        'more#rsa-sha256"/>',
        'more#rsa-sha256"><ds:HMACOutputLength>8</ds:HMACOutputLength></ds:SignatureMethod>',
    ),
    "a key to be fetched": lambda: retold(
        "<ds:KeyInfo>", '<ds:KeyInfo><ds:RetrievalMethod URI="http://192.0.2.1/"/>'
    ),
    "a certificate that is none": lambda: retold("<ds:X509Certificate>", "<ds:X509Certificate>!"),
    "a short digest": lambda: renewed(
        "DigestValue", lambda text: base64.b64encode(base64.b64decode(text)[:8]).decode()
    ),
    "a value hidden by an element": lambda: retold("</ds:SignatureValue>", "<ds:x/></ds:SignatureValue>"),
    "an instruction": lambda: retold("<info>", "<?x y?><info>"),
    "an instruction before the alert": lambda: b"<?x y?>" + signed(),
    "an instruction after it": lambda: signed() + b"<?x y?>",
    "a long value": lambda: renewed("DigestValue", lambda text: text + "A" * 20_000),
    "four signatures": lambda: many_signatures(4),
    "a hundred namespaces": lambda: retold(
        "<alert ", "<alert " + "".join(f'xmlns:n{n}="urn:{n}" ' for n in range(100))
    ),
}


def doubled(name: str) -> bytes:
    root = etree.fromstring(signed())
    element = found(root, name)
    element.addnext(etree.fromstring(etree.tostring(element)))
    return etree.tostring(root)


def transformed(algorithm: str) -> bytes:
    root = etree.fromstring(signed())
    root.findall(f".//{{{DS}}}Transform")[1].set("Algorithm", algorithm)
    return etree.tostring(root)


def renewed(name: str, change: Callable[[str], str]) -> bytes:
    root = etree.fromstring(signed())
    element = found(root, name)
    element.text = change(element.text or "")
    return etree.tostring(root)


def many_signatures(count: int) -> bytes:
    root = etree.fromstring(signed())
    for _ in range(count - 1):
        root.append(etree.fromstring(etree.tostring(root[-1])))
    return etree.tostring(root)


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_every_other_form_is_refused_before_anything_is_computed(form: str) -> None:
    assert problem(OTHER_FORMS[form](), alert=cap.parse(RAW)) == "FORM"


def test_the_value_has_one_spelling() -> None:
    def loosened(text: str) -> str:
        # The bits that padding does not use are set: a tolerant decoder reads the same bytes.
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        body = text.rstrip("=")
        other = body[:-1] + alphabet[alphabet.index(body[-1]) | 1]
        assert other != body
        padded = other + "=" * (len(text) - len(body))
        assert base64.b64decode(padded) == base64.b64decode(text)
        return padded

    assert problem(renewed("SignatureValue", loosened)) == "FORM"
    assert judged(renewed("SignatureValue", lambda text: f"\n {text[:20]}\n{text[20:]} ")).signer


# Wrapping: a genuine signature is kept, and another alert is put where the reader looks.

EVIL = make_cap(identifier="forged", sent=SENT, headline="避難は不要です")


def whole() -> etree._Element:
    return etree.fromstring(signed())


def part() -> tuple[etree._Element, etree._Element]:
    """Return a genuine alert signed by its Id, as SAML does, and its signature apart."""
    root = etree.fromstring(RAW)
    root.set("Id", "genuine")
    made = XMLSigner(c14n_algorithm=EXCLUSIVE)
    done = made.sign(
        root, key=TOWN.key, cert=TOWN.certificate, reference_uri=[SignatureReference(URI="#genuine")]
    )
    signature = found(done, "Signature")
    done.remove(signature)
    return done, signature


def evil(*children: etree._Element, before: bool = False, id: str | None = None) -> bytes:
    root = etree.fromstring(EVIL)
    if id is not None:
        root.set("Id", id)
    for child in children:
        if before:
            root.insert(0, child)
        else:
            root.append(child)
    return etree.tostring(root)


def holding(tag: str, *children: etree._Element) -> etree._Element:
    element = etree.Element(tag)
    element.extend(children)
    return element


def with_object(signature: etree._Element, *children: etree._Element) -> etree._Element:
    signature.append(holding(f"{{{DS}}}Object", *children))
    return signature


def in_key_info(signature: etree._Element, child: etree._Element) -> etree._Element:
    found(signature, "KeyInfo").append(child)
    return signature


def crowned(root: etree._Element) -> etree._Element:
    root.insert(0, etree.fromstring(EVIL))
    return root


def signature_of(root: etree._Element) -> etree._Element:
    signature = found(root, "Signature")
    root.remove(signature)
    return signature


def wrapped_by_part(how: Callable[[etree._Element, etree._Element], bytes]) -> Callable[[], bytes]:
    return lambda: how(*part())


WRAPPED: dict[str, Callable[[], bytes]] = {
    "1 the genuine alert as a child, its signature outside": wrapped_by_part(evil),
    "2 the genuine alert before everything, its signature at the end": wrapped_by_part(
        lambda alert, sig: evil(sig).replace(b"<identifier>", etree.tostring(alert) + b"<identifier>", 1)
    ),
    "3 the genuine alert inside the signature's object": wrapped_by_part(
        lambda alert, sig: evil(with_object(sig, alert))
    ),
    "4 the genuine alert with its signature inside it, in another's object": wrapped_by_part(
        lambda alert, sig: evil(with_object(sig, holding("{urn:x}x", alert)))
    ),
    "5 the forged alert beside it in another root": wrapped_by_part(
        lambda alert, sig: etree.tostring(holding("{urn:x}x", etree.fromstring(EVIL), alert, sig))
    ),
    "6 the same Id twice": wrapped_by_part(lambda alert, sig: evil(alert, sig, id="genuine")),
    "7 the genuine alert in an element of another namespace": wrapped_by_part(
        lambda alert, sig: evil(holding("{urn:x}extension", alert), sig)
    ),
    "8 the genuine alert inside KeyInfo": wrapped_by_part(lambda alert, sig: evil(in_key_info(sig, alert))),
    "the whole signed alert inside a forged one": lambda: evil(whole()),
    "the whole signed alert in an object of an empty signature": lambda: evil(
        with_object(etree.Element(f"{{{DS}}}Signature"), whole())
    ),
    "the signature alone moved over": lambda: evil(signature_of(whole())),
    "the signature inside an info": lambda: evil(holding(f"{{{CAP}}}info", signature_of(whole()))),
    "the signed alert in another root": lambda: etree.tostring(holding("{urn:x}envelope", whole())),
    "the forged alert as a child of the signed one": lambda: etree.tostring(crowned(whole())),
    "the signed alert as an attachment": lambda: EVIL.replace(
        b"</info>",
        b"<resource><resourceDesc>x</resourceDesc>"
        b"<mimeType>text/xml</mimeType><derefUri>"
        + etree.tostring(whole())
        + b"</derefUri></resource></info>",
    ),
}


@pytest.mark.parametrize("variant", WRAPPED)
def test_a_wrapped_alert_never_goes_out_as_signed(variant: str) -> None:
    raw = WRAPPED[variant]()
    assert b"forged" in raw or b"envelope" in raw
    assert accepted(raw) is None
    # Nor would it if the reader had taken it for the forged one, or for the genuine one.
    assert judged(raw, alert=cap.parse(EVIL)).signer is None
    assert judged(raw, alert=cap.parse(RAW)).signer is None


def test_what_was_signed_must_be_what_was_read() -> None:
    assert problem(signed(), alert=cap.parse(EVIL)) == "FORM"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<identifier>genuine", "<identifier>gen<!-- -->uine"),
        ("<identifier>genuine", "<identifier><![CDATA[genu]]>ine"),
        ("<identifier>genuine", "<identifier>&#x67;enuine"),
        ("<ds:DigestValue>", "<ds:DigestValue><!-- x -->"),
    ],
    ids=["comment", "CDATA", "reference", "comment in the digest"],
)
def test_another_spelling_of_the_same_alert_reads_the_same_and_holds(old: str, new: str) -> None:
    assert accepted(retold(old, new)) == cap.parse(RAW)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<identifier>genuine", "<identifier>genuine<!-- -->x"),
        ("<identifier>genuine", "<identifier><!--genuine-->forged"),
        ("Actual", "Exercise"),
        ("<scope>", " <scope>"),
        ("球磨川", "球摩川"),
    ],
)
def test_any_change_breaks_the_signature(old: str, new: str) -> None:
    assert problem(retold(old, new)) == "BROKEN"


SIGNED = signed()


@given(st.data())
def test_no_change_of_bytes_gives_another_alert_that_counts_as_signed(data: st.DataObject) -> None:
    raw = bytearray(SIGNED)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        cut = data.draw(st.integers(0, 3))
        raw[at : at + cut] = data.draw(st.binary(max_size=3) | st.sampled_from([b"<!---->", b"&#x20;", b" "]))
    taken = accepted(bytes(raw))
    assert taken is None or taken == cap.parse(RAW)


def test_a_hostile_signature_costs_little() -> None:
    areas = "".join(f"<area><areaDesc>{n}</areaDesc></area>" for n in range(8_000))
    big = signed(retold("<area>", f"{areas}<area>", RAW), named=False)
    assert len(big) > 300_000
    alert = cap.parse(RAW)
    crowd = [signer(f"crowd {n}", "ec") for n in range(20)]
    begun = time.process_time()
    assert problem(big, *crowd, alert=alert) == "BROKEN"
    assert time.process_time() - begun < 2.0


# Real ones

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cap-samples"


@pytest.mark.shared
def test_real_signed_alerts_hold_with_the_certificate_that_they_carry() -> None:
    verdicts = Counter(
        verdict
        for path in sorted(SAMPLES.rglob("*"))
        if path.is_file() and (verdict := verdict_of(path.read_bytes()))
    )
    # Five of an American test system and one of Canada's, signed twice; the others are of the days of SHA-1.
    assert verdicts == {"held": 6, "CAP-SIGNATURE-WEAK": 5}


def verdict_of(raw: bytes) -> str | None:
    if b"SignatureValue" not in raw:
        return None
    try:
        alert = cap.parse(raw, tolerant=True)
    except LalertError:
        return None  # a feed
    pinned = [
        f"-----BEGIN CERTIFICATE-----\n{''.join(text.decode().split())}\n-----END CERTIFICATE-----\n"
        for text in re.findall(rb"X509Certificate>([^<]+)<", raw)
    ]
    found = cap.verify(raw, filter(loads, pinned), alert.sent, alert)
    return found.problem.rule if found.problem else "held"


def loads(pem: str) -> bool:
    try:
        cap.read_certificate(pem)
    except LalertError:
        return False  # too weak to pin
    return True
