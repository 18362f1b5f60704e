"""What every channel must do, as tests to inherit: a subclass brings the channel and a far end that can be told how to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import ClassVar, Protocol

from lalert.dispatch.lanes import delivery_key
from lalert.errors import BadRequest, DeliveryError, Gone, PermanentFailure, TemporaryFailure
from lalert.model import Delivery, Entry, Filter, MsgType, Origin, OriginKind, Outcome, Status, Subscription
from lalert.plugin import CANARY_TITLE, Canarying, Channel, Healthy, Part, Previewing
from lalert.testing.alerts import make_alert

PATIENCE = 10.0
"""Seconds after which a step of these tests has failed."""

MARK = "【訓練】"
CANARY_KEY = "canary-contract-0123456789abcdef"


class Answer(StrEnum):
    """How the far end may be told to take the next deliveries."""

    OK = "ok"
    TEMPORARY = "temporary"
    PERMANENT = "permanent"
    GONE = "gone"
    SILENCE = "silence"


KINDS: dict[Answer, type[DeliveryError]] = {
    Answer.TEMPORARY: TemporaryFailure,
    Answer.PERMANENT: PermanentFailure,
    Answer.GONE: Gone,
}


@dataclass(frozen=True, slots=True)
class Received:
    """What reached the far end: the key under which it would know a repetition, and all that a person or program would read."""

    key: str
    content: str


class Rig(Protocol):
    """A channel with its far end, ready to be used."""

    channel: Channel
    subscription: Subscription
    """One that the channel takes; `target` and `options` hold what must never be shown."""

    def answer(self, how: Answer) -> None:
        """Let the far end answer so from now on; SILENCE takes the delivery and says nothing, for as long as anybody waits."""
        ...

    def received(self) -> Sequence[Received]:
        """Return everything that reached the far end, in order, failed attempts included."""
        ...


class ChannelContract:
    """Inherit it in a test module (the class's name begins with Test), and let `rig` return your channel with its far end.

    The tests are coroutines: with pytest, use pytest-asyncio with `asyncio_mode = "auto"`.
    """

    answers: ClassVar[frozenset[Answer]] = frozenset(Answer)
    """What the far end can be told; leave out what your protocol has no way to say (many have no GONE)."""

    def rig(self) -> AbstractAsyncContextManager[Rig]:
        """Return a fresh channel with its far end, which answers OK."""
        raise NotImplementedError

    async def test_it_is_a_channel_with_sane_limits(self) -> None:
        async with self.rig() as rig:
            limits = rig.channel.limits
            assert isinstance(rig.channel, Channel)
            assert isinstance(rig.channel.drill_safe, bool)
            assert 1 <= limits.per_target <= limits.in_flight
            assert 0 < limits.timeout <= 60, "whoever waits longer for one target holds up the next attempt"

    async def test_a_subscription_is_taken_and_checking_it_again_changes_nothing(self) -> None:
        async with self.rig() as rig:
            kept = rig.channel.check_subscription(rig.subscription)
            assert (kept.id, kept.channel, kept.filter) == (
                rig.subscription.id,
                rig.subscription.channel,
                rig.subscription.filter,
            )
            assert rig.channel.check_subscription(kept) == kept

    async def test_an_empty_target_is_refused_with_a_reason(self) -> None:
        async with self.rig() as rig:
            reason = ""
            try:
                rig.channel.check_subscription(replace(rig.subscription, target=""))
            except BadRequest as error:
                reason = error.detail
            assert reason, "an empty target was taken, or refused without a word"

    async def test_what_the_far_end_takes_is_an_outcome(self) -> None:
        async with self.rig() as rig:
            outcome = await self._deliver(rig, delivery(rig.subscription))
            assert isinstance(outcome, Outcome)
            assert len(rig.received()) == 1
            assert_no_secret(rig, outcome.detail)

    async def test_every_attempt_carries_the_same_key(self) -> None:
        async with self.rig() as rig:
            first = delivery(rig.subscription)
            for attempt in (1, 2, 3):
                await self._deliver(rig, replace(first, attempt=attempt))
            keys = [received.key for received in rig.received()]
            assert len(keys) == 3
            assert len(set(keys)) == 1, keys

    async def test_two_alerts_have_two_keys(self) -> None:
        async with self.rig() as rig:
            for number in (1, 2):
                await self._deliver(rig, delivery(rig.subscription, number))
            assert len({received.key for received in rig.received()}) == 2

    async def test_a_passing_failure_is_temporary(self) -> None:
        await self._is_classified(Answer.TEMPORARY, TemporaryFailure)

    async def test_a_lasting_failure_is_permanent(self) -> None:
        await self._is_classified(Answer.PERMANENT, PermanentFailure)

    async def test_a_target_that_unsubscribed_is_gone(self) -> None:
        await self._is_classified(Answer.GONE, Gone)

    async def test_after_a_failure_the_next_delivery_arrives(self) -> None:
        if Answer.TEMPORARY not in self.answers:
            return
        async with self.rig() as rig:
            rig.answer(Answer.TEMPORARY)
            await self._failure(rig, delivery(rig.subscription))
            rig.answer(Answer.OK)
            assert isinstance(await self._deliver(rig, delivery(rig.subscription)), Outcome)

    async def test_a_drill_is_marked_or_the_channel_says_that_it_is_not_drill_safe(self) -> None:
        async with self.rig() as rig:
            if not rig.channel.drill_safe:
                return
            await self._deliver(rig, delivery(rig.subscription, status=Status.EXERCISE))
            [received] = rig.received()
            assert MARK in received.content or Status.EXERCISE in received.content, received.content

    async def test_a_real_alert_carries_no_drill_mark(self) -> None:
        async with self.rig() as rig:
            await self._deliver(rig, delivery(rig.subscription))
            [received] = rig.received()
            assert MARK not in received.content

    async def test_a_cancel_can_be_delivered(self) -> None:
        """A Cancel may have no info at all (CAP 1.2, 3.2.1): no headline, no area, no severity."""
        async with self.rig() as rig:
            await self._deliver(rig, delivery(rig.subscription, msg_type=MsgType.CANCEL))
            assert len(rig.received()) == 1

    async def test_a_delivery_that_is_broken_off_ends_at_once_and_does_no_harm(self) -> None:
        """The hub breaks off what takes too long, what makes way for a real alert, and everything when it stops."""
        if Answer.SILENCE not in self.answers:
            return
        async with self.rig() as rig:
            rig.answer(Answer.SILENCE)
            waiting = asyncio.ensure_future(rig.channel.deliver(delivery(rig.subscription)))
            await until(lambda: rig.received() or waiting.done())
            waiting.cancel()
            done, _ = await asyncio.wait([waiting], timeout=1.0)
            assert done, "the delivery went on for a second after it was cancelled"
            assert waiting.cancelled(), "CancelledError must be passed on"
            rig.answer(Answer.OK)
            assert isinstance(await self._deliver(rig, delivery(rig.subscription, 2)), Outcome)

    async def test_as_many_at_once_as_it_says_all_arrive(self) -> None:
        async with self.rig() as rig:
            number = min(rig.channel.limits.in_flight, 16)
            deliveries = [delivery(rig.subscription, n) for n in range(1, number + 1)]
            await asyncio.gather(*(self._deliver(rig, d) for d in deliveries))
            assert len({received.key for received in rig.received()}) == number

    async def test_one_that_has_health_is_well_after_a_delivery(self) -> None:
        async with self.rig() as rig:
            if not isinstance(rig.channel, Healthy):
                return
            assert rig.channel.health().ok, "nothing was seen yet"
            await self._deliver(rig, delivery(rig.subscription))
            assert rig.channel.health().ok, rig.channel.health().detail

    async def test_one_that_has_health_says_what_is_wrong_and_no_secret(self) -> None:
        async with self.rig() as rig:
            if not isinstance(rig.channel, Healthy):
                return
            if Answer.TEMPORARY in self.answers:
                rig.answer(Answer.TEMPORARY)
                await self._failure(rig, delivery(rig.subscription))
            health = rig.channel.health()
            assert health.ok or health.detail
            assert_no_secret(rig, health.detail)

    async def test_a_preview_shows_the_alert_and_sends_nothing(self) -> None:
        async with self.rig() as rig:
            if not isinstance(rig.channel, Previewing):
                return
            entry = delivery(rig.subscription).entry
            shown = rig.channel.preview(entry, "ja")
            assert shown == rig.channel.preview(entry, "ja"), "the same alert looks the same twice"
            assert entry.alert.infos[0].headline
            assert any(entry.alert.infos[0].headline in part.text for part in shown.parts), shown.parts
            assert not any(MARK in part.text for part in shown.parts), "a real alert carries no drill mark"
            for part in shown.parts:
                assert_part(part)
                assert_no_secret(rig, part.text)
            assert not rig.received()

    async def test_a_preview_carries_the_mark_of_a_drill(self) -> None:
        async with self.rig() as rig:
            if isinstance(rig.channel, Previewing) and rig.channel.drill_safe:
                shown = rig.channel.preview(delivery(rig.subscription, status=Status.EXERCISE).entry, None)
                assert any(MARK in part.text for part in shown.parts), shown.parts

    async def test_a_cancel_without_info_can_be_previewed(self) -> None:
        async with self.rig() as rig:
            if isinstance(rig.channel, Previewing):
                shown = rig.channel.preview(delivery(rig.subscription, msg_type=MsgType.CANCEL).entry, None)
                assert any(part.text for part in shown.parts)

    async def test_a_canary_is_a_note_that_cannot_be_taken_for_an_alert(self) -> None:
        async with self.rig() as rig:
            if not isinstance(rig.channel, Canarying):
                return
            await self._canary(rig, CANARY_KEY)
            [received] = rig.received()
            assert CANARY_TITLE in received.content, received.content
            assert CANARY_KEY in received.key + received.content
            assert MARK not in received.content, "it is no drill either"

    async def test_a_canary_fails_as_a_delivery_does(self) -> None:
        for answer, kind in KINDS.items():
            if answer not in self.answers:
                continue
            async with self.rig() as rig:
                if not isinstance(rig.channel, Canarying):
                    return
                rig.answer(answer)
                error = await self._failed_canary(rig)
                assert isinstance(error, kind), f"{answer}: {error!r}"
                assert error.detail, "a failure must say what happened"
                assert_no_secret(rig, *_texts(error))

    async def _failed_canary(self, rig: Rig) -> DeliveryError | None:
        try:
            await self._canary(rig, CANARY_KEY)
        except DeliveryError as error:
            return error
        return None

    @staticmethod
    async def _canary(rig: Rig, token: str) -> None:
        assert isinstance(rig.channel, Canarying)
        async with asyncio.timeout(PATIENCE):
            await rig.channel.canary(rig.subscription.target, token)

    async def _is_classified(self, answer: Answer, kind: type[DeliveryError]) -> None:
        if answer not in self.answers:
            return
        async with self.rig() as rig:
            rig.answer(answer)
            error = await self._failure(rig, delivery(rig.subscription))
            assert isinstance(error, kind), repr(error)
            assert error.detail, "a failure must say what happened"
            assert_no_secret(rig, *_texts(error))

    async def _failure(self, rig: Rig, delivery: Delivery) -> DeliveryError:
        try:
            outcome = await self._deliver(rig, delivery)
        except DeliveryError as error:
            return error
        raise AssertionError(f"the far end refused, and the channel reported {outcome}")

    @staticmethod
    async def _deliver(rig: Rig, delivery: Delivery) -> Outcome:
        async with asyncio.timeout(PATIENCE):
            return await rig.channel.deliver(delivery)


def delivery(
    subscription: Subscription,
    number: int = 1,
    *,
    status: Status = Status.ACTUAL,
    msg_type: MsgType = MsgType.ALERT,
) -> Delivery:
    """Return a first attempt to deliver the `number`-th alert of a log."""
    alert = make_alert(identifier=f"contract-{number}", status=status)
    if msg_type is MsgType.CANCEL:
        alert = replace(alert, msg_type=msg_type, infos=())
    now = datetime.now(UTC)
    entry = Entry(f"contract-{number}", now, now, alert, Origin(OriginKind.HTTP, "contract"), alert.id)
    return Delivery(delivery_key(subscription.id, alert.id), entry, subscription, 1)


def subscription(channel: str, target: str, format: str = "json", **options: str) -> Subscription:
    """Return a subscription to everything, drills included."""
    return Subscription(
        "contract",
        channel,
        target,
        Filter(statuses=frozenset(Status)),
        datetime.now(UTC),
        format=format,
        options=options,
    )


def assert_part(part: Part) -> None:
    """Fail if a part of a preview has no name, or counts what cannot be."""
    assert part.name
    assert part.unit
    if part.limit is not None:
        assert part.used is not None, f"{part.name}: a limit without what is used of it"
        assert 0 <= part.used <= part.limit, (
            f"{part.name}: {part.used} of {part.limit}: cut it before it is sent"
        )


def assert_no_secret(rig: Rig, *texts: str) -> None:
    """Fail if a text holds the target or an option of the subscription: both carry tokens, and errors go to logs and histories."""
    hidden = [
        rig.subscription.target,
        *(part for value in rig.subscription.options.values() for part in value.split()),
    ]
    for text in texts:
        for secret in hidden:
            assert len(secret) < 8 or secret not in text, f"a secret is shown in {text!r}"


async def until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until a callable says something true."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # what is waited for happens in a stranger's far end, which sets no event
            await asyncio.sleep(0.005)


def _texts(error: BaseException) -> list[str]:
    """Return what a log would show of an error, its causes included."""
    texts: list[str] = []
    link: BaseException | None = error
    while link is not None:
        texts += [str(link), repr(link)]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return texts
