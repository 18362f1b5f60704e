"""Outdoor loudspeakers: what an alert says as a WAV file with a chime, into a folder or to a controller (docs/adapters/speakers.md)."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import structlog

from lalert.errors import ConfigError, DeliveryError, PermanentFailure, TemporaryFailure
from lalert.model import JST, Delivery, Entry, MsgType, Outcome, Status, Subscription
from lalert.plugin import (
    CANARY_NOTE,
    CANARY_TITLE,
    Canarying,
    Channel,
    Health,
    Healthy,
    HubApi,
    Limits,
    Part,
    Preview,
    Previewing,
    Room,
    Source,
)
from lalert_adapters.configured import Configured
from lalert_adapters.drops import Drop, File, check_token, post_form, write
from lalert_adapters.speakers import sound
from lalert_adapters.speakers.settings import Speaker, SpeakersConfig
from lalert_adapters.speakers.speech import AGAIN, Speech, readings_of, speech
from lalert_adapters.threads import Threads

__all__ = ["Speaker", "Speakers", "SpeakersConfig"]

log = structlog.get_logger("lalert.speakers")

MAX_TITLE: Final = 80
KEPT: Final = 6
"""Announcements that are kept: of two minutes and 48,000 samples a second, 12 MB each."""
WRITERS: Final = 16
VOICES: Final = 2
"""Threads that synthesise, for real alerts and again for drills: one that was given up may still be at it."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is said of an alert: the sound, and the same to be read."""

    wav: bytes
    text: bytes
    seconds: float


