"""Documents made to hurt whoever reads them. Run as `python -m bench.attacks` it prints the processor time and memory that each takes."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

from lalert import cap

_OPEN = b'<?xml version="1.0" encoding="UTF-8"?><alert xmlns="urn:oasis:names:tc:emergency:cap:1.2"'
_HEAD = (
    b"<identifier>a</identifier><sender>b@example.jp</sender><sent>2026-07-04T02:20:00+09:00</sent>"
    b"<status>Actual</status><msgType>%s</msgType><scope>Public</scope>"
)
_INFO = (
    b"<info><category>Met</category><event>e</event><urgency>Past</urgency><severity>Minor</severity>"
    b"<certainty>Likely</certainty>%s</info>"
)
_AREA = _INFO % b"<area><areaDesc>x</areaDesc>%s</area>"
_RESOURCE = _INFO % b"<resource><resourceDesc>x</resourceDesc>%s</resource>"
_DSIG = b'xmlns="http://www.w3.org/2000/09/xmldsig#"'


@dataclass(frozen=True, slots=True)
class Attack:
    """A document, and the first rule that it must be refused by; "" if it is an alert, however strange."""

    document: bytes
    rule: str


def attacks() -> dict[str, Attack]:
    """Return the corpus; nearly all documents have about the greatest size that is read."""
    return _entities() | _shapes() | _values()


def _alert(body: bytes, attributes: bytes = b"", msg_type: bytes = b"Alert") -> bytes:
    return _OPEN + attributes + b">" + _HEAD % msg_type + body + b"</alert>"


def _with_dtd(declarations: bytes, use: bytes) -> bytes:
    return (
        b"<!DOCTYPE alert [" + declarations + b"]>" + _alert(_INFO % (b"<headline>" + use + b"</headline>"))
    )


def _entities() -> dict[str, Attack]:
    laughs = b'<!ENTITY l0 "ha">' + b"".join(
        b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10)
    )
    quadratic = b'<!ENTITY a "' + b"a" * 50_000 + b'">'
    include = b'<i:include xmlns:i="http://www.w3.org/2001/XInclude" href="%s" parse="text"/>'
    return {
        "internal entity": Attack(_with_dtd(b'<!ENTITY x "y">', b"&x;"), "CAP-XML-DTD"),
        "external entity, file": Attack(
            _with_dtd(b'<!ENTITY x SYSTEM "file:///etc/hostname">', b"&x;"), "CAP-XML-DTD"
        ),
        "external entity, http": Attack(
            _with_dtd(b'<!ENTITY x SYSTEM "http://127.0.0.1:9/">', b"&x;"), "CAP-XML-DTD"
        ),
        "parameter entity": Attack(
            _with_dtd(b'<!ENTITY % x SYSTEM "http://127.0.0.1:9/"> %x;', b""), "CAP-XML-DTD"
        ),
        "external DTD": Attack(
            b'<!DOCTYPE alert SYSTEM "http://127.0.0.1:9/a.dtd">' + _alert(b""), "CAP-XML-DTD"
        ),
        "billion laughs": Attack(_with_dtd(laughs, b"&l9;"), "CAP-XML-DTD"),
        "quadratic blow-up": Attack(_with_dtd(quadratic, b"&a;" * 50_000), "CAP-XML-DTD"),
        "entity in an attribute": Attack(b'<!DOCTYPE a [<!ENTITY x "y">]><alert a="&x;"/>', "CAP-XML-DTD"),
        "attribute default": Attack(
            b'<!DOCTYPE a [<!ATTLIST alert a CDATA "b">]>' + _alert(b""), "CAP-XML-DTD"
        ),
        "XInclude": Attack(_alert(include % b"file:///etc/hostname"), "CAP-XML-XINCLUDE"),
        "XInclude in a text": Attack(
            _alert(_INFO % (b"<headline>" + include % b"http://127.0.0.1:9/" + b"</headline>")),
            "CAP-XML-XINCLUDE",
        ),
        "XInclude, name with references": Attack(
            _alert(b'<i:include xmlns:i="http://www.w3.org/2001/XIn&#99;lude" href="a"/>'), "CAP-XML-XINCLUDE"
        ),
    }


def _shapes() -> dict[str, Attack]:
    return {
        "depth 300": Attack(_alert(b"<x>" * 300 + b"</x>" * 300), "CAP-XML-LIMIT"),
        "depth 25,000": Attack(_alert(b"<x>" * 25_000 + b"</x>" * 25_000), "CAP-XML-LIMIT"),
        "depth 200": Attack(_alert(b"<x>" * 200 + b"</x>" * 200), "CAP-ELEMENT-UNKNOWN"),
        "250,000 elements": Attack(_alert(b"<x/>" * 250_000), "CAP-XML-LIMIT"),
        "59,000 elements": Attack(_alert(b"<x/>" * 59_000), "CAP-ELEMENT-UNKNOWN"),
        "50,000 foreign elements": Attack(
            _alert(b"<f:x/>" * 50_000, b' xmlns:f="urn:x"'), "CAP-ELEMENT-FOREIGN"
        ),
        "50,000 empty infos": Attack(_alert(b"<info/>" * 50_000), "CAP-ELEMENT-MISSING"),
        "38,000 elements out of order": Attack(
            _alert(b"<info/><code>a</code>" * 19_000), "CAP-ELEMENT-ORDER"
        ),
        "50,000 elements in a text": Attack(
            _alert(_INFO % (b"<headline>" + b"<b/>" * 50_000 + b"</headline>")), "CAP-ELEMENT-NESTED"
        ),
        "a signature of 50,000 elements": Attack(
            _alert(b"<Signature " + _DSIG + b">" + b"<a/>" * 50_000 + b"</Signature>"), "CAP-INFO-MISSING"
        ),
        "900 signatures": Attack(_alert((b"<S " + _DSIG + b"/>") * 900), "CAP-LIMIT"),
        "90,000 attributes": Attack(
            _alert(b"", b"".join(b' a%d=""' % n for n in range(90_000))), "CAP-XML-LIMIT"
        ),
        "19,000 attributes": Attack(
            _alert(b"", b"".join(b' a%d=""' % n for n in range(19_000))), "CAP-XML-LIMIT"
        ),
        "1,000 attributes": Attack(
            _alert(b"<info %s/>" % b" ".join(b'a%d=""' % n for n in range(999))), "CAP-ELEMENT-MISSING"
        ),
        "50,000 namespaces": Attack(
            _alert(b"", b"".join(b' xmlns:n%d="u"' % n for n in range(50_000))), "CAP-XML-LIMIT"
        ),
        "50,000 names": Attack(_alert(b"".join(b"<n%d/>" % n for n in range(50_000))), "CAP-XML-LIMIT"),
        "names of 40,000 letters": Attack(
            _alert(b"".join(b"<%s%d/>" % (b"n" * 40_000, n) for n in range(20))), "CAP-XML-LIMIT"
        ),
        "an attribute of a megabyte": Attack(_alert(b"", b' a="' + b"x" * 1_000_000 + b'"'), "CAP-ATTRIBUTE"),
        "59,000 processing instructions first": Attack(b"<?a?>" * 59_000 + _alert(b""), "CAP-XML-LIMIT"),
        "59,000 processing instructions": Attack(
            _alert(_INFO % (b"<headline>" + b"x<?a?>" * 59_000 + b"</headline>")), ""
        ),
        "59,000 comments": Attack(
            _alert(_INFO % (b"<headline>" + b"x<!---->" * 59_000 + b"</headline>")), ""
        ),
        "200,000 character references": Attack(
            _alert(_INFO % (b"<headline>" + b"&#65;" * 200_000 + b"</headline>")), ""
        ),
        "a text of a megabyte": Attack(
            _alert(_INFO % (b"<description>" + b"x" * 1_000_000 + b"</description>")), ""
        ),
    }


def _values() -> dict[str, Attack]:
    polygon = b"<polygon>%s</polygon>"
    points = b" ".join(b"%d.%04d,%d.%04d" % (n * 31 % 89, n, n * 7 % 179, n) for n in range(50_000))
    return {
        "a polygon of 50,000 points that cross": Attack(
            _alert(_AREA % (polygon % (b"1,1 " + points + b" 1,1"))), "CAP-POLYGON-CROSSING"
        ),
        "a polygon of commas": Attack(_alert(_AREA % (polygon % (b"1," * 450_000))), "CAP-POLYGON-FORM"),
        "a polygon of digits": Attack(_alert(_AREA % (polygon % (b"1" * 900_000))), "CAP-POLYGON-FORM"),
        "a polygon of spaces": Attack(_alert(_AREA % (polygon % (b" " * 900_000))), "CAP-POLYGON-FORM"),
        "a latitude of 900,000 digits": Attack(
            _alert(_AREA % (polygon % (b"1" * 900_000 + b",1"))), "CAP-POINT-RANGE"
        ),
        "20,000 open polygons": Attack(_alert(_AREA % (polygon % b"1,1" * 20_000)), "CAP-POLYGON-POINTS"),
        "a radius of 900,000 digits": Attack(
            _alert(_AREA % (b"<circle>1,1 " + b"1" * 900_000 + b"</circle>")), "CAP-CIRCLE-RANGE"
        ),
        "an altitude of 900,000 digits": Attack(
            _alert(_AREA % (b"<altitude>" + b"1" * 900_000 + b"</altitude>")), "CAP-HEIGHT-FORM"
        ),
        "a size of 900,000 digits": Attack(
            _alert(_RESOURCE % (b"<mimeType>image/png</mimeType><size>" + b"1" * 900_000 + b"</size>")),
            "CAP-SIZE",
        ),
        "a media type of a megabyte": Attack(
            _alert(_RESOURCE % (b"<mimeType>image/" + b"a" * 900_000 + b" </mimeType>")), ""
        ),
        "an address of 300,000 colons": Attack(
            _alert(_INFO % (b"<web>http://" + b"a:@" * 300_000 + b"</web>")), "CAP-WEB"
        ),
        "an address of 900,000 letters": Attack(
            _alert(_INFO % (b"<web>http://" + b"a" * 900_000 + b"%</web>")), "CAP-WEB"
        ),
        "a language of 400,000 parts": Attack(
            _alert((_INFO % b"").replace(b"<info>", b"<info><language>" + b"a-" * 400_000 + b"</language>")),
            "CAP-LANGUAGE-FORM",
        ),
        "400,000 bad references": Attack(
            _alert(b"<references>" + b"a " * 400_000 + b"</references>", msg_type=b"Update"), "CAP-LIMIT"
        ),
        "450,000 addresses": Attack(_alert(b"<addresses>" + b"a " * 450_000 + b"</addresses>"), "CAP-LIMIT"),
        "900,000 quotation marks": Attack(
            _alert(b"<addresses>" + b'"' * 900_000 + b"</addresses>"), "CAP-LIST-QUOTE"
        ),
        "150,000 beginnings of tags": Attack(
            _alert(_INFO % (b"<headline>" + b"&lt;a " * 150_000 + b"</headline>")), ""
        ),
        "25,000 equal categories": Attack(
            _alert((_INFO % b"").replace(b"<category>Met</category>", b"<category>Met</category>" * 25_000)),
            "",
        ),
        "an identifier of a megabyte": Attack(
            _OPEN + b"><identifier>" + b"a" * 1_000_000 + b"</identifier></alert>", "CAP-ELEMENT-MISSING"
        ),
    }


def main() -> None:
    """Print processor time and growth of memory for each."""
    for name, attack in attacks().items():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.process_time()
        report = cap.examine(attack.document)
        taken = time.process_time() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        verdict = "valid" if report.valid else report.problems[0].rule
        print(f"{name:42} {len(attack.document):8} bytes {taken * 1000:7.1f} ms {grown:5.1f} MB  {verdict}")


if __name__ == "__main__":
    main()
