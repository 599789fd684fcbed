"""How far the segments have moved since the last release. Not for the segments themselves: those are models."""

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from dagster_project.domain.sql_literal import literal

# A share of nothing would make the index infinite; half a permille is below what a segment is ever judged by.
_LEAST_SHARE = 0.0005
_SHARES = """
    select scheme, segment, count(*) / sum(count(*)) over (partition by scheme) as share
    from {source}.account_segments
    group by scheme, segment
"""


def measure_drift(now: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """One row per scheme and segment: its share now and before, and its part of the population stability index.

    Both frames hold one row per scheme and segment with ``share`` (0 to 1). The index of a scheme is the sum of
    ``(now - before) * ln(now / before)``; below 0.1 is usually read as stable, above 0.25 as a significant shift
    (Siddiqi, Credit Risk Scorecards, 2006). A scheme that was not there before has no drift.
    """
    both = now.merge(before, on=["scheme", "segment"], how="outer", suffixes=("", "_before"))
    both = both[both["scheme"].isin(set(now["scheme"]) & set(before["scheme"]))]
    both = both.fillna({"share": 0.0, "share_before": 0.0})
    here = both["share"].clip(lower=_LEAST_SHARE)
    there = both["share_before"].clip(lower=_LEAST_SHARE)
    both["index_part"] = (here - there) * np.log(here / there)
    return both.sort_values(["scheme", "segment"])[["scheme", "segment", "share", "share_before", "index_part"]]


def write_drift(connection: duckdb.DuckDBPyConnection, previous: Path | None) -> int:
    """Write ``segment.drift`` against the last release's database; returns its rows. Frames are a few dozen rows."""
    now = connection.execute(_SHARES.format(source="segment")).df()
    before = now.iloc[:0]
    if previous is not None:
        connection.execute(f"attach {literal(previous)} as last_release (read_only)")
        try:
            before = connection.execute(_SHARES.format(source="last_release.segment")).df()
        finally:
            connection.execute("detach last_release")
    drift = measure_drift(now, before)
    connection.execute(
        """
        create or replace table segment.drift as
        select
            scheme::varchar as scheme, segment::varchar as segment, share::double as share,
            share_before::double as share_before, index_part::double as index_part
        from drift
        """
    )
    return len(drift)
