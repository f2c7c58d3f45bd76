"""A series, its parts in order of time, its windows; a table becomes one, or says why not."""

import gzip

import numpy as np
import pytest
from datasets import Dataset

from counterpoint.data.infer import infer
from counterpoint.data.log import Log
from counterpoint.data.steps import exchange_rates, series_of, times, transformer_temperature
from counterpoint.data.windows import Series, Windows
from counterpoint.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
VALUES = np.cumsum(RNG.normal(size=(100, 2)), axis=0) * [1, 100]
DATES = [f"2024-01-{1 + i // 24:02d} {i % 24:02d}:00:00" for i in range(100)]


def series(values=VALUES, **given):
    return Series(values=values, names=tuple("abcdef"[: np.shape(values)[1]]), **given)


def table(**columns):
    return Dataset.from_dict(columns)


# --- the series ------------------------------------------------------------------------------------------------


def test_parts_follow_each_other():
    found = series()
    assert [found.span(p) for p in ("train", "dev", "test")] == [(0, 70), (70, 80), (80, 100)]
    assert series(borders=(50, 60, 90)).span("test") == (60, 90)


def test_the_later_parts_decide_nothing():
    other = VALUES.copy()
    other[70:] += 1e6
    one, two = series(), series(other)
    assert np.array_equal(one.mean, two.mean)
    assert np.array_equal(one.deviation, two.deviation)
    np.testing.assert_allclose(one.scaled[:70].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(one.scaled[:70].std(0), 1, atol=1e-5)


def test_a_constant_channel_is_zero_not_nan():
    values = np.column_stack((VALUES[:, 0], np.full(100, 123456.7)))
    scaled = series(values).scaled
    assert np.isfinite(scaled).all()
    assert np.abs(scaled[:, 1]).max() < 0.1


def test_gaps_are_refused_with_their_place():
    values = VALUES.copy()
    values[[7, 9], 1] = np.nan
    with pytest.raises(DataError, match=r"2 of 100 steps have gaps.*in b; the first is row 7.*interpolate"):
        series(values)
    with pytest.raises(DataError, match="expected \\(T, C\\)"):
        Series(values=VALUES, names=("a",))
    with pytest.raises(DataError, match="they must grow"):
        series(borders=(50, 40, 90))


# --- its windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_what_is_foretold_lies_in_its_part(part):
    found = series()
    windows = Windows(found, part, length=6, horizon=3)
    start, end = found.span(part)
    assert windows.index.min() == max(start, 6)
    assert windows.index.max() + 3 == end
    first = windows[0]
    assert np.array_equal(first["series"], found.values[first["row"] - 6 : first["row"]])
    assert np.array_equal(first["horizon"], found.values[first["row"] : first["row"] + 3])
    assert len({row["row"] for row in windows}) == len(windows)


def test_arrays_are_the_rows_standardised():
    windows = Windows(series(), "dev", length=4, horizon=2)
    past, future = windows.arrays()
    assert past.shape == (len(windows), 4, 2)
    for i, row in enumerate(windows[:]):
        np.testing.assert_allclose(past[i], (row["series"] - windows.series.mean) / windows.series.deviation, atol=1e-5)
        np.testing.assert_allclose(
            future[i], (row["horizon"] - windows.series.mean) / windows.series.deviation, atol=1e-5
        )


def test_windows_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match=r"dev part.*has 10 of its 100 steps.*--set length=L horizon=H"):
        Windows(series(), "dev", length=4, horizon=11)
    assert len(Windows(series(), "dev", length=4, horizon=10)) == 1
    with pytest.raises(ConfigError, match="length >= 1"):
        Windows(series(), length=0)


# --- a table ---------------------------------------------------------------------------------------------------


def test_times_and_numbers_are_a_series():
    raw = table(date=DATES, load=VALUES[:, 0].tolist(), heat=VALUES[:, 1].tolist(), id=list(range(100)))
    schema = infer(raw)
    assert (schema.kind, schema.modalities) == ("series", {"series": "series"})
    assert schema.columns == {"series": ["load", "heat"], "time": "date"}
    assert schema.why == "series: the times of its steps (date) and numbers: load, heat; id left aside."
    log = Log()
    found = series_of(raw, schema, log)
    assert found.names == ("load", "heat")
    np.testing.assert_allclose(found.values, VALUES, rtol=1e-6)
    assert not log.lines()


