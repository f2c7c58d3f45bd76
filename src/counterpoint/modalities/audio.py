"""Recordings: what one is, the decoding of one from a file, from bytes or from a list of samples, and its spectrum."""

from __future__ import annotations

import base64
import io
import os
import struct
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import IO, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from counterpoint.errors import CounterpointError, DataError, need
from counterpoint.modalities.base import Column, Modality, decoded, holds_files, is_encoded, is_numbers, source

AUDIO = "audio"
RATES = ("rate", "sampling_rate", "sample_rate", "sr")
"""Names of a column that gives the rate in hertz of the samples beside it."""
HEARD, HEARD_RATE = 3, 16_000
"""Seconds of a recording that a report plays, and samples in a second, at most."""
_STARTS = (b"RIFF", b"RIFX", b"fLaC", b"OggS", b"ID3", b"FORM")
_OTHERS = (b"WEBP", b"AVI ")  # which begin with RIFF too
SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"})


@dataclass(frozen=True, eq=False)
class Recording:
    """samples: ``(T,)`` float32, one channel, full scale being from -1 to 1. rate: samples in a second.

    Raises `DataError` for no samples, for some that are not finite, and for a rate that is none.
    """

    samples: np.ndarray
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or self.samples.dtype != np.float32:
            shape = f"{self.samples.dtype} {self.samples.shape}"
            raise DataError(f"A recording was made of samples {shape}; expected float32 (T,), one channel.")
        if self.rate < 1:
            raise DataError(f"A recording has a rate of {self.rate} samples in a second; expected 1 or more.")
        if not len(self.samples):
            raise DataError("A recording holds no samples.")
        if not np.isfinite(self.samples).all():
            raise DataError("A recording holds samples that are not finite (NaN or infinity).")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate

    def part(self, start: int, stop: int) -> Recording:
        """The samples from ``start`` to ``stop``, which share memory with these."""
        return Recording(self.samples[start:stop], self.rate)

    def at(self, rate: int) -> Recording:
        """At another rate, by a polyphase filter that lets nothing above half of the lower rate through."""
        if rate == self.rate:
            return self
        from scipy.signal import resample_poly

        common = gcd(rate, self.rate)
        return Recording(resample_poly(self.samples, rate // common, self.rate // common).astype(np.float32), rate)


def recording(value: Any, rate: int | None = None) -> Recording:
    """A recording from whatever holds one: itself, a path, the bytes of a file, ``{bytes, path}``, or numbers.

    Numbers ``(T,)`` or ``(channels, T)`` need their ``rate``, or come as ``{array, sampling_rate}``; whole numbers are
    samples of 16 bits. Channels are averaged. Raises `OSError`, with the reason, for what cannot be used: a damaged
    file, no samples, NaN, digital silence from beginning to end.

    value: one of these. rate: samples in a second.
    """
    if isinstance(value, Recording):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, Mapping) and "array" in value:
        value, rate = value["array"], value["sampling_rate"]
    try:
        if isinstance(value, str | bytes | Mapping):
            found = Recording(*_decoded(source(value)))
        elif rate is None:
            raise DataError(f"samples without their rate (a column named {', '.join(RATES[:-1])} or {RATES[-1]})")
        else:
            found = Recording(_mono(np.asarray(value)), int(rate))
    except FileNotFoundError:
        raise
    except (DataError, ValueError, struct.error) as error:
        raise OSError(str(error)) from error
    if not found.samples.any():
        raise OSError("silent: every sample is 0")
    return found


def damage(value: Mapping[str, Any] | bytes | str, *, whole: bool = True) -> str | None:
    """Why a recording cannot be used, or None. whole: read all of it, not the header alone.

    value: of a cell.
    """
    try:
        if whole:
            recording(value)
        else:
            with _opened(source(value)) as file:
                if _is_wav(file):
                    _wav_header(file)
    except FileNotFoundError:
        return "no such sound file"
    except (OSError, ValueError, struct.error) as error:
        if isinstance(error, CounterpointError):
            raise  # an extra is missing: that is no fault of the file
        return f"not usable as a recording: {error}"
    return None


def _mono(samples: np.ndarray | Sequence[float]) -> np.ndarray:
    """Whole numbers or floats ``(T,)`` or ``(channels, T)`` to float32 ``(T,)``."""
    x = np.asarray(samples)
    if x.dtype.kind in "iu":
        if x.size and np.abs(x.astype(np.int64)).max() > 2**15:
            raise DataError("whole numbers beyond 16 bits; give floats between -1 and 1")
        x = x / 2**15
    if x.dtype.kind != "f" or x.ndim not in (1, 2):
        raise DataError(f"samples are {x.dtype} {x.shape}; expected numbers (T,) or (channels, T)")
    return (x.mean(0) if x.ndim == 2 else x).astype(np.float32)


# --- files -----------------------------------------------------------------------------------------------------


def _opened(file: Any) -> IO[bytes]:
    return open(file, "rb") if isinstance(file, str) else file


def _decoded(file: Any) -> tuple[np.ndarray, int]:
    with _opened(file) as stream:
        if _is_wav(stream):
            return _wav(stream)
        soundfile = need("soundfile", AUDIO)
        try:
            x, rate = soundfile.read(stream, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise OSError(f"no sound file that can be read ({error.error_string})") from error
        return x.mean(1), rate


def _is_wav(stream: IO[bytes]) -> bool:
    head = stream.read(12)
    stream.seek(0)
    return head[:4] in (b"RIFF", b"RIFX") and head[8:] == b"WAVE"


def _wav_header(stream: IO[bytes]) -> tuple[int, int, str, int]:
    """Rate, channels, how a sample is written (numpy's name; ``i3`` for 24 bits), bytes of samples; then the stream
    is at the first sample.

    Read here, as the standard library knows neither floats nor the extensible form before Python 3.12, and a plain
    .wav should need no other package.
    """
    order = ">" if stream.read(4) == b"RIFX" else "<"
    end = stream.seek(0, 2)
    stream.seek(12)
    form: tuple[int, int, str] | None = None
    while len(head := stream.read(8)) == 8:
        name, size = head[:4], struct.unpack(f"{order}I", head[4:])[0]
        if name == b"fmt ":
            chunk = stream.read(size)
            code, channels, rate, _, _, bits = struct.unpack(f"{order}HHIIHH", chunk[:16])
            if code == 0xFFFE:  # extensible: the code proper begins a longer name
                code = struct.unpack(f"{order}H", chunk[24:26])[0]
            kind = {(1, 8): "u1", (1, 16): "i2", (1, 24): "i3", (1, 32): "i4", (3, 32): "f4", (3, 64): "f8"}
            if (code, bits) not in kind or not channels or not rate:
                raise OSError(
                    f"a .wav of coding {code}, {bits} bits, {channels} channels; plain PCM and floats are read"
                )
            form = rate, channels, order + kind[code, bits]
            stream.seek(size % 2, 1)
        elif name == b"data":
            if form is None:
                break
            there = end - stream.tell()
            if size in (0, 0xFFFFFFFF):  # written to a pipe, where the length was not known
                size = there
            if size > there:
                raise OSError(f"cut off: {there:,} of {size:,} bytes of samples are there")
            return *form, size
        else:
            stream.seek(size + size % 2, 1)
    raise OSError("a .wav without samples")


def _wav(stream: IO[bytes]) -> tuple[np.ndarray, int]:
    rate, channels, written, size = _wav_header(stream)
    raw = stream.read(size)
    width = int(written[2])
    raw = raw[: len(raw) - len(raw) % (width * channels)]
    if written[1:] == "i3":  # 24 bits: as the upper three bytes of 32
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        places = slice(1, 4) if written[0] == "<" else slice(0, 3)
        wide[:, places] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        samples = wide.view(written[0] + "i4")[:, 0] / 2**31
    else:
        x = np.frombuffer(raw, written)
        samples = (x - 128.0) / 128 if written[1:] == "u1" else x / 2 ** (8 * width - 1) if written[1] == "i" else x
    return samples.reshape(-1, channels).mean(1).astype(np.float32), rate


# --- spectra ---------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def mel_filters(rate: int, *, bands: int, window: int) -> np.ndarray:
    """Triangles ``(bands, window // 2 + 1)`` at even distances on the mel scale, from 0 to half the rate (in hertz)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + rate / 1400), bands + 2) / 2595) - 1)
    hertz = np.linspace(0, rate / 2, window // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (hertz - low) / (middle - low), (high - hertz) / (high - middle)
    return np.minimum(rising, falling).clip(0).astype(np.float32)


@lru_cache(maxsize=16)
def _hann(window: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)).astype(np.float32)


def log_mel(recording: Recording, *, bands: int, window: int, hop: int) -> np.ndarray:
    """``log(power in each mel band + 1e-6)`` of frames around every ``hop``-th sample, ``(T // hop + 1, bands)``.

    window: samples of a frame, weighed by Hann's window. The recording goes on mirrored at both ends; one shorter than
    a frame is followed by silence first. In numpy, as many small operations of torch on a core that is busy otherwise
    wait for its other threads.
    """
    from scipy.fft import rfft  # here: it takes long

    half = window // 2
    wave = np.pad(recording.samples, (0, max(0, window - len(recording))))
    around = sliding_window_view(np.pad(wave, half, mode="reflect"), window)[::hop]
    power = np.abs(rfft(around * _hann(window))) ** 2
    found: np.ndarray = np.log(power @ mel_filters(recording.rate, bands=bands, window=window).T + np.float32(1e-6))
    return found


# --- what is known of them -------------------------------------------------------------------------------------


def item(cell: Any, beside: Mapping[str, Any]) -> Recording:
    """The recording in a cell; samples need their ``rate`` beside them. `OSError` for one that cannot be used."""
    try:
        found: Recording = decoded(cell, lambda value: recording(value, beside.get("rate")))
        return found
    except OSError as error:
        raise OSError(f"cannot be used: {error}") from error


def shown(recording: Recording) -> str:
    """How a recording begins, as an HTML player of a .wav of 16 bits."""
    begins = recording.part(0, HEARD * recording.rate)
    begins = begins.at(min(begins.rate, HEARD_RATE))
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(begins.rate)
        file.writeframes((begins.samples.clip(-1, 1) * (2**15 - 1)).astype("<i2").tobytes())
    data = base64.b64encode(out.getvalue()).decode("ascii")
    return f'<audio controls preload="none" src="data:audio/wav;base64,{data}"></audio>'


def looks(column: Column) -> bool:
    """Whether a column holds sound files, or samples beside a column of their rate."""
    if is_numbers(column.type):
        return column.number_beside(RATES) is not None
    return holds_files(column, starts, SUFFIXES)


def starts(head: bytes) -> bool:
    """Whether a file that begins so, its ``head`` being its first bytes, is one of sound."""
    return head.startswith(_STARTS) and head[8:12] not in _OTHERS


def lacks(column: Column) -> str:
    """What a column of samples lacks, in a sentence; '' where it lacks nothing."""
    if not is_numbers(column.type) or column.number_beside(RATES):
        return ""
    return (
        f"Column {column.name!r} holds samples: they need a column of their rate in hertz beside them, called "
        f"{' or '.join(RATES)}."
    )


def example(rng: np.random.Generator, seconds: float | None = None) -> Recording:
    """Two tones of random pitch in noise, at 8 kHz.

    rng: every draw comes from it. seconds: how long (None: drawn too).
    """
    seconds = float(rng.uniform(0.1, 1.0)) if seconds is None else seconds
    time = np.arange(int(8000 * seconds)) / 8000
    tones = sum(np.sin(2 * np.pi * pitch * time) for pitch in rng.uniform(100, 3000, 2))
    return Recording((0.3 * tones + 0.05 * rng.normal(size=len(time))).astype(np.float32), 8000)


modality = Modality(
    name=AUDIO,
    one="a recording",
    many="recordings",
    item=item,
    fits=lambda type_: is_encoded(type_) or is_numbers(type_),
    looks=looks,
    over=frozenset({"image", "vector"}),
    lacks=lacks,
    beside={"rate": RATES},
    together=256,
    shown=shown,
    with_label=("text", "task"),  # what is said in it, and the number of the task that it comes in
    suffixes=SUFFIXES,
    damage=damage,
    feature="Audio",
    needs=("soundfile",),
    then=("counterpoint index {run} ROWS && counterpoint search {run} --audio FILE",),
    example=example,
)
