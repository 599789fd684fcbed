"""What staging needs a library for; the rest of the stage is models."""

from collections.abc import Iterator

import dagster as dg

from dagster_project.assets.specs import Manifest, Stopwatch, source_specs
from dagster_project.domain.countries import write_country_names
from dagster_project.domain.phones import write_phone_numbers
from dagster_project.domain.places import write_postal_places
from dagster_project.settings import Settings
from dagster_project.stages import LANDING, STAGING
from dagster_project.warehouse import Warehouse


def dictionary_assets(settings: Settings, warehouse: Warehouse, manifest: Manifest) -> dg.AssetsDefinition:
    """``staging.phone_numbers``, ``country_names`` and ``postal_places``: what a delivered value stands for."""
    specs = source_specs(manifest, STAGING, deps=[dg.AssetKey([LANDING, "files"])])

    @dg.multi_asset(name="dictionaries", specs=specs, pool="warehouse")
    def dictionaries(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult]:
        watch = Stopwatch()
        with warehouse.session(STAGING) as connection:
            phones = write_phone_numbers(connection, settings.default_country)
            countries = write_country_names(connection)
            places = write_postal_places(connection)
        yield dg.MaterializeResult(
            asset_key=[STAGING, "phone_numbers"], metadata={"dagster/row_count": phones, **watch.seconds}
        )
        yield dg.MaterializeResult(asset_key=[STAGING, "country_names"], metadata={"dagster/row_count": countries})
        yield dg.MaterializeResult(asset_key=[STAGING, "postal_places"], metadata={"dagster/row_count": places})

    return dictionaries
