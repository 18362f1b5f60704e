"""Sound: a voice by Open JTalk, a chime made of sines, and both as a WAV file. Everything here blocks, and nothing of it is a file from elsewhere."""

from __future__ import annotations

import io
import threading
import wave
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
"""Mono, -1 to 1, `RATE` a second."""

RATE: Final = 48_000
PEAK: Final = 0.9
PAUSE_S: Final = 0.5
LONG_PAUSE_S: Final = 1.0
RISING: Final = (523.25, 659.26, 783.99, 1046.50)
"""Hertz of the tones before an announcement; the same fall after it."""
TONE_S: Final = 0.6
RING_S: Final = 1.6

# The library has one engine with one voice.
_voice = threading.Lock()


def speak(sentences: Sequence[str], speed: float) -> Samples:
    """Return sentences as they are spoken, with a pause between them. A sentence in which there is nothing to be read is passed over."""
    import pyopenjtalk

    said: list[Samples] = []
    for sentence in sentences:
        with _voice:
            # What is left out asks for models that are not there, and prints that.
            labels = pyopenjtalk.extract_fullcontext(
                sentence, use_sudachi_kanji_yomi=False, predict_nani=False
            )
            spoken, rate = pyopenjtalk.synthesize(labels, speed)
        assert rate == RATE, rate
        said += [np.asarray(spoken, dtype=np.float32), silence(PAUSE_S)]
    voice = joined(said)
    return _levelled(voice)


def reading(text: str) -> str:
    """Return in katakana how the voice reads a text."""
    import pyopenjtalk

    with _voice:
        return str(pyopenjtalk.g2p(text, kana=True, use_sudachi_kanji_yomi=False, predict_nani=False))


@lru_cache(maxsize=4)
def chime(hertz: tuple[float, ...] = RISING) -> Samples:
    """Return one struck tone after the other; each rings on under the next."""
    t = np.arange(int(RING_S * RATE), dtype=np.float32) / RATE
    out = np.zeros(int((TONE_S * (len(hertz) - 1) + RING_S) * RATE), dtype=np.float32)
    for number, pitch in enumerate(hertz):
        tone = sum(np.sin(2 * np.pi * pitch * n * t) / n**2 * np.exp(-t * (2.0 + n)) for n in (1, 2, 3))
        # Begins within 5 ms and not at once, which would crack.
        start = int(number * TONE_S * RATE)
        out[start : start + len(t)] += (tone * np.minimum(t / 0.005, 1.0)).astype(np.float32)
    return _levelled(out)


def silence(seconds: float) -> Samples:
    """Return nothing to be heard."""
    return np.zeros(int(seconds * RATE), dtype=np.float32)


def joined(parts: Sequence[Samples]) -> Samples:
    """Return one part after the other."""
    return np.concatenate(parts) if parts else silence(0)


def wav(samples: Samples, rate: int) -> bytes:
    """Return a WAV file: PCM, 16 bits, mono, `rate` samples a second, which must divide `RATE`."""
    slower = _decimated(samples, RATE // rate)
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((np.clip(slower, -1, 1) * 32_767).astype("<i2").tobytes())
    return file.getvalue()


def _decimated(samples: Samples, factor: int) -> Samples:
    """Return every `factor`-th sample of what is left below half the new rate: a windowed sinc takes the rest away, which would whistle."""
    if factor == 1:
        return samples
    taps = np.arange(-16 * factor, 16 * factor + 1)
    low_pass = np.sinc(taps * 0.9 / factor) * np.blackman(len(taps))
    filtered = np.convolve(samples, (low_pass / low_pass.sum()).astype(np.float32), mode="same")
    return np.asarray(filtered[::factor], dtype=np.float32)


def _levelled(samples: Samples) -> Samples:
    top = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(PEAK / top) if top > 0 else samples
