"""Release: built aside, read again by its gate, and published by moving one pointer."""

import importlib.metadata
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import duckdb

from dagster_project.assets.specs import Manifest, Stopwatch, model_keys, source_specs
from dagster_project.domain import release
from dagster_project.domain.landing.deliveries import add_to_released
from dagster_project.domain.report import write_report
from dagster_project.quality.gate import accepted_gates
from dagster_project.run_lock import release_run_lock
from dagster_project.settings import Settings
from dagster_project.stages import ACTIVATION, IDENTITY, LANDING, OWNERS, RELEASE, SEGMENT, STAGES
from dagster_project.warehouse import Warehouse

CURRENT_KEY = dg.AssetKey([RELEASE, "current"])
_GATES = """
    select gate, statement, severity, expected, observed, failed_scopes, is_passed, accepted_because
    from release.gate_results
    where $gate is null or gate = $gate
"""


def _gate_results(connection: duckdb.DuckDBPyConnection, gate: str | None = None) -> list[dict]:
    cursor = connection.execute(_GATES, {"gate": gate})
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def release_assets(settings: Settings, warehouse: Warehouse, manifest: Manifest) -> list[dg.AssetsDefinition]:
    """``release.info`` (the release, whole, aside) and ``release.current`` (the pointer)."""
    every_stage = [
        *(spec.key for stage in (LANDING, IDENTITY, ACTIVATION, SEGMENT) for spec in source_specs(manifest, stage)),
        *(key for stage in STAGES for key in model_keys(manifest, stage)),
    ]
    specs = source_specs(manifest, RELEASE, deps=every_stage)

    @dg.multi_asset(name=RELEASE, specs=specs, pool="warehouse")
    def build_release(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        watch = Stopwatch()
        with warehouse.session(RELEASE) as connection:
            ((build_id, as_of, previous_id, fingerprint),) = connection.execute(
                "select build_id, as_of, previous_release_id, fingerprint from landing.builds"
            ).fetchall()
            directory = release.building_directory(settings.home, build_id)
            plan = release.ReleasePlan(
                release_id=build_id,
                as_of=as_of,
                built_at=datetime.now(UTC),
                previous_release_id=previous_id,
                tables=release.published_tables(manifest),
            )
            row_counts = release.build(connection, directory, plan)
            write_report(connection, directory, currency=settings.currency)
            record = release.RunRecord(
                run_id=context.run_id,
                cocanal_version=importlib.metadata.version("cocanal"),
                fingerprint=fingerprint,
                gates=_gate_results(connection),
                accepted_gates=accepted_gates(connection),
            )
            release.write_manifest(connection, directory, plan, record, row_counts)
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        yield dg.MaterializeResult(
            asset_key=[RELEASE, "info"],
            metadata={
                "dagster/row_count": 1,
                "release": build_id,
                "tables": len(row_counts),
                "rows": sum(row_counts.values()),
                **watch.seconds,
                "MiB": dg.MetadataValue.float(round(size / 2**20, 1)),
            },
        )
        yield dg.MaterializeResult(
            asset_key=[RELEASE, "gate_results"], metadata={"dagster/row_count": len(record.gates)}
        )

    @dg.asset(
        key=CURRENT_KEY,
        deps=[dg.AssetKey([RELEASE, "info"])],
        group_name=RELEASE,
        owners=[OWNERS[RELEASE]],
        kinds={"python"},
        description="The pointer that analysts and audience consumers follow; it moves last and at once.",
        pool="warehouse",
    )
    def current(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with warehouse.session("pointer") as connection:
            ((build_id,),) = connection.execute("select build_id from landing.builds").fetchall()
            release.add_gate_results(
                release.building_directory(settings.home, build_id), _gate_results(connection, RELEASE)
            )
        published = release.promote(settings.home, build_id)
        release.remember_release(settings.published_mark, build_id)
        add_to_released(settings.released_files, release.input_files([published.directory]))
        removed = release.prune(settings.home, settings.keep_releases)
        release_run_lock(settings.lock)
        return dg.MaterializeResult(
            metadata={
                "release": build_id,
                "folder": dg.MetadataValue.path(published.directory),
                "report": dg.MetadataValue.path(published.directory / "report" / "index.html"),
                "releases removed": ", ".join(removed),
            }
        )

    return [build_release, current]