class Speakers:
    """Hands the sound to each configured loudspeaker, made once for all of them. The subscriptions are its own: nobody else can make one."""

    Config: ClassVar[type[SpeakersConfig]] = SpeakersConfig
    drill_safe: ClassVar[bool] = True
    limits: ClassVar[Limits] = Limits(per_target=1, in_flight=16, timeout=60.0)

    def __init__(self, name: str, config: SpeakersConfig, hub: HubApi) -> None:
        self.name = name
        self._config = config
        self._hub = hub
        self._speakers = {speaker.name: speaker for speaker in config.speakers}
        filters = {speaker.name: config.filter_of(speaker) for speaker in config.speakers}
        self._configured = Configured(name, filters, hub)
        self._writers = Threads(f"{name} writes", WRITERS)
        # A real alert never waits for the sound of a drill; but for the sentence that is being synthesised.
        self._voices = {drill: Threads(f"{name} speaks", VOICES) for drill in (False, True)}
        self._turns = {drill: asyncio.Lock() for drill in (False, True)}
        self._made: OrderedDict[str, asyncio.Task[Announcement]] = OrderedDict()
        self._failing: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        for speaker in self._config.speakers:
            await asyncio.to_thread(check_token, speaker)
        # Loads the voice now and not with the first alert, and shows that there is one.
        try:
            await self._voices[False].run(partial(sound.speak, ["確認。"], 1.0))
        except Exception as error:
            log.exception("the voice does not speak", adapter=self.name)
            raise ConfigError(
                [f"adapters.{self.name}: the voice does not speak ({type(error).__name__})"]
            ) from None
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = list(self._made.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._made.clear()

    async def run(self) -> None:
        """Keep one subscription for each loudspeaker, as the configuration says, and no other."""
        await self._configured.run()

    def check_subscription(self, subscription: Subscription) -> Subscription:
        """Return a subscription of this adapter's own; raises `BadRequest` for any other."""
        self._configured.check(subscription)
        return subscription

    async def deliver(self, delivery: Delivery) -> Outcome:
        """Hand the sound over, and the text beside it. That it was taken does not say that it was heard."""
        entry, speaker = delivery.entry, self._speakers.get(delivery.subscription.target)
        if speaker is None:
            raise PermanentFailure("the loudspeaker is not in the configuration any more")
        if not await self._is_said(entry):
            return Outcome(
                f"not said: the kind {entry.facts.kind or 'other'} is not among `kinds`", sent=False
            )
        made = await self._announcement(entry)
        stem = f"{entry.stored.astimezone(JST):%Y%m%dT%H%M%S}-{delivery.key}"
        # The sound last: whoever waits for it finds the text there.
        files = [
            File(f"{stem}.txt", made.text, "text/plain; charset=utf-8"),
            File(f"{stem}.wav", made.wav, "audio/wav"),
        ]
        done = await self._hand_over(speaker, files, delivery.key)
        return Outcome(f"{done}; {made.seconds:.0f} s of sound")

    def preview(self, entry: Entry, lang: str | None) -> Preview:  # noqa: ARG002  # the voice has one language
        """Return the hub's text, and what the voice makes of it, said once."""
        said = self._speech(entry)
        parts = [Part("text", said.text), Part("said", "\n".join(said.sentences))]
        return Preview(tuple(parts), "ja")

    async def canary(self, target: str, token: str) -> None:
        """Hand over a text without a sound: nobody outdoors hears it."""
        speaker = self._speakers.get(target)
        if speaker is None:
            raise PermanentFailure("the loudspeaker is not in the configuration")
        note = f"{CANARY_TITLE}\n{CANARY_NOTE}\n{self._hub.base_url}/v1/canaries/{token}\n"
        # One name for all: a folder that nobody empties must not fill up.
        await self._hand_over(
            speaker, [File("canary.txt", note.encode(), "text/plain; charset=utf-8")], token
        )

    def health(self) -> Health:
        """Return what the last call of each loudspeaker came to."""
        failing = [f"{name}: {why}" for name, why in sorted(self._failing.items())]
        return Health(ok=not failing, detail="; ".join(failing))

    async def _is_said(self, entry: Entry) -> bool:
        """Say whether an alert is one to be said aloud; what follows on one that was is said too, whatever kind it names: a Cancel may name none."""
        key = f"said/{entry.incident}"
        if entry.facts.kind in self._config.kinds:
            # Noted before it is said: what is said and not noted could not be taken back.
            if entry.alert.msg_type is MsgType.ALERT:
                await self._hub.state.put(key, b"1")
            return True
        return entry.alert.msg_type is not MsgType.ALERT and await self._hub.state.get(key) is not None

    def _speech(self, entry: Entry) -> Speech:
        text = self._hub.text(entry, "ja", Room(MAX_TITLE, self._config.max_body, urls=False, mixed=False))
        if text.lang.partition("-")[0].lower() != "ja":
            raise PermanentFailure("the alert has no Japanese text, and the voice speaks nothing else")
        config = self._config
        try:
            return speech(
                text,
                readings_of(entry, config.readings),
                drill=entry.alert.status is not Status.ACTUAL,
                opening=config.opening,
                closing=config.closing,
            )
        except ValueError as error:
            raise PermanentFailure(str(error)) from None

    async def _announcement(self, entry: Entry) -> Announcement:
        """Return what is said of an alert; whoever asks while it is being made waits for the same."""
        key = entry.alert.id
        task = self._made.get(key)
        if task is None:
            made = self._synthesised(self._speech(entry), drill=entry.alert.status is not Status.ACTUAL)
            task = self._made[key] = asyncio.create_task(made, name=f"{self.name} speaks")
            task.add_done_callback(partial(self._forget_failed, key))
            while len(self._made) > KEPT and next(iter(self._made.values())).done():
                self._made.popitem(last=False)
        # One that breaks off leaves the others their sound.
        return await asyncio.shield(task)

    def _forget_failed(self, key: str, task: asyncio.Task[Announcement]) -> None:
        if (task.cancelled() or task.exception() is not None) and self._made.get(key) is task:
            del self._made[key]

    async def _synthesised(self, said: Speech, *, drill: bool) -> Announcement:
        limit = self._config.synthesis_s
        async with self._turns[drill]:
            try:
                async with asyncio.timeout(limit):
                    return await self._voices[drill].run(partial(_announced, said, self._config))
            except TimeoutError:
                raise TemporaryFailure(f"the voice was not ready within {limit:g} s") from None

    async def _hand_over(self, speaker: Drop, files: list[File], key: str) -> str:
        limit = self._config.timeout_s
        try:
            if speaker.url:
                done = await post_form(self._hub.http, speaker, files, key, limit)
            else:
                async with asyncio.timeout(limit):
                    await self._writers.run(partial(write, Path(speaker.folder), files))
                done = "written"
        except TimeoutError:
            self._failing[speaker.name] = why = f"the folder does not answer within {limit:g} s"
            raise TemporaryFailure(why) from None
        except DeliveryError as error:
            self._failing[speaker.name] = error.detail
            raise
        self._failing.pop(speaker.name, None)
        return done


if TYPE_CHECKING:
    _: type[Channel] = Speakers
    _source: type[Source] = Speakers
    _previewing: type[Previewing] = Speakers
    _canarying: type[Canarying] = Speakers
    _healthy: type[Healthy] = Speakers


def _announced(said: Speech, config: SpeakersConfig) -> Announcement:
    """Return the announcement: chime, what is said as often as configured, the chime downwards. Blocks for a twentieth of its length."""
    voice = sound.speak(said.sentences, config.speed)
    parts = [sound.chime(), sound.silence(sound.PAUSE_S), voice]
    if config.repeat > 1:
        again = sound.speak([AGAIN], config.speed)
        parts += [sound.silence(sound.LONG_PAUSE_S), again, voice] * (config.repeat - 1)
    parts += [sound.silence(sound.PAUSE_S), sound.chime(sound.RISING[::-1])]
    samples = sound.joined(parts)
    read = "\n".join([*said.sentences, *([AGAIN] if config.repeat > 1 else [])])
    text = f"{said.text}\n[読み上げ / said {config.repeat} times]\n{read}\n"
    return Announcement(sound.wav(samples, config.sample_rate), text.encode(), len(samples) / sound.RATE)
