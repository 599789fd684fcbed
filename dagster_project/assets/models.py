"""A stage of dbt models as one step of the run: one op a stage, for a gate stops only what lies in another op."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from dagster_project import transform
from dagster_project.assets.specs import Manifest
from dagster_project.domain.audiences import Audience
from dagster_project.mishaps import explain_mishap
from dagster_project.settings import Settings
from dagster_project.warehouse import Warehouse

# Source tests would run as checks before their gate, and un-gate it in silence; the raw SQL is a click away in dbt.
_CHECKS = DagsterDbtTranslatorSettings(enable_asset_checks=True, enable_source_tests_as_checks=False)


class _Translator(DagsterDbtTranslator):
    """Shows what an audience says about itself on its asset."""

    def __init__(self, audiences: Mapping[str, Audience]) -> None:
        super().__init__(_CHECKS)
        self._audiences = audiences

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        metadata = dict(super().get_metadata(dbt_resource_props))
        if audience := self._audiences.get(dbt_resource_props["name"]):
            metadata |= {
                f"audience/{key}": ", ".join(value) if isinstance(value, tuple) else str(value)
                for key, value in audience.model_dump().items()
                if value not in (None, ())
            }
        return metadata


class PromiseBroken(Exception):
    """A model could not be built, or a promise of one (a dbt test) does not hold; the message says which."""


def _row_counts(warehouse: Warehouse, stage: str, names: list[str]) -> dict[str, int]:
    if not names:
        return {}
    query = " union all ".join(f"select '{name}', count(*) from {stage}.{name}" for name in names)
    with warehouse.session(f"{stage} counts") as connection:
        return dict(connection.execute(query).fetchall())


def model_assets(
    stage: str,
    settings: Settings,
    warehouse: Warehouse,
    manifest: Manifest,
    audiences: Mapping[str, Audience] | None = None,
) -> dg.AssetsDefinition:
    """The models in ``dbt/models/<stage>``, built in dbt's order; each with its rows and seconds, each test a check.

    ``audiences`` are those among them, by name.
    """
    translator = _Translator(audiences or {})

    @dbt_assets(
        manifest=manifest,
        select=f"fqn:cocanal.{stage}",
        name=stage if stage != "staging" else "staging_models",
        dagster_dbt_translator=translator,
        pool="warehouse",
    )
    def build_models(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        results = list(transform.build(settings, stage, warehouse))
        nodes = manifest["nodes"]
        built = [
            nodes[result.unique_id]["name"]
            for result in results
            if result.unique_id.startswith("model.") and result.status == "success"
        ]
        counts = _row_counts(warehouse, stage, built)
        for result in results:
            if result.status == "error" and explain_mishap(result.message, settings):
                raise transform.TransformError(result.message)
        broken = []
        for result in results:
            node = nodes[result.unique_id]
            key = dg.AssetKey([stage, node["name"]])
            if node["resource_type"] == "model" and result.status == "success":
                if key not in context.selected_asset_keys:
                    continue  # a stage is built whole, but a person may have asked Dagster for a part of it
                yield dg.MaterializeResult(
                    asset_key=key,
                    metadata={
                        "dagster/row_count": counts[node["name"]],
                        "seconds": dg.MetadataValue.float(round(result.seconds, 2)),
                    },
                )
            elif node["resource_type"] == "model":
                broken.append(f"{stage}.{node['name']} was not built ({result.status})")
                context.log.error(f"{stage}.{node['name']}: {result.status}. {result.message}")
        for result in results:
            node = nodes[result.unique_id]
            if node["resource_type"] != "test" or result.status == "skipped":
                continue
            check = get_asset_check_key_for_test(manifest, translator, result.unique_id, None)
            is_passed = result.status in ("pass", "warn")
            if check is not None and check in context.selected_asset_check_keys:
                yield dg.AssetCheckResult(
                    passed=result.status == "pass",
                    asset_key=check.asset_key,
                    check_name=check.name,
                    severity=dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR,
                    metadata={"rows that fail": result.failure_count},
                )
            if not is_passed:
                broken.append(f"the test {node['name']} of {stage} failed for {result.failure_count} rows")
        if broken:
            raise PromiseBroken(f"{'; '.join(broken)}. Look at the model's description and the newest change to it.")

    return build_models
