"""Drift is the population stability index of each scheme's shares."""

import math

import pandas as pd
import pytest

from dagster_project.domain.drift import measure_drift


def shares(**segments: float) -> pd.DataFrame:
    return pd.DataFrame([{"scheme": "rfm", "segment": name, "share": share} for name, share in segments.items()])


def test_nothing_moved_is_an_index_of_zero() -> None:
    drift = measure_drift(shares(a=0.4, b=0.6), shares(a=0.4, b=0.6))
    assert drift["index_part"].tolist() == [0, 0]


def test_the_index_is_the_sum_over_the_segments() -> None:
    drift = measure_drift(shares(a=0.5, b=0.5), shares(a=0.25, b=0.75))
    expected = 0.25 * math.log(2) - 0.25 * math.log(0.5 / 0.75)
    assert drift["index_part"].sum() == pytest.approx(expected)
    assert (drift["index_part"] >= 0).all()


def test_a_segment_that_appears_or_goes_moves_the_index_by_a_finite_number() -> None:
    drift = measure_drift(shares(a=0.5, new=0.5), shares(a=0.5, gone=0.5))
    assert drift["segment"].tolist() == ["a", "gone", "new"]
    assert drift["index_part"].map(math.isfinite).all()
    assert drift["index_part"].sum() > 1


def test_a_scheme_that_was_not_there_before_has_no_drift() -> None:
    assert measure_drift(shares(a=1.0), shares(a=1.0).iloc[:0]).empty
