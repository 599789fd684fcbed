"""What staging needs a library for; the rest of the stage is models."""

import dagster as dg

from dagster_project.assets.specs import Manifest, source_specs
from dagster_project.domain.phones import write_phone_numbers
from dagster_project.settings import Settings
from dagster_project.stages import LANDING, STAGING
from dagster_project.warehouse import Warehouse


def phone_assets(settings: Settings, warehouse: Warehouse, manifest: Manifest) -> dg.AssetsDefinition:
    """``staging.phone_numbers``: one row per distinct number as delivered, with its E.164 form."""
    specs = source_specs(manifest, STAGING, deps=[dg.AssetKey([LANDING, "files"])])

    @dg.multi_asset(name="phone_numbers", specs=specs, pool="warehouse")
    def phone_numbers(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        with warehouse.session(STAGING) as connection:
            count = write_phone_numbers(connection, settings.default_country)
        return dg.MaterializeResult(asset_key=[STAGING, "phone_numbers"], metadata={"dagster/row_count": count})

    return phone_numbers
