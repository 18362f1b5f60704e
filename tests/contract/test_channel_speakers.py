"""Loudspeakers under the suite of every channel, and what is their own: what is said and how it is read, the sound, one synthesis for many."""

from __future__ import annotations

import asyncio
import io
import re
import threading
import tomllib
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from lalert.config import read
from lalert.dispatch import guarded_session
from lalert.errors import BadRequest, ConfigError, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Facts, Filter, Outcome, PlaceName, Status, Subscription
from lalert.plugin import Text
from lalert.testing import make_alert
from lalert.testing.channel import Answer, ChannelContract, Received, delivery, subscription
from lalert.testing.farend import STATUS
from lalert.testing.hub import FakeHub
from lalert_adapters.speakers import Speaker, Speakers, SpeakersConfig, sound
from lalert_adapters.speakers.speech import MISREAD, speech

ROOT = Path(__file__).parents[2]
HITOYOSHI = "432032"
FACTS = Facts(
    codes=frozenset({HITOYOSHI}),
    kind="evacuation",
    places=(
        PlaceName(HITOYOSHI, "人吉市", "ひとよしし", "Hitoyoshi City"),
        PlaceName("434035", "大津町", "おおづまち", "Ozu Town"),
    ),
)


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Have nothing synthesised, which takes seconds; what would be said is in the list."""
    said: list[list[str]] = []

    def speak(sentences: Sequence[str], speed: float) -> Any:
        said.append(list(sentences))
        return sound.silence(0.01)

    monkeypatch.setattr("lalert_adapters.speakers.sound.speak", speak)
    monkeypatch.setattr("lalert_adapters.speakers.sound.chime", lambda *_: sound.silence(0.01))
    return said


class Evacuating(Speakers):
    """Gives the alerts of the suite, which have no facts, those of an evacuation order."""

    async def deliver(self, delivery: Delivery) -> Outcome:
        return await super().deliver(replace(delivery, entry=replace(delivery.entry, facts=FACTS)))


def own(speaker: str = "hill") -> Subscription:
    return replace(subscription("speakers", speaker), id=f"speakers.{speaker}")


@dataclass
class FolderRig:
    channel: Speakers
    folder: Path
    subscription: Subscription = field(default_factory=own)

    def answer(self, how: Answer) -> None:
        away = self.folder.with_suffix(".away")
        if how is Answer.TEMPORARY:
            self.folder.rename(away)
        elif away.exists():
            away.rename(self.folder)

    def received(self) -> Sequence[Received]:
        texts = sorted(self.folder.glob("*.txt"))
        # A canary is not to be heard; everything else is, and its sound is there once its text is.
        assert {path.stem for path in self.folder.glob("*.wav")} == {
            path.stem for path in texts if not path.stem.startswith("canary")
        }
        return [Received(path.stem, path.read_text(encoding="utf-8")) for path in texts]


@dataclass
class Controller:
    """A controller of loudspeakers on loopback."""

    channel: Any = None
    subscription: Subscription = field(default_factory=own)
    how: Answer = Answer.OK
    calls: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    def answer(self, how: Answer) -> None:
        self.how = how

    def received(self) -> Sequence[Received]:
        return [Received(key, parts["text"].decode()) for key, parts in self.calls]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        parts: dict[str, bytes] = {}
        async for part in await request.multipart():
            parts[part.name or ""] = await part.read()  # type: ignore[union-attr]
        self.calls.append((request.headers["Idempotency-Key"], parts))
        if self.how is Answer.SILENCE:
            await asyncio.Event().wait()
        return web.Response(status=STATUS[self.how])


@pytest.mark.usefixtures("mute")
class TestByHttp(ChannelContract):
    answers = frozenset(Answer) - {Answer.GONE}

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Any]:
        rig = Controller()
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/speakers/one", rig.handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/speakers/one"
            hill = Speaker(name="hill", areas=(HITOYOSHI,), url=url, allow_http=True)
            async with guarded_session([ip_network("127.0.0.0/8")]) as session:
                hub = FakeHub(session=session)
                async with Evacuating("speakers", SpeakersConfig(speakers=(hill,)), hub) as rig.channel:
                    yield rig
        finally:
            await runner.cleanup()


@pytest.mark.usefixtures("mute")
class TestByFolder(ChannelContract):
    answers = frozenset({Answer.OK, Answer.TEMPORARY})

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @asynccontextmanager
    async def rig(self) -> AsyncIterator[Any]:
        folder = self.path / f"drop{len(list(self.path.iterdir()))}"
        folder.mkdir()
        hill = Speaker(name="hill", areas=(HITOYOSHI,), folder=str(folder))
        async with Evacuating("speakers", SpeakersConfig(speakers=(hill,)), FakeHub()) as channel:
            yield FolderRig(channel, folder)

    async def test_every_attempt_carries_the_same_key(self) -> None:
        """And so every attempt is the same file."""
        async with self.rig() as rig:
            first = delivery(rig.subscription)
            for attempt in (1, 2, 3):
                await rig.channel.deliver(replace(first, attempt=attempt))
            assert len(rig.received()) == 1


@asynccontextmanager
async def open_speakers(
    folder: Path, hub: FakeHub | None = None, names: Sequence[str] = ("hill",), **changes: Any
) -> AsyncIterator[Speakers]:
    speakers = tuple(Speaker(name=name, areas=(HITOYOSHI,), folder=str(folder)) for name in names)
    async with Speakers(
        "speakers", SpeakersConfig(speakers=speakers, **changes), hub or FakeHub()
    ) as channel:
        yield channel


def an_entry(facts: Facts = FACTS, **changes: Any) -> Entry:
    alert = make_alert(sent="2020-07-04T13:05:00+09:00", **changes)
    return replace(delivery(own()).entry, alert=alert, incident=alert.id, facts=facts)


def a_delivery(entry: Entry, speaker: str = "hill") -> Delivery:
    return Delivery(f"key-for-{speaker}", entry, own(speaker), 1)


# What is said


async def said(entry: Entry, tmp_path: Path, **changes: Any) -> list[str]:
    async with open_speakers(tmp_path, **changes) as channel:
        part = next(part for part in channel.preview(entry, None).parts if part.name == "said")
    return part.text.split("\n")


@pytest.mark.usefixtures("mute")
async def test_an_order_is_said_with_the_readings_of_its_places(tmp_path: Path) -> None:
    sentences = await said(an_entry(), tmp_path, opening="こちらは、防災人吉です。", closing="以上です。")
    assert sentences == [
        "こちらは、防災人吉です。",
        "ヒトヨシシに避難指示を発令しました。",
        "球磨川の水位が上がっています。",
        "危険な場所から全員避難してください。",
        "対象地域、ヒトヨシシ。",
        "発表、ヒトヨシシ、2020年7月4日13時5分。",
        "有効期限、2020年7月4日19時5分。",
        "以上です。",
    ]


@pytest.mark.usefixtures("mute")
@pytest.mark.parametrize(
    ("status", "word"), [(Status.EXERCISE, "訓練"), (Status.TEST, "試験"), (Status.SYSTEM, "システム")]
)
async def test_that_it_is_a_drill_is_said_first_and_last(status: Status, word: str, tmp_path: Path) -> None:
    sentences = await said(an_entry(status=status), tmp_path, opening="こちらは、防災人吉です。")
    assert (sentences[0], sentences[-1]) == (f"これは{word}です。", f"これは{word}です。")
    assert not any("【" in sentence for sentence in sentences)


@pytest.mark.usefixtures("mute")
async def test_a_drill_that_the_hub_did_not_mark_is_never_said(tmp_path: Path) -> None:
    class Forgetful(FakeHub):
        def text(self, entry: Entry, lang: str | None = None, room: Any = None) -> Text:
            return Text("避難指示", "逃げてください。", "ja")

    async with open_speakers(tmp_path, Forgetful()) as channel:
        with pytest.raises(PermanentFailure, match="no mark"):
            await channel.deliver(a_delivery(an_entry(status=Status.EXERCISE)))
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("mute")
async def test_an_update_and_a_cancel_say_what_they_are(tmp_path: Path) -> None:
    first = make_alert()
    assert (await said(an_entry(msg_type="Update", references=[first]), tmp_path))[
        0
    ] == "更新のお知らせです。"
    cancel = await said(an_entry(msg_type="Cancel", references=[first], note="誤報のため"), tmp_path)
    assert cancel[0] == "取り消しのお知らせです。"
    assert "取消理由、誤報のため。" in cancel


@pytest.mark.usefixtures("mute")
async def test_an_alert_without_japanese_is_said_by_template_alone(tmp_path: Path) -> None:
    foreign = an_entry(language="en", headline="Leave now", description="It rains.", instruction="Go up.")
    sentences = await said(foreign, tmp_path)
    assert sentences[:3] == [
        "警戒レベル4、避難指示。",
        "危険な場所から全員避難してください。",
        "対象地域、ヒトヨシシ。",
    ]
    assert not any(word in sentence for sentence in sentences for word in ("Leave", "rains", "Go"))


@pytest.mark.usefixtures("mute")
async def test_there_is_no_voice_for_other_languages(tmp_path: Path) -> None:
    class Foreign(FakeHub):
        def text(self, entry: Entry, lang: str | None = None, room: Any = None) -> Text:
            return Text("Evacuate", "Leave now.", "en")

    async with open_speakers(tmp_path, Foreign()) as channel:
        with pytest.raises(PermanentFailure, match="Japanese"):
            await channel.deliver(a_delivery(an_entry()))


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("13時05分", "13時5分。"),
        ("17:05と18:00", "17時5分と18時。"),
        ("13時00分", "13時。"),
        ("09時", "9時。"),
        ("7/4(土)に", "7月4日土曜日、に。"),
        ("07月04日", "7月4日。"),
        ("３～５ｍ", "3から5m。"),
        ("風速25m/s", "風速25m/s。"),
        ("TEL 0966-22-2111", "電話、0966-22-2111。"),
        ("Ｌｖ４", "レベル4。"),
        ("M7.1", "マグニチュード7.1。"),
        ("2F", "2階。"),
        ("30㎡", "30平方メートル。"),
        ("J-ALERT", "ジェイアラート。"),
        ("川【橋】堤", "川、橋、堤。"),
        ("越水、内水", "エッスイ、ナイスイ。"),
        ("はやく！　逃げて。", "はやく!|逃げて。"),
        ("★※", ""),
        ("Evacuate now.\n逃げて。", "逃げて。"),
    ],
)
def test_numbers_and_abbreviations_are_written_as_they_are_said(written: str, spoken: str) -> None:
    made = speech(Text("", written, "ja"), MISREAD, drill=False)
    assert "|".join(made.sentences) == spoken


def test_the_longest_name_is_read_and_never_a_part_of_another_word() -> None:
    readings = {"人吉": "ひとよし", "人吉市": "ひとよしし", "大津町": "おおづまち"}
    made = speech(Text("人吉市と大津町", "人吉市民会館、人吉駅", "ja"), readings, drill=False)
    assert made.sentences == ("ヒトヨシシとオオヅマチ。", "ヒトヨシ市民会館、ヒトヨシ駅。")


def test_no_reading_of_a_sender_changes_the_word_for_a_drill() -> None:
    text = Text("【訓練】訓練の避難指示", "訓練です。", "ja")
    made = speech(text, {"訓練": "ほんばん", "訓練です": "ほんものです"}, drill=True)
    assert (made.sentences[0], made.sentences[-1]) == ("これは訓練です。", "これは訓練です。")


def test_words_that_a_sender_puts_in_brackets_are_said_and_none_of_them_makes_a_drill() -> None:
    made = speech(
        Text("【緊急】【避難指示】球磨川沿い", "【避難指示】逃げてください。", "ja"), {}, drill=False
    )
    assert made.sentences == ("緊急、避難指示、球磨川沿い。", "避難指示、逃げてください。")
    made = speech(Text("【訓練】【訂正】【避難指示】川沿い", "", "ja"), {}, drill=True)
    assert made.sentences == (
        "これは訓練です。",
        "訂正のお知らせです。",
        "避難指示、川沿い。",
        "これは訓練です。",
    )
    with pytest.raises(ValueError, match="no mark"):
        speech(Text("【更新】【訓練】", "逃げてください。", "ja"), {}, drill=True)


@pytest.mark.usefixtures("mute")
async def test_the_operators_readings_go_before_the_senders_and_those_before_the_gazetteers(
    tmp_path: Path,
) -> None:
    entry = an_entry(
        headline="人吉市、大津町、瓦屋町",
        parameters=[("jp:kana", "大津町=おおつちょう"), ("jp:kana", "瓦屋町=かわらやまち")],
    )
    first = await said(entry, tmp_path, readings={"人吉市": "じんきちし"})
    assert first[0] == "ジンキチシ、オオツチョウ、カワラヤマチ。"


# The sound


@pytest.fixture(scope="module")
def announced(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, str]:
    """Return the sound and the text of a real announcement, at 16,000 samples a second."""
    folder = tmp_path_factory.mktemp("said")

    async def make() -> None:
        entry = an_entry(headline="大津町に避難指示", description=None, instruction="逃げてください。")
        async with open_speakers(folder, sample_rate=16_000, max_body=60, speed=1.2) as channel:
            outcome = await channel.deliver(a_delivery(entry))
            assert re.search(r"\d+ s of sound", outcome.detail)

    asyncio.run(make())
    [heard], [text] = folder.glob("*.wav"), folder.glob("*.txt")
    return heard.read_bytes(), text.read_text(encoding="utf-8")


def samples_of(file: bytes) -> tuple[wave._wave_params, Any]:
    with wave.open(io.BytesIO(file)) as sounding:
        return sounding.getparams(), np.frombuffer(sounding.readframes(sounding.getnframes()), "<i2")


def pitch(samples: Any, rate: int) -> float:
    """Return the strongest frequency in hertz."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * rate / len(samples))


