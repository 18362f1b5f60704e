"""How much reading and judging an alert costs beyond the least that anybody must do: parsing its XML and checking it against the schema.

Run it as `python -m bench.validate`. The figure that counts is the ratio of the two, taken in turns in one run, so that a busy machine slows both.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice

from lxml import etree

from lalert import cap
from lalert.resources import schema

ROUNDS = 400
CALLS = 10
NEW = 2_000  # areas, more than are remembered
AIM = 4.0


def document(number: int = 0) -> bytes:
    """Return an alert of about 5 kB: Japanese and English, each with the same area of 60 points and a municipality code. Each number has its own area."""
    infos = "".join(
        _info(number, *texts)
        for texts in (
            (
                "ja",
                "避難指示",
                "球磨川の氾濫に備え、直ちに避難してください。",
                "これまでの大雨により球磨川の水位が上がっており、氾濫のおそれが高まっています。",
                "危険な場所から全員避難してください。避難が危険な場合は、少しでも高い所へ移ってください。",
            ),
            (
                "en",
                "Evacuation order",
                "Leave dangerous places now: the Kuma river may overflow.",
                "Heavy rain has raised the Kuma river, and the danger of flooding is growing.",
                "Everybody must leave dangerous places. If leaving is dangerous, go to a higher floor.",
            ),
        )
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<alert xmlns="urn:oasis:names:tc:emergency:cap:1.2">\n'
        "  <identifier>hitoyoshi-2026-0704-0001</identifier>\n  <sender>bousai@city.hitoyoshi.example.jp</sender>\n"
        "  <sent>2026-07-04T02:20:00+09:00</sent>\n  <status>Actual</status>\n  <msgType>Alert</msgType>\n"
        f"  <scope>Public</scope>\n{infos}</alert>\n"
    ).encode()


def _info(number: int, language: str, event: str, headline: str, description: str, instruction: str) -> str:
    points = [
        (
            32.21 + number * 1e-4 + 0.04 * math.sin(n * math.tau / 59),
            130.76 + 0.05 * math.cos(n * math.tau / 59),
        )
        for n in range(59)
    ]
    polygon = " ".join(f"{lat:.5f},{lon:.5f}" for lat, lon in [*points, points[0]])
    return (
        f"  <info>\n    <language>{language}</language>\n    <category>Met</category>\n    <event>{event}</event>\n"
        "    <responseType>Evacuate</responseType>\n    <urgency>Immediate</urgency>\n    <severity>Extreme</severity>\n"
        "    <certainty>Likely</certainty>\n    <onset>2026-07-04T02:20:00+09:00</onset>\n"
        "    <expires>2026-07-04T14:20:00+09:00</expires>\n    <senderName>人吉市</senderName>\n"
        f"    <headline>{headline}</headline>\n    <description>{description}</description>\n"
        f"    <instruction>{instruction}</instruction>\n    <web>https://www.city.hitoyoshi.example.jp/bousai/</web>\n"
        "    <contact>0966-00-0000</contact>\n    <parameter>\n      <valueName>警戒レベル</valueName>\n"
        "      <value>4</value>\n    </parameter>\n    <area>\n      <areaDesc>人吉市</areaDesc>\n"
        f"      <polygon>{polygon}</polygon>\n      <geocode>\n        <valueName>JIS X 0402</valueName>\n"
        "        <value>432032</value>\n      </geocode>\n    </area>\n  </info>\n"
    )


def seconds(call: Callable[[bytes], object], documents: Sequence[bytes]) -> float:
    """Return the processor time of one call, in seconds."""
    start = time.process_time()
    for document in documents:
        call(document)
    return (time.process_time() - start) / len(documents)


def measure() -> float:
    """Print the figures; return the ratio for ever new areas, of the least times, which other work on the machine disturbs least."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    validator = etree.XMLSchema(etree.fromstring(schema("cap-1.2.xsd")))
    raw = document()
    assert cap.examine(raw).problems == ()
    print(f"document                 {len(raw)} bytes, two infos, the same polygon of 60 points in both")
    ratio = 0.0
    for title, documents in (
        ("the same document again", [raw]),
        ("ever new areas", [document(n) for n in range(NEW)]),
    ):
        least, whole = [], []
        coming = cycle(documents)
        for _ in range(ROUNDS):
            some = list(islice(coming, CALLS))
            least.append(seconds(lambda raw: validator.validate(etree.fromstring(raw, parser)), some))
            whole.append(seconds(cap.parse, some))
        ratio = min(whole) / min(least)
        median = statistics.median(a / b for a, b in zip(whole, least, strict=True))
        print(f"{title}")
        print(f"  lxml parse + XMLSchema {min(least) * 1e6:7.1f} us (least of {ROUNDS} rounds)")
        print(
            f"  lalert.cap.parse       {min(whole) * 1e6:7.1f} us, {1 / min(whole):.0f} documents/s on one core"
        )
        print(f"  ratio                  {ratio:7.2f} of the least (median {median:.2f}; aim {AIM})")
    return ratio


if __name__ == "__main__":
    measure()
