"""How good a clustering is, against records of which the person is known.

``evaluate`` compares any table of feed, record_id and account_id with any table of feed, record_id and person_id;
``evaluate_release`` does it for a release and two files. What belongs here: measures and how sure they are. What does
not: a judgement of them (a gate's), and how they are shown.

Every count of pairs comes from contingency tables: n records of one person in one account are n (n - 1) / 2 pairs. So
the cost is linear in the records, but for the pairs of a household that share an account, which are few.

A truth that labels a part of the records should label *whole persons*: pairs of which one record has no label are not
counted, and a person of whom half the records are labelled makes recall look better than it is.

**How sure the measures are.** 95 % intervals from a cluster bootstrap: persons (households, for the households) are
drawn anew with replacement, all their records with them, for errors come by person and not by record. For that a
measure is written as a ratio of sums over persons, a pair of two persons' records counting half for each (Binette et
al., «Estimating the Performance of Entity Resolution Algorithms: Lessons Learned Through PatentsView.org», The American
Statistician 77, 2023; Field and Welsh, «Bootstrapping clustered data», JRSS B 69, 2007). Persons with the same sums are
drawn together by one multinomial, which is the same and costs nothing. The interval is that of the percentiles, widened
to the measure itself where skewness pushed it off. Where no resample differs (a measure of exactly 0 or 1, or a single
person) it is Wilson's (JASA 22, 1927) on the number of persons that bear on the measure. The seed is fixed: the same
tables give the same figures.

B-cubed: Bagga and Baldwin, «Entity-based cross-document coreferencing using the vector space model», COLING 1998.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from dagster_project.domain.sql_literal import literal

PEOPLE_FEEDS = ("shop_customers", "loyalty_members")
TRANSACTION_CHANNELS = {"shop_orders": "online", "pos_tickets": "store"}
RESAMPLES = 200

_SEED = 20200710
_Z = 1.959963984540054
_Floats = npt.NDArray[np.float64]
_Formula = Callable[[_Floats], _Floats]


class EvaluationError(Exception):
    """The truth cannot be compared with the accounts; the message is a sentence for the person who asked."""


@dataclass(frozen=True)
class Estimate:
    """A measure from 0 to 1 with its 95 % interval; all None where there is nothing to measure."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Pairs:
    """Pairs of records: in one account and of one person (true positives), only in one account, only of one person."""

    true_positives: int
    false_positives: int
    false_negatives: int
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class Clustering:
    """One set of labelled records: its sizes, its pairs, and B-cubed. Of an account only labelled records count."""

    records: int
    persons: int
    accounts: int
    largest_account: int
    largest_person: int
    pairs: Pairs
    bcubed_precision: Estimate
    bcubed_recall: Estimate
    bcubed_f1: Estimate


@dataclass(frozen=True)
class Overmerge:
    """Pairs of different people of one household, both with people records, and those of them that share an account."""

    households: int
    pairs: int
    merged: int
    merged_share: Estimate


@dataclass(frozen=True)
class Attribution:
    """Labelled transactions on the account of the key's owner or the buyer, on another's, and on none."""

    transactions: int
    right: int
    wrong: int
    none: int
    right_share: Estimate
    wrong_share: Estimate
    none_share: Estimate


@dataclass(frozen=True)
class Scenario:
    """Records of people with one scenario, the pairs in which at least one has it, and its transactions."""

    records: int
    pairs: Pairs | None
    attribution: Attribution | None


@dataclass(frozen=True)
class Evaluation:
    """All measures of one clustering.

    ``missing_records`` and ``missing_transactions`` are labelled but not among what is evaluated: refused, or not yet
    delivered. They are in no measure. ``people`` is of the people records alone (web accounts and cards),
    ``all_records`` of guest orders and whatever else founds an account too.
    """

    labelled_records: int
    missing_records: int
    missing_transactions: int
    people: Clustering | None
    all_records: Clustering | None
    households: Overmerge | None
    attribution: Attribution | None
    attribution_by_channel: Mapping[str, Attribution]
    attribution_by_rule: Mapping[str, Attribution]
    scenarios: Mapping[str, Scenario]


