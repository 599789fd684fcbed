"""A suite becomes a gate: one blocking check in Dagster, judged by Great Expectations, kept in the warehouse.

Each statement's SQL yields a small frame of measures; Great Expectations judges that frame, so that a gate costs the
same whatever the history, holds no lock and never sees a row of a person. Not for what is judged: the suites.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd

from dagster_project.domain.sql_literal import literal
from dagster_project.quality.statements import Judgement, Statement, Suite
from dagster_project.warehouse import Warehouse

_MOST_SCOPES_SHOWN = 10


def _measures(connection: duckdb.DuckDBPyConnection, suite: Suite) -> pd.DataFrame:
    """One row per measure, one column per statement; a measure is null in the columns of the other statements."""
    frames = []
    for statement in suite.statements:
        rows = connection.execute(statement.measure).fetchall()
        frames.append(
            pd.DataFrame(
                {
                    "scope": [str(scope) for scope, _ in rows],
                    statement.name: [None if value is None else float(value) for _, value in rows],
                }
            ).astype({statement.name: "float64"})
        )
    return pd.concat(frames, ignore_index=True)


def _expectation_results(measures: pd.DataFrame, suite: Suite) -> dict[str, bool]:
    """Whether each statement holds, by Great Expectations; imported here, for it takes seconds to load."""
    import great_expectations as gx
    from great_expectations import expectations as gxe
    from great_expectations.expectations.metadata_types import FailureSeverity

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    batch = (
        context.data_sources.add_pandas("gate")
        .add_dataframe_asset(suite.stage)
        .add_batch_definition_whole_dataframe("measures")
        .get_batch({"dataframe": measures})
    )
    expectations = gx.ExpectationSuite(
        name=suite.stage,
        expectations=[
            gxe.ExpectColumnValuesToBeBetween(
                column=statement.name,
                min_value=statement.least,
                max_value=statement.most,
                severity=FailureSeverity.CRITICAL if statement.severity == "stop" else FailureSeverity.WARNING,
            )
            for statement in suite.statements
        ],
    )
    validation = batch.validate(expectations)
    results = {}
    for result in validation.results:
        assert result.expectation_config is not None
        if result.exception_info and result.exception_info.get("raised_exception"):
            raise RuntimeError(f"the gate {suite.stage} could not judge {result.expectation_config.kwargs['column']}")
        results[result.expectation_config.kwargs["column"]] = bool(result.success)
    return results


def _furthest_out(observed: pd.Series, statement: Statement) -> float | None:
    if observed.empty:
        return None
    if statement.most is not None and (statement.least is None or observed.max() > statement.most):
        return float(observed.max())
    return float(observed.min())


def judge(connection: duckdb.DuckDBPyConnection, suite: Suite, accepted: Mapping[str, str]) -> list[Judgement]:
    """Judge every statement of a suite; ``accepted`` maps a gate, or ``gate.statement``, to the reason to let it pass.

    A statement that measures nothing (a feed that is absent, a first night without a history) holds.
    """
    measures = _measures(connection, suite)
    holds = _expectation_results(measures, suite)
    judgements = []
    for statement in suite.statements:
        own = measures[["scope", statement.name]].dropna()
        out = pd.Series(False, index=own.index)
        if statement.least is not None:
            out |= own[statement.name] < statement.least
        if statement.most is not None:
            out |= own[statement.name] > statement.most
        is_passed = holds[statement.name]
        because = None
        if not is_passed and statement.severity == "stop" and statement.is_acceptable:
            because = accepted.get(f"{suite.stage}.{statement.name}", accepted.get(suite.stage))
        judgements.append(
            Judgement(
                stage=suite.stage,
                statement=statement,
                is_passed=is_passed,
                observed=_furthest_out(own[statement.name], statement),
                failed_scopes=tuple(sorted(own["scope"][out])[:_MOST_SCOPES_SHOWN]),
                scope_count=len(own),
                because=because,
            )
        )
    return judgements


def keep(connection: duckdb.DuckDBPyConnection, stage: str, judgements: list[Judgement]) -> None:
    """Write the judgements to ``release.gate_results``, in place of what the gate said before in this build."""
    connection.execute("delete from release.gate_results where gate = $1", [stage])
    for judgement in judgements:
        connection.execute(
            "insert into release.gate_results values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            [
                stage,
                judgement.statement.name,
                judgement.statement.severity,
                judgement.statement.expected,
                judgement.observed,
                ", ".join(judgement.failed_scopes),
                judgement.is_passed,
                judgement.because,
                judgement.sentence,
            ],
        )


def create_results_table(connection: duckdb.DuckDBPyConnection) -> None:
    """Create ``release.gate_results`` empty, at the start of a build: one row per gate and statement."""
    connection.execute(
        """
        create or replace table release.gate_results (
            gate varchar, statement varchar, severity varchar, expected varchar, observed double,
            failed_scopes varchar, is_passed boolean, accepted_because varchar, sentence varchar
        )
        """
    )


def accepted_gates(connection: duckdb.DuckDBPyConnection) -> dict[str, str]:
    """The gates that the engineer let pass in this run, with the reason given."""
    return dict(connection.execute("select gate, because from landing.accepted_gates").fetchall())


def _table(judgements: list[Judgement]) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        records=[
            dg.TableRecord(
                {
                    "statement": judgement.statement.name,
                    "held": "yes" if judgement.is_passed else ("accepted" if judgement.because else "no"),
                    "observed": "" if judgement.observed is None else f"{judgement.observed:g}",
                    "expected": judgement.statement.expected,
                    "judged": judgement.scope_count,
                    "failed": ", ".join(judgement.failed_scopes),
                }
            )
            for judgement in judgements
        ],
        schema=dg.TableSchema(
            columns=[
                dg.TableColumn("statement", "string"),
                dg.TableColumn("held", "string"),
                dg.TableColumn("observed", "string"),
                dg.TableColumn("expected", "string"),
                dg.TableColumn("judged", "int"),
                dg.TableColumn("failed", "string"),
            ]
        ),
    )


def _result(
    name: str, suite: Suite, judgements: list[Judgement], severity: dg.AssetCheckSeverity
) -> dg.AssetCheckResult:
    broken = [judgement for judgement in judgements if not judgement.is_passed and not judgement.because]
    metadata: dict[str, dg.MetadataValue] = {"statements": _table(judgements)}
    for judgement in judgements:
        if judgement.observed is not None:
            metadata[judgement.statement.name] = dg.MetadataValue.float(judgement.observed)
        if judgement.because:
            metadata[f"{judgement.statement.name} accepted"] = dg.MetadataValue.text(judgement.because)
    return dg.AssetCheckResult(
        passed=not broken,
        asset_key=dg.AssetKey(suite.asset.split(".")),
        check_name=name,
        severity=severity,
        metadata=metadata,
        description="\n".join(judgement.sentence for judgement in broken) or "Every statement held.",
    )


def gate_check(
    suite_of: Callable[[], Suite],
    warehouse: Warehouse,
    *,
    previous: Callable[[], Path | None],
    also_waits_for: tuple[str, ...] = (),
    prepare: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
) -> dg.AssetChecksDefinition:
    """The gate of a stage as two checks on its last table: ``<stage>_gate`` blocks, ``<stage>_watch`` warns.

    ``previous`` names the last release's database, which statements see as ``previous``; ``prepare`` reads files again
    into tables that statements measure. What the gate found is also kept in ``release.gate_results``, for the release
    to see that every gate has passed.
    """
    shape = suite_of()
    asset = dg.AssetKey(shape.asset.split("."))
    gate, watch = f"{shape.stage}_gate", f"{shape.stage}_watch"
    waits = [dg.AssetKey(name.split(".")) for name in also_waits_for]

    @dg.multi_asset_check(
        name=f"{shape.stage}_gate",
        specs=[
            dg.AssetCheckSpec(
                gate,
                asset=asset,
                blocking=True,
                additional_deps=waits,
                description=f"Stops the run unless: {'; '.join(_words(shape, 'stop'))}.",
            ),
            dg.AssetCheckSpec(
                watch,
                asset=asset,
                additional_deps=waits,
                description=f"Warns unless: {'; '.join(_words(shape, 'warn')) or 'nothing is watched'}.",
            ),
        ],
        pool="warehouse",
    )
    def judge_seam(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        began = datetime.now(UTC)
        with warehouse.session(f"{shape.stage} gate") as connection:
            if (database := previous()) is not None:
                connection.execute(f"attach {literal(database)} as previous (read_only)")
            if prepare is not None:
                prepare(connection)
            judgements = judge(connection, suite_of(), accepted_gates(connection))
            keep(connection, shape.stage, judgements)
        for judgement in judgements:
            if not judgement.is_passed:
                say = context.log.error if judgement.is_stopping else context.log.warning
                say(judgement.sentence + (f" Accepted: {judgement.because}" if judgement.because else ""))
        context.log.info(
            json.dumps({"gate": shape.stage, "seconds": round((datetime.now(UTC) - began).total_seconds(), 1)})
        )
        stops = [judgement for judgement in judgements if judgement.statement.severity == "stop"]
        warns = [judgement for judgement in judgements if judgement.statement.severity == "warn"]
        yield _result(gate, shape, stops, dg.AssetCheckSeverity.ERROR)
        yield _result(watch, shape, warns, dg.AssetCheckSeverity.WARN)

    return judge_seam


def _words(suite: Suite, severity: str) -> list[str]:
    return [s.name.replace("_", " ") for s in suite.statements if s.severity == severity]
