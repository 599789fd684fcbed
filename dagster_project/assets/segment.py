"""Drift: how far the segments have moved since the last release; the segments are models."""

import dagster as dg

from dagster_project.assets.specs import Manifest, Stopwatch, model_keys, source_specs
from dagster_project.domain import release
from dagster_project.domain.drift import write_drift
from dagster_project.settings import Settings
from dagster_project.stages import SEGMENT
from dagster_project.warehouse import Warehouse


def drift_assets(settings: Settings, warehouse: Warehouse, manifest: Manifest) -> dg.AssetsDefinition:
    """``segment.drift``: one row per scheme and segment."""
    # The gate stands on account_segments and judges the drift too: named as a dependency here, the table would wait for
    # the gate that waits for it. Its neighbours of the same step are named instead.
    gated = dg.AssetKey([SEGMENT, "account_segments"])
    specs = source_specs(manifest, SEGMENT, deps=[key for key in model_keys(manifest, SEGMENT) if key != gated])

    @dg.multi_asset(name="drift", specs=specs, pool="warehouse")
    def drift(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        watch = Stopwatch()
        current = release.current_release(settings.home)
        previous = current.directory / release.DATABASES["analysts"] if current else None
        with warehouse.session("drift") as connection:
            count = write_drift(connection, previous)
        return dg.MaterializeResult(
            asset_key=[SEGMENT, "drift"], metadata={"dagster/row_count": count, **watch.seconds}
        )

    return drift
