"""Recordings from files, folders and tables: what is read, what is skipped, what is refused."""

from __future__ import annotations

import io
import json
import struct
import wave
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from scipy.io import wavfile

from counterpoint.data.files import media
from counterpoint.data.files.read import read
from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.rows import Rows
from counterpoint.errors import DataError
from counterpoint.modalities.audio import Recording, damage, recording

RATE = 8000


def samples(seed: int = 0, n: int = 800) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 0.9, n).astype(np.float32)


def sound(path: Path, seed: int = 0, n: int = 800) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(path, RATE, (samples(seed, n) * 32767).astype(np.int16))
    return path


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# --- one recording ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "error"),
    [
        (lambda x: ((x + 1) * 127.5).astype(np.uint8), 2e-2),
        (lambda x: (x * 32767).astype(np.int16), 1e-4),
        (lambda x: (x * (2**31 - 128)).astype(np.int32), 1e-6),
        (lambda x: x, 0),
        (lambda x: x.astype(np.float64), 0),
    ],
)
def test_plain_wav_of_every_coding(tmp_path: Path, made, error: float) -> None:
    x = samples()
    wavfile.write(tmp_path / "a.wav", RATE, made(x))
    found = recording(str(tmp_path / "a.wav"))
    assert found.rate == RATE
    assert found.samples.dtype == np.float32
    assert np.abs(found.samples - x).max() <= error
    assert np.array_equal(recording((tmp_path / "a.wav").read_bytes()).samples, found.samples)


def test_24_bits_and_two_channels() -> None:
    left, right = 2**22, -(2**21)
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(3)
        file.setframerate(44100)
        file.writeframes((left.to_bytes(3, "little", signed=True) + right.to_bytes(3, "little", signed=True)) * 5)
    found = recording(out.getvalue())
    assert found.rate == 44100
    assert np.allclose(found.samples, np.full(5, (0.5 - 0.25) / 2))


def test_the_extensible_form_other_chunks_and_a_length_not_known() -> None:
    x = np.array([1000, -2000, 3000], "<i2")
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4) + struct.pack("<H", 1) + b"\0" * 14
    body = b"fmt " + struct.pack("<I", len(form)) + form + b"odd " + struct.pack("<I", 3) + b"abc\0"
    body += b"data" + struct.pack("<I", 0xFFFFFFFF) + x.tobytes()
    found = recording(b"RIFF" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + body)
    assert np.allclose(found.samples * 32768, x)


def test_flac_by_soundfile() -> None:
    soundfile = pytest.importorskip("soundfile")
    out = io.BytesIO()
    soundfile.write(out, samples(), RATE, format="FLAC")
    assert np.abs(recording(out.getvalue()).samples - samples()).max() < 1e-4
    assert damage(out.getvalue()[:200]) is not None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"array": [], "sampling_rate": RATE}, "no samples"),
        ({"array": [0.1, float("nan")], "sampling_rate": RATE}, "not finite"),
        ({"array": [0.0] * 9, "sampling_rate": RATE}, "silent"),
        ({"array": [0.1, 0.2], "sampling_rate": 0}, "rate of 0"),
        ({"array": [70000, 3], "sampling_rate": RATE}, "beyond 16 bits"),
        ([0.1, 0.2], "without their rate"),
        (b"no sound at all, really", "sound file"),
    ],
)
def test_what_cannot_be_used_is_said(value, said: str) -> None:
    with pytest.raises(OSError, match=said):
        recording(value)


def test_numbers_of_sixteen_bits_and_of_several_channels() -> None:
    assert np.allclose(recording([16384, -8192], RATE).samples, [0.5, -0.25])
    assert np.allclose(recording(np.array([[0.5, 0.1], [0.1, 0.3]]), RATE).samples, [0.3, 0.2])


def test_another_rate_keeps_the_tone_and_drops_what_it_cannot_hold() -> None:
    time = np.arange(16000) / 16000
    low, high = (Recording(np.sin(2 * np.pi * f * time).astype(np.float32), 16000) for f in (440, 6000))
    half = low.at(8000)
    assert (half.rate, len(half)) == (8000, 8000)
    assert np.abs(half.samples[100:-100] - low.samples[::2][100:-100]).max() < 1e-2
    assert np.abs(high.at(8000).samples[100:-100]).max() < 1e-2
    assert low.at(16000) is low