def evaluate_release(
    connection: duckdb.DuckDBPyConnection, database: Path, truth: Path, transactions: Path | None = None
) -> Evaluation:
    """Evaluate a release's ``cocanal.duckdb``, opened read-only, against a file of truth (CSV or parquet).

    ``truth``: feed, record_id, person_id (or person), optionally household_id (or household) and scenario.
    ``transactions``: feed, record_id, person_id (or person: the buyer), optionally key_owner_person_id. ``connection``
    is on any other database. Raises EvaluationError for a file that cannot be read, lacks a column, contradicts itself
    or labels nothing of the release.
    """
    if not database.is_file():
        raise EvaluationError(f"There is no release in {database.parent}: {database.name} is missing.")
    _read(connection, "evaluation_truth", truth)
    if transactions:
        _read(connection, "evaluation_buyers", transactions)
    try:
        connection.execute(f"attach {literal(database)} as evaluated (read_only)")
    except duckdb.Error:
        raise EvaluationError(f"{database} cannot be opened as a DuckDB database.") from None
    try:
        return _evaluate(
            connection,
            links="evaluated.identity.account_links",
            truth="evaluation_truth",
            transactions="evaluation_buyers" if transactions else None,
            booked="evaluated.account.transactions",
            names={
                "evaluation_truth": truth.name,
                "evaluation_buyers": transactions.name if transactions else "",
                "evaluated.identity.account_links": f"identity.account_links of {database}",
                "evaluated.account.transactions": f"account.transactions of {database}",
            },
        )
    finally:
        connection.execute("detach evaluated")
        connection.execute("drop table if exists evaluation_truth; drop table if exists evaluation_buyers")


def evaluate(
    connection: duckdb.DuckDBPyConnection,
    *,
    links: str,
    truth: str,
    transactions: str | None = None,
    booked: str | None = None,
) -> Evaluation:
    """Evaluate any clustering; each argument is the name of a table or a query.

    ``links``: feed, record_id, account_id (null: alone), optionally rule and is_person_record; without the latter every
    record counts as one of a person. ``truth``: feed, record_id, person_id (or person), optionally household_id (or
    household) and scenario; rows without a person are no labels. ``transactions``, what is true of transactions: feed,
    record_id, person_id (the buyer), optionally key_owner_person_id. ``booked``, where transactions went: feed,
    record_id, account_id (null: anonymous), channel, rule; without it orders and tickets are looked up in ``links``,
    and those that are not there are anonymous (a feed that is not there at all is left out).
    """
    return _evaluate(connection, links=links, truth=truth, transactions=transactions, booked=booked, names={})


def _evaluate(
    connection: duckdb.DuckDBPyConnection,
    *,
    links: str,
    truth: str,
    transactions: str | None,
    booked: str | None,
    names: Mapping[str, str],
) -> Evaluation:
    def named(relation: str) -> str:
        return names.get(relation, "the query" if " " in relation else relation)

    try:
        _write_labels(connection, truth, named(truth))
        _write_buyers(connection, transactions, named(transactions or ""))
        _write_records(connection, links, named(links))
        if booked:
            _write_booked(connection, booked, named(booked))
        else:
            _write_booked_from_links(connection)
        labelled = _count(connection, "select count(*) from evaluation_labels")
        if labelled == 0:
            raise EvaluationError(f"{named(truth)} has no record with feed, record_id and person_id.")
        if not _count(
            connection,
            "select (select count(*) from evaluation_records) + (select count(*) from evaluation_booked)",
        ):
            raise EvaluationError(
                f"None of the {labelled} labelled records of {named(truth)} is in {named(links)}: "
                "are its feeds and record ids those of this home?"
            )
        _write_owners(connection)
        return _measure(connection, labelled)
    finally:
        for table in ("labels", "buyers", "links", "records", "booked", "owners"):
            connection.execute(f"drop table if exists temp.evaluation_{table}")


def _measure(connection: duckdb.DuckDBPyConnection, labelled: int) -> Evaluation:
    transactions, pairs = _attribution(connection, "scenario"), _pairs_by_scenario(connection)
    scenarios = {}
    for name in sorted(transactions.keys() | pairs.keys()):
        records, of_scenario = pairs.get(name, (0, None))
        scenarios[name] = Scenario(records, of_scenario, transactions.get(name))
    return Evaluation(
        labelled_records=labelled,
        missing_records=_count(
            connection,
            f"""
            select count(*) from evaluation_labels anti join evaluation_links using (feed, record_id)
            where feed in {PEOPLE_FEEDS}
            """,
        ),
        missing_transactions=_count(
            connection,
            f"""
            select count(*) from evaluation_labels anti join evaluation_booked using (feed, record_id)
            where feed in {tuple(TRANSACTION_CHANNELS)}
            """,
        ),
        people=_clustering(connection, f"feed in {PEOPLE_FEEDS}"),
        all_records=_clustering(connection, "true"),
        households=_overmerge(connection),
        attribution=_attribution(connection, "'all'").get("all"),
        attribution_by_channel=_attribution(connection, "channel"),
        attribution_by_rule=_attribution(connection, "rule"),
        scenarios=scenarios,
    )


