"""Identity: who is who, over the staged people, orders and tickets."""

from collections.abc import Iterator
from dataclasses import asdict

import dagster as dg

from dagster_project.assets.specs import Manifest, Stopwatch, model_keys, source_specs
from dagster_project.domain import release
from dagster_project.domain.identity import read_model, resolve
from dagster_project.settings import Settings
from dagster_project.stages import IDENTITY, STAGING
from dagster_project.warehouse import Warehouse


def identity_assets(settings: Settings, warehouse: Warehouse, manifest: Manifest) -> dg.AssetsDefinition:
    """Every table of the schema ``identity``, in one step."""
    specs = source_specs(manifest, IDENTITY, deps=model_keys(manifest, STAGING))

    @dg.multi_asset(name=IDENTITY, specs=specs, pool="warehouse")
    def identity(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        watch = Stopwatch()
        current = release.current_release(settings.home)
        previous = current.directory / release.DATABASES["analysts"] if current else None
        with warehouse.session(IDENTITY) as connection:
            ((as_of, build_id),) = connection.execute("select as_of, build_id from landing.builds").fetchall()
            model = read_model(settings.identity_model)
            summary = resolve(
                connection,
                as_of=as_of,
                run_id=build_id,
                previous=previous,
                model=model,
                announce=lambda step: context.log.info(f"identity: {step}"),
            )
            counts = {
                spec.key: connection.execute(f"select count(*) from {'.'.join(spec.key.path)}").fetchall()[0][0]
                for spec in specs
            }
        for key, count in counts.items():
            found = asdict(summary) if key.path[-1] == "account_links" else {}
            seconds = watch.seconds if found else {}
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    "dagster/row_count": count,
                    **seconds,
                    **{
                        name.replace("_", " "): value for name, value in found.items() if isinstance(value, int | float)
                    },
                },
            )

    return identity