# --- folders and tables ----------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    sound(tmp_path / "yes" / "1.wav", 1)
    sound(tmp_path / "yes" / "deep" / "2.wav", 2)
    sound(tmp_path / "no" / "3.wav", 3, n=500)
    found = read(tmp_path)
    assert found.features["label"].names == ["no", "yes"]
    schema = infer(found)
    assert (schema.kind, schema.modalities) == ("labelled", {"audio": "audio"})
    row = Rows(found, schema)[0]
    assert row["label"] == 0
    assert len(row["audio"]) == 500
    assert found.data.column("audio")[0]["bytes"].as_py() is None  # the table holds paths, not samples


def test_damaged_silent_and_empty_files_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    for i in range(5):
        sound(tmp_path / f"{i}.wav", i)
    cut(tmp_path / "0.wav")
    (tmp_path / "1.wav").write_text("no sound")
    wavfile.write(tmp_path / "2.wav", RATE, np.zeros(100, np.int16))
    log = Log()
    found = read(tmp_path, log=log)
    assert infer(found).kind == "items"
    assert len(found) == 2
    said = dict(log.skipped)
    assert "cut off" in said["0.wav"]
    assert "silent" in said["2.wav"]
    assert set(said) == {"0.wav", "1.wav", "2.wav"}
    for path in tmp_path.glob("*.wav"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of its 5 recordings can be read"):
        read(tmp_path)


def test_only_headers_of_a_large_folder_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "DECODE_ALL", 0)
    sound(tmp_path / "0.wav", 0)
    wavfile.write(tmp_path / "1.wav", RATE, np.zeros(100, np.int16))
    cut(sound(tmp_path / "2.wav", 2))
    found = read(tmp_path)
    assert len(found) == 2  # a header says what is cut off, not what is silent
    rows = Rows(found, infer(found))
    assert [r["row"] for r in rows[[0, 1]]] == [0]
    assert "silent" in rows.log.lines()[0]
    with pytest.raises(DataError, match="audio of row 1"):
        rows[1]


def test_a_metadata_file_gives_transcripts(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav", 1)
    sound(tmp_path / "b.wav", 2)
    lines = [{"file_name": "b.wav", "transcript": "two words"}, {"file_name": "a.wav", "transcript": "one more"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = read(tmp_path)
    schema = infer(found)
    assert (schema.kind, schema.modalities) == ("towers", {"audio": "audio", "text": "text"})
    row = Rows(found, schema)[0]
    assert row["text"] == "two words"
    assert np.abs(row["audio"].samples - samples(2)).max() < 1e-3


def test_images_and_recordings_in_one_folder_are_refused(tmp_path: Path) -> None:
    sound(tmp_path / "a.wav")
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(DataError, match="both recordings and images"):
        read(tmp_path)


def test_samples_with_a_rate_beside_them() -> None:
    table = {"audio": [[100, -100, 50], [7, 8]], "rate": [RATE, 16000], "speaker": ["x", "y"]}
    found = datasets.Dataset(pa.table(table))
    schema = infer(found, columns={"audio": "audio"})
    assert schema.columns == {"rate": "rate", "audio": "audio"}
    rows = Rows(found, schema)
    assert [(len(r["audio"]), r["audio"].rate) for r in rows] == [(3, RATE), (2, 16000)]
    assert set(rows[0]) == {"row", "audio"}
    with pytest.raises(DataError, match="rate in hertz beside them"):
        infer(found.remove_columns("rate"), columns={"audio": "audio"})


def test_encoded_sounds_in_parquet_are_told_from_images(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    encoded = [{"bytes": sound(tmp_path / f"{i}.wav", i).read_bytes(), "path": None} for i in range(3)]
    pq.write_table(pa.table({"speech": pa.array(encoded, media.ARROW)}), tmp_path / "x.parquet")
    found = read(tmp_path / "x.parquet")
    assert isinstance(found.features["speech"], datasets.Audio)
    schema = infer(found)
    assert schema.kind == "items"
    assert [len(r["audio"]) for r in Rows(found, schema)] == [800] * 3
    stream = read(tmp_path / "x.parquet", streaming=True)
    assert infer(stream).modalities == {"audio": "audio"}
    made = datasets.Dataset.from_dict({"speech": encoded}).cast_column("speech", datasets.Audio())
    assert infer(made).modalities == {"audio": "audio"}
    assert len(Rows(made, infer(made))[2]["audio"]) == 800


@pytest.mark.parametrize("streaming", [False, True])
def test_shards_of_recordings(tmp_path: Path, streaming: bool) -> None:
    import tarfile

    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for i in range(2):
            tar.add(sound(tmp_path / "w" / f"{i}.wav", i), f"{i}.wav")
    found = read(tmp_path / "x.tar", streaming=streaming)
    assert infer(found).modalities == {"audio": "audio"}