# What is read


def _read(connection: duckdb.DuckDBPyConnection, table: str, path: Path) -> None:
    """A file as a temporary table with one column more: ``truth_line``, 1 for the first row after the header."""
    if not path.is_file():
        raise EvaluationError(f"There is no file {path}.")
    is_parquet = path.suffix.lower() in (".parquet", ".pq")
    reader = (
        f"read_parquet({literal(path)})" if is_parquet else f"read_csv({literal(path)}, header=true, all_varchar=true)"
    )
    try:
        connection.execute(
            f"create or replace temp table {table} as select *, row_number() over () as truth_line from {reader}"
        )
    except duckdb.Error:
        # What DuckDB says about a broken file quotes it.
        raise EvaluationError(f"{path} cannot be read as {'parquet' if is_parquet else 'CSV with a header'}.") from None


def _columns(connection: duckdb.DuckDBPyConnection, relation: str, name: str, wanted: tuple[str, ...]) -> set[str]:
    """The columns of a table or query; ``wanted`` must be there, ``a|b`` meaning one of them."""
    try:
        description = connection.execute(f"select * from {_from(relation)} limit 0").description or []
    except (duckdb.CatalogException, duckdb.BinderException):
        raise EvaluationError(f"There is no table {name}.") from None
    found = {str(column[0]).lower() for column in description}
    for column in wanted:
        if not found & set(column.split("|")):
            raise EvaluationError(f"{name} has no column {column.replace('|', ' (or ')}{')' * column.count('|')}.")
    return found


def _one_of(columns: set[str], *names: str) -> str:
    """The first of the columns that is there, as text without blanks around it; null without any."""
    return next((f"nullif(trim({name}::varchar), '')" for name in names if name in columns), "null::varchar")


def _write_labels(connection: duckdb.DuckDBPyConnection, truth: str, name: str) -> None:
    columns = _columns(connection, truth, name, ("feed", "record_id", "person_id|person"))
    _refuse_contradictions(connection, truth, name, _one_of(columns, "person_id", "person"), "truth_line" in columns)
    connection.execute(
        f"""
        create or replace temp table evaluation_labels as
        with labels as (
            select
                {_one_of(columns, "feed")} as feed,
                {_one_of(columns, "record_id")} as record_id,
                {_one_of(columns, "person_id", "person")} as person,
                {_one_of(columns, "household_id", "household")} as household,
                {_one_of(columns, "scenario")} as scenario
            from {_from(truth)} as truths
        )
        select feed, record_id, min(person) as person, min(household) as household, min(scenario) as scenario
        from labels
        where feed is not null and record_id is not null and person is not null
        group by feed, record_id
        """
    )


def _write_buyers(connection: duckdb.DuckDBPyConnection, transactions: str | None, name: str) -> None:
    if transactions is None:
        connection.execute(
            "create or replace temp table evaluation_buyers "
            "(feed varchar, record_id varchar, buyer varchar, key_owner varchar)"
        )
        return
    columns = _columns(connection, transactions, name, ("feed", "record_id", "person_id|person"))
    _refuse_contradictions(
        connection, transactions, name, _one_of(columns, "person_id", "person"), "truth_line" in columns
    )
    connection.execute(
        f"""
        create or replace temp table evaluation_buyers as
        select
            {_one_of(columns, "feed")} as feed,
            {_one_of(columns, "record_id")} as record_id,
            min({_one_of(columns, "person_id", "person")}) as buyer,
            min({_one_of(columns, "key_owner_person_id")}) as key_owner
        from {_from(transactions)} as truths
        group by 1, 2
        """
    )