def test_numbers_that_resemble_those_before_them_are_a_series_and_others_are_not():
    schema = infer(table(a=VALUES[:, 0].tolist(), b=VALUES[:, 1].tolist()))
    assert schema.kind == "series"
    assert "rows resemble those before them" in schema.why
    noise = RNG.normal(size=(100, 2))
    noise = infer(table(a=noise[:, 0].tolist(), b=noise[:, 1].tolist()))
    assert (noise.kind, noise.columns) == ("items", {"table": ["a", "b"]})
    with pytest.raises(DataError):  # a table of classes in order
        infer(table(a=VALUES[:, 0].tolist(), label=[i // 50 for i in range(100)]))


def test_a_text_beside_numbers_is_no_series():
    raw = table(text=[f"sentence {i} is another one" for i in range(100)], a=VALUES[:, 0].tolist())
    assert infer(raw).kind == "texts"


def test_channels_can_be_named():
    raw = table(t=list(range(100)), a=VALUES[:, 0].tolist(), b=VALUES[:, 1].tolist(), note=["x y z"] * 100)
    for given in ("a+b", ["a", "b"]):
        schema = infer(raw, columns={"series": given, "time": "t"})
        assert schema.columns == {"series": ["a", "b"], "time": "t"}
        assert schema.why == "series: as named: a, b."
    assert infer(raw, columns=schema.columns).columns == schema.columns
    with pytest.raises(DataError, match="no column 'c' to be the series"):
        infer(raw, columns={"series": "a+c"})
    with pytest.raises(DataError, match="must be number"):
        infer(raw, columns={"series": "note"})
    with pytest.raises(DataError, match="no column 'when' to be the time"):
        infer(raw, columns={"series": "a", "time": "when"})
    with pytest.raises(DataError, match="'label' does not go with series"):
        infer(raw, columns={"series": "a", "label": "b"})


def test_times_have_to_rise():
    raw = table(date=[*DATES[:50], *DATES[48:98]], a=VALUES[:, 0].tolist())
    with pytest.raises(DataError, match="do not rise: row 50 is not later"):
        series_of(raw, infer(raw), Log())
    log = Log()
    late = table(date=[*DATES[:99], "2025-01-01 00:00:00"], a=VALUES[:, 0].tolist())
    series_of(late, infer(late), log)
    assert "1 of 99 steps of date are longer or shorter than usual" in log.lines()[0]


def test_a_file_without_a_header_is_noticed():
    raw = table(**{"0.785": VALUES[:, 0].tolist(), "1.611": VALUES[:, 1].tolist()})
    with pytest.raises(DataError, match="seems to begin with its values"):
        series_of(raw, infer(raw), Log())


def test_a_gap_in_a_table_is_refused():
    raw = table(date=DATES, a=[None if i == 3 else float(v) for i, v in enumerate(VALUES[:, 0])])
    with pytest.raises(DataError, match="the first is row 3"):
        series_of(raw, infer(raw), Log())


def test_dates_are_read_in_the_usual_ways():
    for texts in (["2024-01-31", "2024-02-01"], ["31 Jan 2024", "1 Feb 2024"], ["2024-01-31T10:00:00Z"]):
        assert times(Dataset.from_dict({"d": texts}).data.column("d")) is not None
    for other in (["a 12 b"], ["one", "two"], [None, "2024-01-01"]):
        assert times(Dataset.from_dict({"d": other}).data.column("d")) is None


# --- registered sets -------------------------------------------------------------------------------------------


def test_the_published_months_of_ett(tmp_path):
    with gzip.open(tmp_path / "e.csv.gz", "wt") as file:
        file.write("date,HUFL,OT\n" + "".join(f"2016-07-01 00:00:00,{i},{-i}\n" for i in range(14_500)))
    found = transformer_temperature(tmp_path / "e.csv.gz")
    assert (len(found), found.names) == (14_500, ("HUFL", "OT"))
    assert [found.span(p) for p in ("train", "dev", "test")] == [(0, 8640), (8640, 11520), (11520, 14400)]


def test_exchange_rates_have_no_header(tmp_path):
    (tmp_path / "x.csv").write_text("".join(",".join(f"{i}.5" for _ in range(8)) + "\n" for i in range(50)))
    found = exchange_rates(tmp_path / "x.csv")
    assert found.values.shape == (50, 8)
    assert found.names[5] == "Japan"