def test_it_is_a_wav_of_16_bits_mono_at_the_rate_that_was_asked_for(announced: tuple[bytes, str]) -> None:
    params, _ = samples_of(announced[0])
    assert (params.nchannels, params.sampwidth, params.framerate) == (1, 2, 16_000)
    assert 12 < params.nframes / 16_000 < 60


def test_the_chime_comes_first_upwards_and_last_downwards(announced: tuple[bytes, str]) -> None:
    _, samples = samples_of(announced[0])
    length = int(sound.TONE_S * 16_000)
    rising = [pitch(samples[n * length : (n + 1) * length], 16_000) for n in range(4)]
    assert rising == pytest.approx(sound.RISING, rel=0.01)
    last = samples[-len(sound.chime()) // 3 :]
    falling = [pitch(last[n * length : (n + 1) * length], 16_000) for n in range(4)]
    assert falling == pytest.approx(sound.RISING[::-1], rel=0.01)


def test_between_the_chimes_there_is_a_voice_and_it_says_everything_twice(
    announced: tuple[bytes, str],
) -> None:
    _, samples = samples_of(announced[0])
    chime = len(sound.chime()) // 3
    voice = samples[chime:-chime].astype(float)
    loud = np.abs(voice) > 300
    assert loud.mean() > 0.2, "hardly anything is heard"
    assert np.abs(voice).max() > 20_000
    # The second time is the same sound: shifted by its length it lies upon the first.
    frames = np.abs(voice[: len(voice) // 160 * 160].reshape(-1, 160)).mean(axis=1)
    frames -= frames.mean()
    alike = [
        float(np.corrcoef(frames[:-shift], frames[shift:])[0, 1])
        for shift in range(len(frames) // 3, len(frames) * 2 // 3)
    ]
    assert max(alike) > 0.8


def test_the_text_beside_is_the_hubs_and_says_how_it_was_read(announced: tuple[bytes, str]) -> None:
    _, text = announced
    assert text.startswith("大津町に避難指示\n")
    assert "オオヅマチに避難指示。" in text
    assert "said 2 times" in text
    assert "繰り返します。" in text


def test_a_place_is_read_as_the_gazetteer_says_and_not_as_the_voice_would() -> None:
    assert sound.reading("大津町に") == "オーツマチニ"
    assert sound.reading("オオヅマチに") == "オオヅマチニ"


@pytest.mark.parametrize("word", MISREAD)
def test_words_that_are_corrected_would_be_misread(word: str) -> None:
    def plain(text: str) -> str:
        return re.sub("[うおー]", "", text.translate({n: n - 0x60 for n in range(ord("ァ"), ord("ヶ") + 1)}))

    assert plain(sound.reading(word)) != plain(MISREAD[word])


@pytest.mark.parametrize("rate", [48_000, 24_000, 16_000, 8_000])
def test_a_lower_rate_keeps_the_tone_and_lets_nothing_whistle(rate: int) -> None:
    t = np.arange(sound.RATE, dtype=np.float32) / sound.RATE
    low, high = np.sin(2 * np.pi * 1_000 * t), np.sin(2 * np.pi * 19_000 * t)
    params, samples = samples_of(sound.wav((0.4 * (low + high)).astype(np.float32), rate))
    assert (params.framerate, params.nframes) == (rate, rate)
    spectrum = np.abs(np.fft.rfft(samples.astype(float)))
    spectrum[19_000:19_001] = 0
    assert spectrum.argmax() == 1_000
    spectrum[990:1_011] = 0
    assert spectrum.max() < 0.02 * np.abs(np.fft.rfft(samples.astype(float)))[1_000]


def test_nothing_to_say_is_silence_and_no_error() -> None:
    assert len(sound.speak([], 1.0)) == 0


# One synthesis for many


async def test_fifty_loudspeakers_cost_one_synthesis(mute: list[list[str]], tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(50)]
    entry = an_entry()
    async with open_speakers(tmp_path, names=names) as channel:
        mute.clear()
        done = await asyncio.gather(
            *(channel.deliver(a_delivery(entry, name)) for name in names[:16]),
        )
        for name in names[16:]:
            done.append(await channel.deliver(a_delivery(entry, name)))
    assert len(mute) == 2, "the announcement, and 繰り返します"
    assert len(list(tmp_path.glob("*.wav"))) == 50
    assert all(outcome.sent for outcome in done)


async def test_one_that_breaks_off_leaves_the_others_their_sound(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    going = Slow(monkeypatch)
    async with open_speakers(tmp_path, names=("a", "b")) as channel:
        going.hold()
        entry = an_entry()
        first, second = (asyncio.ensure_future(channel.deliver(a_delivery(entry, n))) for n in ("a", "b"))
        await going.begun()
        first.cancel()
        going.release()
        assert (await second).sent
        assert first.cancelled()


async def test_a_voice_that_hangs_is_given_up_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    going = Slow(monkeypatch)
    async with open_speakers(tmp_path, synthesis_s=0.3) as channel:
        going.hold()
        entry = an_entry()
        with pytest.raises(TemporaryFailure, match="voice was not ready"):
            await channel.deliver(a_delivery(entry))
        going.release()
        assert (await channel.deliver(a_delivery(entry))).sent


async def test_a_real_alert_does_not_wait_for_the_sound_of_drills(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    going = Slow(monkeypatch, only="これは訓練です。")
    async with open_speakers(tmp_path) as channel:
        going.hold()
        drills = [
            asyncio.ensure_future(channel.deliver(a_delivery(an_entry(status=Status.EXERCISE))))
            for _ in range(3)
        ]
        await going.begun()
        async with asyncio.timeout(5):
            assert (await channel.deliver(a_delivery(an_entry()))).sent
        going.release()
        assert all(outcome.sent for outcome in await asyncio.gather(*drills))


class Slow:
    """A voice that speaks when it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, only: str = "") -> None:
        self._free, self._begun, self._only = threading.Event(), threading.Event(), only
        self._free.set()
        monkeypatch.setattr("lalert_adapters.speakers.sound.speak", self._speak)

    def _speak(self, sentences: Sequence[str], speed: float) -> Any:
        if not self._only or self._only in sentences:
            self._begun.set()
            assert self._free.wait(10)
        return sound.silence(0.01)

    def hold(self) -> None:
        self._free.clear()
        self._begun.clear()

    def release(self) -> None:
        self._free.set()

    async def begun(self) -> None:
        async with asyncio.timeout(5):
            while not self._begun.is_set():
                await asyncio.sleep(0.002)


# Which alerts, which loudspeakers


@pytest.mark.usefixtures("mute")
async def test_what_follows_on_something_that_was_said_is_said_too(tmp_path: Path) -> None:
    first = an_entry()
    async with open_speakers(tmp_path) as channel:
        cancel = replace(an_entry(Facts(), msg_type="Cancel", references=[first], infos=()), incident="other")
        outcome = await channel.deliver(a_delivery(cancel))
        assert not outcome.sent
        assert "not said" in outcome.detail
        assert not (await channel.deliver(a_delivery(an_entry(replace(FACTS, kind="shelter"))))).sent
        await channel.deliver(a_delivery(first))
        assert (await channel.deliver(a_delivery(replace(cancel, incident=first.incident)))).sent


@pytest.mark.usefixtures("mute")
async def test_each_loudspeaker_hears_of_its_own_areas_and_of_drills_only_if_it_is_to(tmp_path: Path) -> None:
    hub = FakeHub()
    speakers = (
        Speaker(name="a", areas=("432032",), folder=str(tmp_path)),
        Speaker(name="b", areas=("43",), folder=str(tmp_path), drills=True),
    )
    async with Speakers("speakers", SpeakersConfig(speakers=speakers, min_level=3), hub) as channel:
        task = asyncio.ensure_future(channel.run())
        async with asyncio.timeout(5):
            while len(hub.saved) < 2:
                await asyncio.sleep(0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        with pytest.raises(BadRequest, match="configuration"):
            channel.check_subscription(replace(own("a"), id="sub-1"))
    assert hub.saved["speakers.a"].filter == Filter(areas=frozenset({"432032"}), min_level=3)
    assert hub.saved["speakers.b"].filter == Filter(
        areas=frozenset({"43"}),
        min_level=3,
        statuses=frozenset({Status.ACTUAL, Status.EXERCISE, Status.TEST}),
    )


@pytest.mark.usefixtures("mute")
async def test_canaries_are_one_text_and_no_sound(tmp_path: Path) -> None:
    async with open_speakers(tmp_path) as channel:
        for token in ("first", "second"):
            await channel.canary("hill", token)
        with pytest.raises(PermanentFailure):
            await channel.canary("valley", "third")
    [path] = tmp_path.iterdir()
    assert path.read_text(encoding="utf-8").endswith("/v1/canaries/second\n")


# Settings


@pytest.mark.parametrize(
    ("block", "mistake"),
    [
        ({"speakers": []}, "at least one"),
        ({"speakers": [{"name": "a", "folder": "/x", "areas": []}]}, "areas is empty"),
        ({"speakers": [{"name": "a", "folder": "/x", "areas": ["432033"]}]}, "check digit"),
        ({"speakers": [{"name": "a", "areas": ["43"]}]}, "folder or url"),
        ({"speakers": [{"name": "a", "folder": "/x", "areas": ["43"]}] * 2}, "each name once"),
        ({"sample_rate": 44_100}, "sample_rate"),
        ({"repeat": 0}, "repeat"),
    ],
)
def test_mistakes_of_the_configuration(block: dict[str, Any], mistake: str) -> None:
    good = {"speakers": [{"name": "a", "folder": "/x", "areas": ["43"]}]}
    mistakes: list[str] = []
    read(SpeakersConfig, good | block, "", mistakes)
    assert any(mistake in one for one in mistakes), mistakes


def test_a_missing_voice_is_answered_with_the_advice_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    mistakes: list[str] = []
    read(SpeakersConfig, {"speakers": [{"name": "a", "folder": "/x", "areas": ["43"]}]}, "", mistakes)
    assert any("pip install 'lalert[tts]'" in one for one in mistakes), mistakes


async def test_a_voice_that_does_not_speak_is_found_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(sentences: Sequence[str], speed: float) -> Any:
        raise OSError("no dictionary")

    monkeypatch.setattr("lalert_adapters.speakers.sound.speak", broken)
    with pytest.raises(ConfigError, match="does not speak"):
        async with open_speakers(tmp_path):
            pass


def test_the_page_shows_a_block_that_holds() -> None:
    page = (ROOT / "docs" / "adapters" / "speakers.md").read_text(encoding="utf-8")
    block = tomllib.loads(page.split("```toml\n")[1].split("```")[0])["adapters"]["speakers"]
    mistakes: list[str] = []
    read(SpeakersConfig, block, "", mistakes)
    assert not mistakes
    for word in MISREAD:
        assert word in page