def _refuse_contradictions(
    connection: duckdb.DuckDBPyConnection, relation: str, name: str, person: str, has_lines: bool
) -> None:
    line = f"arg_min(truth_line, {person}), arg_max(truth_line, {person})" if has_lines else "0, 0"
    twice = connection.execute(
        f"""
        select feed, {line} from {_from(relation)} as truths
        where nullif(trim(record_id::varchar), '') is not null
        group by feed, trim(record_id::varchar)
        having min({person}) <> max({person})
        order by all
        """
    ).fetchall()
    if twice:
        feed, *lines = twice[0]
        where = f", the first in the rows {min(lines)} and {max(lines)} after the header" if has_lines else ""
        raise EvaluationError(
            f"{name} gives {len(twice)} record(s) to different persons (column person_id): of feed {feed}{where}."
        )


def _write_records(connection: duckdb.DuckDBPyConnection, links: str, name: str) -> None:
    """``evaluation_links``: the labelled links; ``evaluation_records``: those of them that are a person's records."""
    columns = _columns(connection, links, name, ("feed", "record_id", "account_id"))
    is_person_record = "coalesce(is_person_record, false)" if "is_person_record" in columns else "true"
    connection.execute(
        f"""
        create or replace temp table evaluation_links as
        select
            labels.*,
            links.account_id::varchar as account_id,
            {_one_of(columns, "rule")} as rule,
            labels.feed in {PEOPLE_FEEDS} or {is_person_record} as is_person_record
        from {_from(links)} as links
        join evaluation_labels as labels
            on labels.feed = links.feed::varchar and labels.record_id = links.record_id::varchar
        """
    )
    twice = _count(
        connection,
        "select count(*) - count(distinct (feed, record_id)) from evaluation_links",
    )
    if twice:
        raise EvaluationError(f"{name} links {twice} labelled record(s) more than once (column account_id).")
    connection.execute(
        """
        create or replace temp table evaluation_records as
        select
            feed, record_id, person, household, scenario, account_id,
            coalesce('account ' || account_id, 'alone ' || feed || ' ' || record_id) as cluster
        from evaluation_links
        where is_person_record
        """
    )


def _write_booked(connection: duckdb.DuckDBPyConnection, booked: str, name: str) -> None:
    columns = _columns(connection, booked, name, ("feed", "record_id", "account_id", "channel", "rule"))
    connection.execute(
        f"""
        create or replace temp table evaluation_booked as
        select
            labels.*,
            booked.account_id::varchar as account_id,
            coalesce({_one_of(columns, "channel")}, 'unknown') as channel,
            case
                when booked.account_id is null then 'anonymous' else coalesce({_one_of(columns, "rule")}, 'unknown')
            end as rule
        from {_from(booked)} as booked
        join evaluation_labels as labels
            on labels.feed = booked.feed::varchar and labels.record_id = booked.record_id::varchar
        where labels.feed in {tuple(TRANSACTION_CHANNELS)}
        """
    )
    twice = _count(
        connection,
        "select count(*) - count(distinct (feed, record_id)) from evaluation_booked",
    )
    if twice:
        raise EvaluationError(f"{name} has {twice} labelled transaction(s) more than once (column record_id).")


def _write_booked_from_links(connection: duckdb.DuckDBPyConnection) -> None:
    channel = " ".join(f"when '{feed}' then '{word}'" for feed, word in TRANSACTION_CHANNELS.items())
    connection.execute(
        f"""
        create or replace temp table evaluation_booked as
        select
            labels.*,
            links.account_id,
            case labels.feed {channel} end as channel,
            case when links.account_id is null then 'anonymous' else coalesce(links.rule, 'unknown') end as rule
        from evaluation_labels as labels
        left join evaluation_links as links using (feed, record_id)
        where labels.feed in {tuple(TRANSACTION_CHANNELS)}
            and labels.feed in (select feed from evaluation_links)
        """
    )


def _write_owners(connection: duckdb.DuckDBPyConnection) -> None:
    """Whose each account is: most of its people records', or, without any, most of its labelled transactions'."""
    connection.execute(
        f"""
        create or replace temp table evaluation_owners as
        with votes as (
            select account_id, person, 1 as rank from evaluation_records where feed in {PEOPLE_FEEDS}
            union all
            select account_id, person, 2 as rank from evaluation_booked
        ),
        counted as (
            select account_id, person, rank, count(*) as votes
            from votes where account_id is not null group by all
        )
        select account_id, person as owner from counted
        qualify row_number() over (partition by account_id order by rank, votes desc, person) = 1
        """
    )


# What is measured


