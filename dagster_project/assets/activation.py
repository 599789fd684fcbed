"""Activation: a file per audience and destination, and the ledger of which identifier went where."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.assets.specs import Manifest, Stopwatch, model_keys, source_specs
from dagster_project.domain import release
from dagster_project.domain.activation import sent_among, write_files, write_ledger
from dagster_project.domain.privacy import removals
from dagster_project.settings import Settings
from dagster_project.stages import ACCOUNT, ACTIVATION, AUDIENCE
from dagster_project.warehouse import Warehouse


def activation_assets(settings: Settings, warehouse: Warehouse, manifest: Manifest) -> dg.AssetsDefinition:
    """``activation.file_rows`` and ``activation.ledger``; the files lie in the release that is being built."""
    deps = [*model_keys(manifest, AUDIENCE), dg.AssetKey([ACCOUNT, "golden_records"])]
    specs = source_specs(manifest, ACTIVATION, deps=deps)

    @dg.multi_asset(name=ACTIVATION, specs=specs, pool="warehouse")
    def activation(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        watch = Stopwatch()
        newest = next(reversed(release.list_releases(settings.home)), None)
        with warehouse.session(ACTIVATION) as connection:
            ((build_id, as_of),) = connection.execute("select build_id, as_of from landing.builds").fetchall()
            files = write_files(connection, release.building_directory(settings.home, build_id) / "audiences")
            known = removals.read_removals(settings.privacy / removals.REMOVALS)
            removed = removals.write_files(
                removals.due_removals(
                    known,
                    sent_among(connection, [each.identifier_hash for each in known]),
                    as_of=as_of,
                    days=settings.removal_days,
                ),
                release.building_directory(settings.home, build_id) / "removals",
            )
            ledger_rows = write_ledger(
                connection,
                release_id=build_id,
                previous_release_id=newest.release_id if newest else None,
                previous_database=newest.directory / release.DATABASES["restricted"] if newest else None,
            )
        sizes = {str(file.path): file.row_count for file in files}
        yield dg.MaterializeResult(
            asset_key=[ACTIVATION, "file_rows"], metadata={"dagster/row_count": sum(sizes.values()), **sizes}
        )
        yield dg.MaterializeResult(
            asset_key=[ACTIVATION, "ledger"],
            metadata={
                "dagster/row_count": ledger_rows,
                **watch.seconds,
                **{f"to be forgotten by {destination}": count for destination, count in removed.items()},
            },
        )

    return activation
