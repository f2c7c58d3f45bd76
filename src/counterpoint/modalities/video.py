"""Videos: what one is, and the decoding of one from a file (by PyAV) or from a folder of its frames.

Every frame of a long video would fill the memory, so decoding keeps at most `MOST` frames, spread evenly, and makes
large ones smaller (`SIDE`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from counterpoint.errors import CounterpointError, DataError, need
from counterpoint.modalities import image
from counterpoint.modalities.base import Column, Modality, decoded, first_file, is_encoded, is_file, source

VIDEO = "video"
MOST, SIDE = 32, 112
"""Frames of a video, and pixels of its shorter side, that are kept."""
RATE = 25.0
"""Frames in a second of a folder of frames, which does not say."""
FEWEST = 8
"""Frames in a folder that is taken for a video without being told so."""
ALIKE = 0.6
"""Such frames differ from the next one, on average, by at most this share of what frames far apart differ by."""
LOOK = 8
"""Folders that are looked at for this."""
SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"})
FRAMES = ".frames"
"""The end of the name of a folder that is a video, whatever its frames are like."""


@dataclass(frozen=True, eq=False)
class Video:
    """frames: ``(T, H, W, C)`` uint8. rate: frames in a second. Raises `DataError` for anything else, and for none."""

    frames: np.ndarray
    rate: float = RATE

    def __post_init__(self) -> None:
        x = self.frames
        if x.ndim != 4 or x.dtype != np.uint8 or 0 in x.shape:
            raise DataError(
                f"A video was made of {x.dtype} {x.shape}; expected frames (T, H, W, C) uint8, one or more."
            )
        if not self.rate > 0:
            raise DataError(f"A video has a rate of {self.rate} frames in a second; expected more than 0.")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.frames) / self.rate

    def part(self, start: int, stop: int, step: int = 1) -> Video:
        """Every ``step``-th of the frames from ``start`` to ``stop``, which share memory with these."""
        return Video(self.frames[start:stop:step], self.rate / step)


def video(value: Any) -> Video:
    """A video from whatever holds one: itself, the path of a file or of a folder of frames, the bytes of a file,
    ``{bytes, path}``, or ``{frames, rate}``.

    Raises `OSError`, with the reason, for what cannot be used: a damaged file, none with pictures, frames of several
    sizes.

    value: one of these.
    """
    if isinstance(value, Video):
        return value
    try:
        if isinstance(value, Mapping) and "frames" in value:
            return Video(np.asarray(value["frames"]), float(value.get("rate", RATE)))
        if not isinstance(value, str | bytes | Path | Mapping):
            raise DataError(f"a {type(value).__name__}, not a file, a folder of frames, or {{frames, rate}}")
        opened = source(str(value) if isinstance(value, Path) else value)
        if isinstance(opened, str) and Path(opened).is_dir():
            return _of_folder(Path(opened))
        return _of_file(opened)
    except DataError as error:
        raise OSError(str(error)) from error


def damage(value: Mapping[str, Any] | bytes | str, *, whole: bool = True) -> str | None:
    """Why a video cannot be used, or None. whole: decode all of it, not its first frame alone.

    value: of a cell.
    """
    try:
        opened = source(value)
        if isinstance(opened, str) and Path(opened).is_dir():
            for frame in _frames(Path(opened))[: None if whole else 1]:
                if reason := image.damage(str(frame), whole=whole):
                    return f"not usable as a video: {frame.name} is {reason}"
            return None
        for _ in _decoded(opened):
            if not whole:
                return None
    except FileNotFoundError:
        return "no such video file"
    except (OSError, DataError) as error:
        if isinstance(error, CounterpointError) and not isinstance(error, DataError):
            raise  # an extra is missing: that is no fault of the file
        return f"not usable as a video: {error}"
    return None


# --- files -----------------------------------------------------------------------------------------------------


def _of_file(opened: Any) -> Video:
    """Frames as they come; as soon as there are twice too many, every second one goes."""
    kept: list[np.ndarray] = []
    step, rate = 1, RATE
    for i, (frame, of) in enumerate(_decoded(opened)):
        rate = of
        if i % step:
            continue
        kept.append(_small(frame))
        if len(kept) == 2 * MOST:
            kept, step = kept[::2], 2 * step
    return Video(*_thinned(kept, rate / step))


def _decoded(opened: Any) -> Iterable[tuple[Any, float]]:
    """Every frame of a file, as PyAV has it, and the rate. Raises `OSError` for a damaged file, and one without any."""
    av = need("av", VIDEO)
    try:
        with av.open(opened) as file:
            if not file.streams.video:
                raise OSError("no pictures in it, or it is cut off")
            stream = file.streams.video[0]
            stream.thread_type = "AUTO"
            rate = float(stream.average_rate or stream.guessed_rate or Fraction(RATE))
            some = False
            for frame in file.decode(stream):
                some = True
                yield frame, rate
    except av.FFmpegError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise OSError(f"damaged, or no video ({error.strerror})") from error
    if not some:
        raise OSError("no frames in it")


def _small(frame: Any) -> np.ndarray:
    """A frame of PyAV as ``(H, W, 3)`` uint8, turned as it is shown."""
    scale = min(1.0, SIDE / min(frame.height, frame.width))
    width, height = (max(1, round(n * scale)) for n in (frame.width, frame.height))
    pixels: np.ndarray = frame.to_ndarray(format="rgb24", width=width, height=height)
    return np.ascontiguousarray(np.rot90(pixels, round(getattr(frame, "rotation", 0) / 90) % 4))


def _thinned(frames: Sequence[np.ndarray], rate: float) -> tuple[np.ndarray, float]:
    """At most `MOST` frames, spread evenly, and the rate that they then have."""
    if len(frames) <= MOST:
        return np.stack(frames), rate
    kept = np.linspace(0, len(frames) - 1, MOST).round().astype(int)
    return np.stack([frames[i] for i in kept]), rate * MOST / len(frames)


# --- folders of frames -----------------------------------------------------------------------------------------


def _of_folder(folder: Path) -> Video:
    files = _frames(folder)
    kept = np.linspace(0, len(files) - 1, min(MOST, len(files))).round().astype(int)
    frames = [_picture(files[i]) for i in kept]
    if len(sizes := {frame.shape for frame in frames}) > 1:
        said = " and ".join(f"{width} x {height}" for height, width, _ in sorted(sizes))
        raise DataError(f"its frames are {said} pixels; they must be of one size")
    return Video(np.stack(frames), RATE * len(kept) / len(files))


def _frames(folder: Path) -> list[Path]:
    """The pictures in a folder, by the numbers in their names."""
    files = [p for p in folder.iterdir() if _is_picture(p)]
    if not files:
        raise DataError("there are no pictures in the folder")
    return sorted(files, key=lambda p: [int(x) if x.isdigit() else x for x in re.split(r"(\d+)", p.name)])


def _picture(path: Path) -> np.ndarray:
    """``(H, W, 3)`` uint8."""
    found = image.decode(str(path)).convert("RGB")
    scale = min(1.0, SIDE / min(found.size))
    return np.asarray(found.resize([max(1, round(n * scale)) for n in found.size]) if scale < 1 else found)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in image.modality.suffixes and not path.name.startswith(".")


def folders(root: Path) -> list[Path]:
    """The folders below one whose pictures are the frames of one video each: those named ``NAME.frames``, else all that
    hold pictures, where these are numbered without a gap and, of some folders that are looked at, follow upon each
    other: the next one is more alike than one far away. Pictures of classes in any order are not.

    root: where they lie, at any depth.
    """
    held: dict[Path, list[Path]] = {}
    for path in root.rglob("*"):
        if _is_picture(path) and not any(part.startswith(".") for part in path.relative_to(root).parts):
            held.setdefault(path.parent, []).append(path)
    if named := [folder for folder in held if folder.suffix == FRAMES]:
        return named
    if root in held or not held or not all(_numbered(files) for files in held.values()):
        return []
    some = [list(held)[i] for i in np.linspace(0, len(held) - 1, min(LOOK, len(held))).astype(int)]
    try:
        return list(held) if np.median([_unlike(_frames(folder)) for folder in some]) <= ALIKE else []
    except OSError:  # a damaged picture is named where pictures are read
        return []


def _numbered(files: Sequence[Path]) -> bool:
    """Whether pictures are enough and their names count without a gap."""
    names = [re.fullmatch(r"(.*?)(\d+)", p.stem) for p in files]
    if len(files) < FEWEST or None in names or len({m[1] for m in names if m}) > 1:
        return False
    numbers = sorted(int(m[2]) for m in names if m)
    return numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _unlike(frames: Sequence[Path]) -> float:
    """By how much a frame differs from the next, as a share of what it differs by from one half of them away; 1 where
    frames are of several sizes, or do not differ at all."""
    half = len(frames) // 2
    near, far, sizes = [], [], set()
    for i in np.linspace(0, half - 1, min(4, half)).astype(int):
        pictures = [image.decode(str(frames[j])).convert("L") for j in (i, i + 1, i + half)]
        sizes |= {picture.size for picture in pictures}
        a, b, c = (np.asarray(picture.resize((16, 16)), dtype=np.float32) for picture in pictures)
        near.append(np.abs(a - b).mean())
        far.append(np.abs(a - c).mean())
    return float(np.mean(near) / np.mean(far)) if len(sizes) == 1 and np.mean(far) > 0 else 1.0


# --- what is known of them -------------------------------------------------------------------------------------


def item(cell: Any, beside: Mapping[str, Any]) -> Video:
    """The video in a cell. Raises `OSError` for one that cannot be used.

    cell: of the column. beside: not needed.
    """
    try:
        found: Video = decoded(cell, video)
        return found
    except OSError as error:
        raise OSError(f"cannot be used: {error}") from error


def looks(column: Column) -> bool:
    """Whether a column holds video files, or folders."""
    if not is_file(column.type) or (found := first_file(column)) is None:
        return False
    head, path = found
    return starts(head) if head else path.suffix.lower() in SUFFIXES or path.is_dir()


def starts(head: bytes) -> bool:
    """Whether a file that begins so, its ``head`` being its first bytes, is a video."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"avif", b"avis", b"heic", b"mif1", b"M4A ")  # pictures and sounds
    return head.startswith((b"\x1aE\xdf\xa3", b"\x00\x00\x01\xba")) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")


def example(rng: np.random.Generator, size: int = 24) -> Video:
    """A bright square that moves over noise, in a colour of its own.

    rng: every draw comes from it. size: of a side, in pixels.
    """
    frames = rng.integers(0, 60, (int(rng.integers(5, 14)), size, size, 3)).astype(np.uint8)
    at, speed, colour = rng.uniform(0, size, 2), rng.uniform(-3, 3, 2), rng.integers(100, 256, 3)
    for t, frame in enumerate(frames):
        top, left = (int(x) for x in (at + t * speed) % (size - 6))
        frame[top : top + 6, left : left + 6] = colour
    return Video(frames, 8.0)


modality = Modality(
    name=VIDEO,
    one="a video",
    many="videos",
    item=item,
    fits=is_encoded,
    looks=looks,
    over=frozenset({image.IMAGE}),
    together=32,
    suffixes=SUFFIXES,
    damage=damage,
    folders=folders,
    feature="Video",
    needs=("av",),
    then=("counterpoint index {run} ROWS && counterpoint search {run} --video FILE",),
    example=example,
)