def _sums_by_person(connection: duckdb.DuckDBPyConnection, where: str, slice_of: str) -> dict[str, tuple[_Floats, Any]]:
    """Per slice of the records, sums per person and how many persons have these sums, persons of equal sums together.

    The sums: records, true positives, false positives, false negatives, B-cubed precision, B-cubed recall. Of pairs
    only those count of which at least one record is in the slice: x of n records make x (n - x) + x (x - 1) / 2.
    """
    found = connection.execute(
        f"""
        with records as (
            select person, cluster, {slice_of} as slice from evaluation_records where {where}
        ),
        cells as (select person, cluster, count(*)::double as n from records group by all),
        clusters as (select cluster, sum(n) as n_cluster from cells group by all),
        persons as (select person, sum(n) as n_person from cells group by all),
        marked as (
            select slice, person, cluster, count(*)::double as x from records where slice is not null group by all
        ),
        touched as (select slice, cluster, sum(x) as x_cluster from marked group by all),
        sliced as (
            select touched.slice, cells.person, n, coalesce(x, 0) as x, n_cluster, x_cluster
            from touched
            join clusters using (cluster)
            join cells using (cluster)
            left join marked
                on marked.slice = touched.slice and marked.person = cells.person and marked.cluster = cells.cluster
        ),
        summed as (
            select
                slice,
                person,
                sum(x) as x_person,
                sum(x * (n - x) + x * (x - 1) / 2) as tp,
                sum(x * (n_cluster - n) + (n - x) * (x_cluster - x)) / 2 as fp,
                sum(x * n / n_cluster) as bcubed_precision,
                sum(x * n) as same
            from sliced
            group by all
        )
        select
            slice,
            x_person,
            tp,
            fp,
            x_person * (n_person - x_person) + x_person * (x_person - 1) / 2 - tp,
            -- The order of a sum of fractions is not fixed; what is grouped must be.
            round(bcubed_precision, 10),
            round(same / n_person, 10),
            count(*)
        from summed join persons using (person)
        group by all
        order by all
        """
    ).fetchall()
    return _by_slice(found)


def _by_slice(found: list[Any]) -> dict[str, tuple[_Floats, Any]]:
    """Rows of slice, sums and count as arrays by slice."""
    slices: dict[str, list[Any]] = {}
    for name, *row in found:
        slices.setdefault(name, []).append(row)
    return {
        name: (np.array([row[:-1] for row in rows], dtype=float), np.array([row[-1] for row in rows], dtype=np.int64))
        for name, rows in slices.items()
    }


def _precision(sums: _Floats) -> _Floats:
    return sums[..., 1] / (sums[..., 1] + sums[..., 2])


def _recall(sums: _Floats) -> _Floats:
    return sums[..., 1] / (sums[..., 1] + sums[..., 3])


def _f1(sums: _Floats) -> _Floats:
    return 2 * sums[..., 1] / (2 * sums[..., 1] + sums[..., 2] + sums[..., 3])


def _bcubed_precision(sums: _Floats) -> _Floats:
    return sums[..., 4] / sums[..., 0]


def _bcubed_recall(sums: _Floats) -> _Floats:
    return sums[..., 5] / sums[..., 0]


def _bcubed_f1(sums: _Floats) -> _Floats:
    precision, recall = _bcubed_precision(sums), _bcubed_recall(sums)
    return 2 * precision * recall / (precision + recall)


def _pairs(sums: _Floats, persons: Any) -> Pairs:
    _, true_positives, false_positives, false_negatives, _, _ = (round(float(total)) for total in persons @ sums)
    precision, recall, f1 = _estimates(sums, persons, (_precision, _recall, _f1))
    return Pairs(true_positives, false_positives, false_negatives, precision, recall, f1)


def _clustering(connection: duckdb.DuckDBPyConnection, where: str) -> Clustering | None:
    found = _sums_by_person(connection, where, "'all'").get("all")
    if found is None:
        return None
    ((records, persons, accounts, largest_account, largest_person),) = connection.execute(
        f"""
        with records as (select person, cluster from evaluation_records where {where}),
        clusters as (select count(*) as n from records group by cluster),
        persons as (select count(*) as n from records group by person)
        select
            (select count(*) from records),
            (select count(*) from persons),
            (select count(*) from clusters),
            (select max(n) from clusters),
            (select max(n) from persons)
        """
    ).fetchall()
    return Clustering(
        records,
        persons,
        accounts,
        largest_account,
        largest_person,
        _pairs(*found),
        *_estimates(*found, (_bcubed_precision, _bcubed_recall, _bcubed_f1)),
    )


