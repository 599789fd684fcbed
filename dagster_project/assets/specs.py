"""What the assets say of themselves, taken from the dbt YAML, so that a table is described once."""

import time
from collections.abc import Iterable
from typing import Any

import dagster as dg

from dagster_project.stages import OWNERS

Manifest = dict[str, Any]


def _sources(manifest: Manifest, stage: str) -> Iterable[dict[str, Any]]:
    return (node for node in manifest["sources"].values() if node["source_name"] == stage)


class Stopwatch:
    """Seconds since it was made, as the metadata of a materialisation."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def seconds(self) -> dict[str, dg.MetadataValue]:
        return {"seconds": dg.MetadataValue.float(round(time.monotonic() - self._began, 2))}


def column_schema(node: dict[str, Any]) -> dg.TableSchema:
    """The columns of a dbt node as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=column["name"], type=column.get("data_type") or "varchar", description=column["description"]
            )
            for column in node["columns"].values()
        ]
    )


def source_specs(
    manifest: Manifest,
    stage: str,
    *,
    deps: Iterable[dg.AssetKey] = (),
    only: Iterable[str] | None = None,
    is_skippable: bool = False,
) -> list[dg.AssetSpec]:
    """One spec per table that Python writes in ``stage``, as its dbt source describes it; ``only`` names some."""
    wanted = None if only is None else set(only)
    return [
        dg.AssetSpec(
            key=[stage, node["name"]],
            deps=list(deps),
            description=node["description"],
            group_name=stage,
            owners=[OWNERS[stage]],
            kinds={"python", "duckdb"},
            skippable=is_skippable,
            metadata={"dagster/column_schema": column_schema(node), "dagster/table_name": f"{stage}.{node['name']}"},
        )
        for node in _sources(manifest, stage)
        if wanted is None or node["name"] in wanted
    ]


def model_keys(manifest: Manifest, stage: str) -> list[dg.AssetKey]:
    """The asset keys of the dbt models of a stage."""
    return [
        dg.AssetKey([stage, node["name"]])
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["fqn"][1] == stage
    ]