def _pairs_by_scenario(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, Pairs]]:
    found = _sums_by_person(connection, "true", "scenario")
    return {
        name: (round(float(persons @ sums[:, 0])), _pairs(sums, persons)) for name, (sums, persons) in found.items()
    }


def _overmerge(connection: duckdb.DuckDBPyConnection) -> Overmerge | None:
    found = connection.execute(
        f"""
        with people as (
            select person, household, cluster from evaluation_records where feed in {PEOPLE_FEEDS}
        ),
        homes as (select distinct person, household from people where household is not null),
        members as (
            select distinct homes.household, person, people.cluster from homes join people using (person)
        ),
        sizes as (select household, count(distinct person) as n from members group by household having n > 1),
        -- The only pairs that are written out: people of one household in one account.
        merged as (
            select household, count(distinct (one.person, other.person)) as pairs
            from members as one
            join members as other using (household, cluster)
            where one.person < other.person
            group by household
        )
        select 'all', n * (n - 1) // 2, coalesce(pairs, 0), count(*)
        from sizes left join merged using (household)
        group by all
        order by all
        """
    ).fetchall()
    if not found:
        return None
    sums, households = _by_slice(found)["all"]
    total = households @ sums
    (share,) = _estimates(sums, households, (lambda drawn: drawn[..., 1] / drawn[..., 0],))
    return Overmerge(int(households.sum()), round(float(total[0])), round(float(total[1])), share)


def _attribution(connection: duckdb.DuckDBPyConnection, slice_of: str) -> dict[str, Attribution]:
    found = connection.execute(
        f"""
        with judged as (
            select
                {slice_of} as slice,
                person,
                case
                    when booked.account_id is null then 'none'
                    when owner in (person, buyer, key_owner) then 'right'
                    else 'wrong'
                end as verdict
            from evaluation_booked as booked
            left join evaluation_owners as owners using (account_id)
            left join evaluation_buyers as buyers using (feed, record_id)
        ),
        summed as (
            select
                slice,
                person,
                count(*) filter (where verdict = 'right') as right_count,
                count(*) filter (where verdict = 'wrong') as wrong_count,
                count(*) filter (where verdict = 'none') as none_count
            from judged
            where slice is not null
            group by all
        )
        select slice, right_count, wrong_count, none_count, count(*) from summed group by all order by all
        """
    ).fetchall()
    shares = tuple(_share_of(column) for column in range(3))
    result = {}
    for name, (sums, persons) in _by_slice(found).items():
        right, wrong, none = (round(float(total)) for total in persons @ sums)
        result[name] = Attribution(right + wrong + none, right, wrong, none, *_estimates(sums, persons, shares))
    return result


def _share_of(column: int) -> _Formula:
    return lambda sums: sums[..., column] / sums.sum(axis=-1)


# How sure it is


def _estimates(sums: _Floats, units: Any, formulas: tuple[_Formula, ...]) -> list[Estimate]:
    """Each formula of the sums over all units, with its interval. Row i of ``sums`` is that of ``units[i]`` units."""
    generator = np.random.default_rng(_SEED)
    count = int(units.sum())
    drawn = np.stack([generator.multinomial(count, units / count) @ sums for _ in range(RESAMPLES)])
    with np.errstate(divide="ignore", invalid="ignore"):
        return [
            _estimate(float(formula(units @ sums)), formula(drawn), int(units[~np.isnan(formula(sums))].sum()))
            for formula in formulas
        ]


def _estimate(value: float, drawn: _Floats, bearing: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, None)
    drawn = drawn[~np.isnan(drawn)]
    if value in (0.0, 1.0) or drawn.size == 0 or drawn.min() == drawn.max():
        low, high = _wilson(value, max(bearing, 1))
    else:
        low, high = np.quantile(drawn, (0.025, 0.975))
    return Estimate(value, min(float(low), value), max(float(high), value))


def _wilson(share: float, count: int) -> tuple[float, float]:
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    reach = _Z / (1 + _Z**2 / count) * (share * (1 - share) / count + _Z**2 / (4 * count**2)) ** 0.5
    return max(0.0, centre - reach), min(1.0, centre + reach)


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    ((count,),) = connection.execute(sql).fetchall()
    return int(count)


def _from(relation: str) -> str:
    return f"({relation})" if " " in relation.strip() else relation
