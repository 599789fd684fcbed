"""The generated retailer: complete, repeatable, and true to what it says of itself."""

import csv
import gzip
import hashlib
import io
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from dagster_project.demo import DemoPlan, DemoSummary, dirt, generate, handwriting, seasons, spelling
from dagster_project.demo.files import cut_off_on
from dagster_project.domain.contract import feeds

PLAN = DemoPlan(persons=2600, nights=3, seed=7)
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Demo:
    """A generated retailer on disk, and a database with a table of text per feed (parquet and readable CSV rows)."""

    root: Path
    summary: DemoSummary
    con: duckdb.DuckDBPyConnection
    told: tuple[float, ...]

    def one(self, sql: str) -> object:
        ((value,),) = self.con.execute(sql).fetchall()
        return value


def _text_rows(path: Path, encoding: str, delimiter: str) -> list[dict[str, str]]:
    """The rows of a CSV file that have as many fields as its header."""
    packed = path.read_bytes()
    text = (gzip.decompress(packed) if path.suffix == ".gz" else packed).decode(encoding)
    header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    return [dict(zip(header, row, strict=True)) for row in rows if len(row) == len(header)]


def _load(con: duckdb.DuckDBPyConnection, root: Path) -> None:
    for feed in feeds().values():
        names = ", ".join(f"{name} varchar" for name in feed.column_names)
        con.execute(f"create table {feed.name} ({names}, delivered_on date)")
        columns = ", ".join(f"nullif({name}::varchar, '') as {name}" for name in feed.column_names)
        insert = f"insert into {feed.name} by name select {columns}, delivered_on::date as delivered_on"
        texts: list[dict[str, str]] = []
        for path in sorted((root / "landing" / feed.name).glob("*/*")):
            if path.suffix == ".parquet":
                con.execute(
                    f"{insert} from (select *, '{path.parent.name}' as delivered_on from read_parquet('{path}'))"
                )
            elif path.suffix != ".part":
                dialect = ("latin-1", ";") if feed.dialect == "pos" else ("utf-8-sig", ",")
                texts += [row | {"delivered_on": path.parent.name} for row in _text_rows(path, *dialect)]
        wanted = [*feed.column_names, "delivered_on"]
        con.register("texts", pa.table({name: [row[name] for row in texts] for name in wanted}))
        con.execute(f"{insert} from texts")
        con.unregister("texts")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    root = tmp_path_factory.mktemp("demo")
    told: list[float] = []
    summary = generate(root / "landing", root / "truth", PLAN, lambda words, share: told.append(share))
    con = duckdb.connect()
    con.execute("set timezone = 'UTC'")
    _load(con, root)
    for name in ("records", "persons", "transactions", "consents"):
        con.execute(f"create table truth_{name} as select * from read_csv('{root}/truth/{name}.csv', header = true)")
    return Demo(root, summary, con, tuple(told))


def _content(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_same_plan_gives_the_same_bytes(tmp_path: Path) -> None:
    plan = DemoPlan(persons=80, nights=1, seed=3)
    for name in ("first", "second"):
        generate(tmp_path / name / "landing", tmp_path / name / "truth", plan)
    assert _content(tmp_path / "first") == _content(tmp_path / "second")


@pytest.mark.parametrize("feed", list(feeds()))
def test_every_feed_and_every_column_of_the_contract_is_delivered(demo: Demo, feed: str) -> None:
    counts = ", ".join(f"count({name})" for name in feeds()[feed].column_names)
    ((total, *filled),) = demo.con.execute(f"select count(*), {counts} from {feed}").fetchall()
    empty = [name for name, count in zip(feeds()[feed].column_names, filled, strict=True) if count == 0]
    assert total > 0
    assert empty == []


@pytest.mark.parametrize(
    "feed", ["shop_orders", "shop_order_lines", "pos_tickets", "pos_ticket_lines", "shop_refunds", "shop_refund_lines"]
)
def test_a_transactional_feed_has_a_history_of_deliveries_before_the_first_night(demo: Demo, feed: str) -> None:
    before = demo.one(
        f"select count(distinct delivered_on) from {feed} where delivered_on < date '{demo.summary.nights[0]}'"
    )
    assert isinstance(before, int)
    assert before >= 30


def test_the_nights_are_the_last_deliveries(demo: Demo) -> None:
    assert demo.summary.nights == tuple(seasons.nights(3))
    newest = max(path.parent.name for path in (demo.root / "landing").glob("*/*/*"))
    assert newest == demo.summary.nights[-1].isoformat()


@pytest.mark.parametrize("feed", ["shop_orders", "shop_order_lines", "pos_tickets", "pos_ticket_lines"])
def test_the_nights_are_not_much_smaller_than_the_deliveries_before_them(demo: Demo, feed: str) -> None:
    share = demo.one(
        f"""
        with days as (select delivered_on, count(*) as n from {feed} group by 1),
        before as (
            select n from days where delivered_on < date '{demo.summary.nights[0]}' order by delivered_on desc limit 28
        )
        select (select sum(n) / {PLAN.nights} from days where delivered_on >= date '{demo.summary.nights[0]}')
            / (select median(n) from before)
        """
    )
    assert isinstance(share, float)
    assert share > 0.5


def test_the_total_of_an_order_is_its_lines_plus_shipping_less_discount_but_for_a_few(demo: Demo) -> None:
    orders, off = demo.con.execute(
        """
        with heads as (
            select distinct order_id, total_amount::decimal(18, 2) - coalesce(shipping_amount::decimal(18, 2), 0)
                + coalesce(discount_amount::decimal(18, 2), 0) as goods
            from shop_orders where try_cast(total_amount as decimal(18, 2)) is not null and order_id <> ''
        ),
        lines as (
            select order_id, sum(amount) as goods from (
                select distinct order_id, line_no, amount::decimal(18, 2) as amount from shop_order_lines
                where try_cast(amount as decimal(18, 2)) is not null and try_cast(line_no as integer) is not null
            ) group by order_id
        )
        select count(*), count(*) filter (heads.goods <> lines.goods) from heads join lines using (order_id)
        """
    ).fetchall()[0]
    assert orders > 1000
    assert off < orders * 0.01


def test_no_ticket_was_printed_while_the_stores_were_closed(demo: Demo) -> None:
    closed = f"between date '{seasons.CLOSED_FROM}' and date '{seasons.CLOSED_UNTIL}'"
    assert demo.one(f"select count(*) from truth_transactions where channel = 'store' and business_on {closed}") == 0
    assert (
        demo.one(
            f"select count(*) from store_hours where delivered_on = date '2020-07-09' and is_open = 'true'"
            f" and day::date {closed}"
        )
        == 0
    )
    assert demo.one(f"select count(*) from truth_transactions where channel = 'online' and business_on {closed}") != 0


def test_truth_names_the_person_behind_every_record_that_bears_one(demo: Demo) -> None:
    unknown = demo.con.execute(
        """
        with delivered as (
            select 'shop_customers' as feed, customer_id as record_id from shop_customers
            union select 'loyalty_members', card_id from loyalty_members
            union select 'shop_orders', order_id from shop_orders
            union select 'pos_tickets', ticket_id from pos_tickets
                where coalesce(loyalty_card_id, email, phone, payment_token, '') <> '' and sold_at not like '32/%'
        )
        select feed, record_id from delivered left join truth_records using (feed, record_id)
        where person_id is null and regexp_matches(record_id, '^[CLWT0-9]')
        """
    ).fetchall()
    assert unknown == []
    assert demo.one("select count(*) - count(distinct (feed, record_id)) from truth_records") == 0
    assert (
        demo.one("select count(*) from truth_records where person_id not in (select person_id from truth_persons)") == 0
    )


def test_truth_counts_every_order_ticket_and_refund_once(demo: Demo) -> None:
    for feed, key in (("shop_orders", "order_id"), ("pos_tickets", "ticket_id"), ("shop_refunds", "refund_id")):
        missing = demo.one(
            f"""
            select count(*) from (select distinct {key} as record_id from {feed} where {key} <> '') as delivered
            anti join (select record_id from truth_transactions where feed = '{feed}') using (record_id)
            """
        )
        assert missing == 0
    assert demo.one("select count(*) - count(distinct (feed, record_id)) from truth_transactions") == 0
    assert (
        demo.one("select count(*) from truth_transactions where counted_amount <> 0 and record_id like 'T-LUCIE%'") == 0
    )


def test_lines_that_never_get_a_ticket_are_few(demo: Demo) -> None:
    share = demo.one(
        "select avg((ticket_id not in (select ticket_id from pos_tickets where ticket_id <> ''))::integer)"
        " from pos_ticket_lines where ticket_id <> ''"
    )
    assert isinstance(share, float)
    assert 0 < share < 0.005


def test_files_are_of_every_format_and_a_few_are_damaged(demo: Demo) -> None:
    files = [path for path in (demo.root / "landing").glob("*/*/*") if path.is_file()]
    forms = {".csv", ".gz", ".parquet", ".part"}
    assert {path.suffix for path in files} == forms
    text = [
        path.read_bytes() if path.suffix == ".csv" else gzip.decompress(path.read_bytes())
        for path in files
        if path.suffix in (".csv", ".gz")
    ]
    assert any(content.startswith(b"\xef\xbb\xbf") for content in text)
    assert any(b"\r\n" in content for content in text)
    assert any("_again" in path.name for path in files)
    cut = demo.root / "landing" / "pos_tickets" / cut_off_on(list(demo.summary.nights)).isoformat()
    assert any(not path.read_bytes().endswith(b"\n") for path in cut.glob("*.csv"))
    with next(iter(sorted((demo.root / "landing" / "pos_tickets" / "2020-07-10").glob("*.csv")))).open(
        encoding="latin-1"
    ) as lines:
        assert "cashier_initials" in next(csv.reader(lines, delimiter=";"))


def test_the_quarter_of_the_tickets_or_more_is_anonymous_but_not_most(demo: Demo) -> None:
    share = demo.one(
        "select avg((coalesce(loyalty_card_id, email, phone, payment_token, '') = '')::integer) from pos_tickets"
        " where ticket_id like 'T0%' and ticket_type = 'sale'"
    )
    assert isinstance(share, float)
    assert 0.35 < share < 0.55


def test_somebody_became_omnichannel_within_the_last_ninety_days(demo: Demo) -> None:
    count = demo.one(
        f"""
        with channels as (
            select person_id, count(distinct channel) filter (business_on < date '{seasons.LAST_NIGHT}' - 90) as before,
                count(distinct channel) filter (business_on >= date '{seasons.LAST_NIGHT}' - 90) as since
            from truth_transactions where counted_amount > 0 group by 1
        )
        select count(*) from channels where before = 1 and since = 2
        """
    )
    assert isinstance(count, int)
    assert count >= 10


def test_progress_is_told_up_to_the_end(demo: Demo) -> None:
    assert list(demo.told) == sorted(demo.told)
    assert demo.told[-1] == 1.0


def test_the_first_night_holds_the_history_and_a_late_header_comes_after_its_lines(demo: Demo) -> None:
    assert demo.one("select min(delivered_on) from pos_tickets") == date(2018, 10, 1)
    late = demo.one(
        """
        with heads as (
            select ticket_id, min(delivered_on) as came_on from pos_tickets where ticket_id <> '' group by 1
        ),
        lines as (select ticket_id, min(delivered_on) as came_on from pos_ticket_lines where ticket_id <> '' group by 1)
        select count(*) from heads join lines using (ticket_id) where heads.came_on > lines.came_on
        """
    )
    assert isinstance(late, int)
    assert late > 0


# What people write. One person is written down thousands of times, so that even what is rare happens.

ROWS = 12_000
_SAID = {
    "first_name_now": "'Catherine'",
    "first_name_short": "'Cathy'",
    "first_name_also": "null::varchar",
    "second_name": "'Louise'",
    "last_name": "'Martin'",
    "last_name_now": "'Martin'",
    "last_name_also": "null::varchar",
    "last_part1": "null::varchar",
    "last_part2": "null::varchar",
    "birth_name": "null::varchar",
    "has_particle": "false",
    "is_family_first": "false",
    "sex": "'f'",
    "birth_date_now": "date '1975-04-12'",
    "is_in_family": "false",
    "says_little": "false",
    "number_now": "'12 bis'",
    "street_now": "'avenue du Général Leclerc'",
    "complement_now": "'Apt 4'",
    "postal_code_now": "'42000'",
    "city_now": "'Saint-Étienne'",
}


@pytest.fixture(scope="module")
def pen() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    dirt.create_macros(con, seed=7, nights=3)
    return con


def _written(
    con: duckdb.DuckDBPyConnection, field: str, *, at_till: bool = False, **different: str
) -> dict[object, float]:
    """The share of each thing that was written into a field for one person."""
    columns = ", ".join(f"{value} as {name}" for name, value in (_SAID | different).items())
    rows = con.execute(
        f"""
        with said as (select 'k' || range as k, {columns} from range({ROWS})),
        {handwriting.written("said", at_till=at_till)}
        select {field}, count(*) / {ROWS} from written group by all
        """
    ).fetchall()
    return dict(rows)


def _name(first: str, last: str = "Martin", **different: str) -> dict[str, str]:
    return {
        "first_name_now": f"'{first}'",
        "last_name_now": "'" + last.replace("'", "''") + "'",
        "last_name": "'" + last.replace("'", "''") + "'",
        **different,
    }


_TWO_NAMES = {"last_part1": "'Martin'", "last_part2": "'Petit'"}
_BOTH = "typed_first_name || '|' || coalesce(typed_last_name, '')"


@pytest.mark.parametrize(
    ("person", "written"),
    [
        pytest.param({}, ["C.|Martin"], id="an_initial"),
        pytest.param({}, ["Cathy|Martin"], id="a_diminutive"),
        pytest.param({}, ["Catherine Louise|Martin", "Louise|Martin"], id="a_second_given_name"),
        pytest.param({}, ["Martin|Catherine"], id="names_swapped"),
        pytest.param({}, ["Catherine Martin|"], id="the_full_name_in_the_first_field"),
        pytest.param({}, ["Mme Catherine|Martin", "Catherine|Mme Martin"], id="a_title"),
        pytest.param({"sex": "'m'"}, ["M. Catherine|Martin"], id="a_gentleman"),
        pytest.param({}, ["CATHERINE|MARTIN", "catherine|martin"], id="capitals_and_none"),
        pytest.param({}, [" Catherine | Martin "], id="spaces"),
        pytest.param(_name("Hélène", "Lefèvre"), ["Helene|Lefevre", "HÉLÈNE|LEFÈVRE"], id="accents_lost_and_kept"),
        pytest.param(_name("Hélène"), ["HÃ©lÃ¨ne|Martin", "H&eacute;l&egrave;ne|Martin"], id="broken_encodings"),
        pytest.param(
            _name("Jean-Pierre"),
            [f"{name}|Martin" for name in ("Jean Pierre", "JEANPIERRE", "JP", "J-P", "J.P.", "Jean", "Jean-P.")],
            id="a_compound_name",
        ),
        pytest.param(
            _name("Anne", "de La Fontaine", has_particle="true"),
            [
                f"Anne|{name}"
                for name in ("DE LAFONTAINE", "La Fontaine", "La Fontaine (de)", "De La Fontaine", "Delafontaine")
            ],
            id="a_particle",
        ),
        pytest.param(
            _name("Anne", "d'Arcy", has_particle="true"),
            [f"Anne|{name}" for name in ("DARCY", "Arcy", "D’Arcy", "D Arcy", "Darcy")],
            id="an_apostrophe",
        ),
        pytest.param(
            _name("Anne", "Martin-Petit", **_TWO_NAMES),
            [f"Anne|{name}" for name in ("Martin", "Petit", "Martin Petit", "Petit Martin", "Petit-Martin")],
            id="a_double_barrelled_name",
        ),
        pytest.param(
            _name("Anne", "Petit", birth_name="'Martin'"),
            [f"Anne|{name}" for name in ("Martin ép. Petit", "Petit née Martin", "Martin-Petit", "Martin")],
            id="a_married_name",
        ),
        pytest.param(
            _name("Mohamed", "Ben Ali", first_name_also="'Mohammed'", last_name_also="'Benali'"),
            ["Mohammed|Ben Ali", "Mohamed|Benali"],
            id="another_transliteration",
        ),
        pytest.param(_name("Linh", "Nguyen", is_family_first="true"), ["Nguyen|Linh"], id="the_family_name_first"),
    ],
)
def test_names_are_written_in_many_ways(
    pen: duckdb.DuckDBPyConnection, person: dict[str, str], written: list[str]
) -> None:
    assert set(written) - set(_written(pen, _BOTH, **person)) == set()


@pytest.mark.parametrize(
    "slip", ["Matin", "Maritn", "Marttin", "Marton", "Martion", "amrtin".capitalize()],
    ids=["deletion", "transposition", "doubled_letter", "neighbouring_key", "insertion", "at_the_beginning"],
)  # fmt: skip
def test_a_name_is_mistyped_in_every_way(pen: duckdb.DuckDBPyConnection, slip: str) -> None:
    assert _written(pen, "typed_last_name", at_till=True)[slip] < 0.005


def test_a_till_mistypes_names_more_often_than_the_person_and_at_the_rate_that_is_said(
    pen: duckdb.DuckDBPyConnection,
) -> None:
    for field, till, web in (
        ("given <> given_word", dirt.FIRST_NAME_TYPO_TILL, dirt.FIRST_NAME_TYPO_WEB),
        ("family <> family_word", dirt.LAST_NAME_TYPO_TILL, dirt.LAST_NAME_TYPO_WEB),
    ):
        assert _written(pen, field, at_till=True)[True] == pytest.approx(till, rel=0.25)
        assert _written(pen, field)[True] == pytest.approx(web, rel=0.25)
        assert till > web


def test_a_slip_of_the_hand_is_never_without_effect(pen: duckdb.DuckDBPyConnection) -> None:
    for word in ("Lee", "Éloïse", "anna.bella42", "Ott"):
        same = pen.execute(f"select count(*) from range(3000) where typo('{word}', range, 's') = '{word}'").fetchone()
        assert same == (0,)


def test_birth_dates_are_wrong_in_many_ways(pen: duckdb.DuckDBPyConnection) -> None:
    dates = _written(pen, "typed_birth_date")
    assert dates[None] == pytest.approx(dirt.BIRTH_DATE_MISSING, rel=0.1)
    wanted = ["1900-01-01", "1970-01-01", "1975-01-01", "1975-12-04", "1974-04-12", "1976-04-12", "1965-04-12",
              "1875-04-12", "1975-04-13", "1975-09-12", "1978-04-12"]  # fmt: skip
    assert {date.fromisoformat(text) for text in wanted} - set(dates) == set()
    assert dates[date(1975, 4, 12)] > 0.65


def test_a_family_gives_fewer_birth_dates_and_who_gives_nothing_else_gives_it(pen: duckdb.DuckDBPyConnection) -> None:
    missing = _written(pen, "typed_birth_date", is_in_family="true")[None]
    assert missing == pytest.approx(dirt.BIRTH_DATE_MISSING_IN_FAMILY, rel=0.1)
    assert None not in _written(pen, "typed_birth_date", says_little="true")
    assert None not in _written(pen, "typed_address", says_little="true")


@pytest.mark.parametrize(
    "pattern",
    [
        r"^12 bis av\.? du Gal Leclerc$", r"^12bis avenue", r"^12B avenue", r"^12 B avenue", r"^12 bis, avenue",
        r"^avenue du Général Leclerc$", r"^12 BIS AVENUE DU GENERAL LECLERC$", r"^12 bis avenue du général leclerc$",
        r"^12 bis avenue du General Leclerc$", r"^Apt 4, 12 bis", r"^Apt 4 12 bis", r"Leclerc, Apt 4$",
        r"Leclerc Apt 4$", r"^Apt 4\n12 bis", r"^chez M", r"GÃ©nÃ©ral", r"G&eacute;n&eacute;ral",
    ],
)  # fmt: skip
def test_an_address_is_written_in_many_ways(pen: duckdb.DuckDBPyConnection, pattern: str) -> None:
    assert [text for text in _written(pen, "typed_address") if re.search(pattern, str(text))] != []


def test_the_words_of_a_street_are_shortened(pen: duckdb.DuckDBPyConnection) -> None:
    for word, short in spelling.STREET_WORDS.items():
        firsts = _written(pen, "split_part(street_written, ' ', 1)", street_now=f"'{word} Haute'")
        assert set(short) <= set(firsts), word
    assert "rue St Jean" in _written(pen, "street_written", street_now="'rue Saint-Jean'")


def test_streets_and_towns_are_mistyped_by_a_letter(pen: duckdb.DuckDBPyConnection) -> None:
    assert {"rue Lafayete", "rue Lafayettte", "rue Laafyette"} & set(
        _written(pen, "street_written", street_now="'rue Lafayette'")
    )
    assert {"Nntes", "Natnes", "Nanttes", "Nanres"} & set(_written(pen, "city_written", city_now="'Nantes'"))


def _typed(con: duckdb.DuckDBPyConnection, sql: str) -> set[str]:
    return {text for (text,) in con.execute(f"select distinct {sql} from range(20000) as t(k)").fetchall()}


@pytest.mark.parametrize("domain", list(spelling.WRONG_DOMAINS))
def test_every_mail_domain_is_mistyped_in_every_way(pen: duckdb.DuckDBPyConnection, domain: str) -> None:
    typed = _typed(pen, f"typed_email('anne.roy7@{domain}', k, 0.05, 0.01)")
    assert {f"anne.roy7@{wrong}" for wrong in spelling.WRONG_DOMAINS[domain]} <= typed


def test_an_address_of_mail_is_typed_in_many_ways(pen: duckdb.DuckDBPyConnection) -> None:
    typed = _typed(pen, "typed_email('anne.roy7@gmail.com', k, 0.01, 0.02)")
    assert {
        "ANNE.ROY7@GMAIL.COM",
        "  anne.roy7@gmail.com ",
        "anne.roy7+boutique@gmail.com",
        "anneroy7@gmail.com",
        "anne.ro7@gmail.com",
        "anen.roy7@gmail.com",
    } <= typed
    assert "ann.eroy7@gmail.com" in _typed(pen, "typed_email('anneroy7@gmail.com', k, 0, 0.02)")


def test_a_phone_is_typed_in_many_ways_and_sometimes_wrong(pen: duckdb.DuckDBPyConnection) -> None:
    typed = _typed(pen, "typed_phone('0465710003', k)")
    assert {"04 65 71 00 03", "04.65.71.00.03", "+33465710003", "+33 4 65 71 00 03", "0033465710003"} <= typed
    assert "ne sait pas" in typed
    slips = _typed(pen, "phone_slip('0465710003', k)") - {"0465710003"}
    assert all(re.fullmatch(r"0\d{9}", text) for text in slips)
    assert {"0467510003", "0456710003"} <= slips
    off = [sum(a != b for a, b in zip(text, "0465710003", strict=True)) for text in slips]
    assert set(off) == {1, 2}
    assert off.count(1) > 40
    share = pen.execute("select avg((phone_slip('0465710003', range) <> '0465710003')::int) from range(20000)")
    wanted = dirt.PHONE_DIGIT_WRONG + dirt.PHONE_DIGITS_SWAPPED
    assert (share.fetchone() or (0,))[0] == pytest.approx(wanted, rel=0.3)
    assert all(re.fullmatch(r"[\d +.]{10,}|ne sait pas", text) for text in typed)


# Who the people are.


def _count(demo: Demo, sql: str) -> int:
    value = demo.one(f"select count(*) from {sql}")
    assert isinstance(value, int)
    return value


@pytest.mark.parametrize(
    "scenario",
    ["twins", "shared_mailbox", "shared_phone", "married_name", "ereceipt_typo",
     "desk_email", "recycled_phone", "namesakes",
     "father_and_son", "company_mailbox", "borrowed_card", "shared_bank_card", "clerk_card", "guest_order",
     "placeholder_email", "placeholder_phone", "grandmother", "mother_and_daughter", "siblings", "flatmates",
     "lone_parent", "couple", "family", "single"],
)  # fmt: skip
def test_quality_can_be_measured_per_scenario(demo: Demo, scenario: str) -> None:
    assert _count(demo, f"truth_records where scenario = '{scenario}' and person_id like 'X0%'") > 0


def test_twins_are_born_on_one_day_into_one_family_and_some_have_names_that_are_close(demo: Demo) -> None:
    twins = (
        "truth_persons as a join truth_persons as b on a.household_id = b.household_id and a.person_id < b.person_id"
        " where a.scenario = 'twins' and a.person_id like 'X0%'"
    )
    assert _count(demo, twins) > 10
    assert _count(demo, f"{twins} and (a.birth_date <> b.birth_date or a.last_name <> b.last_name)") == 0
    assert _count(demo, f"{twins} and a.first_name = b.first_name") == 0
    assert _count(demo, f"{twins} and levenshtein(a.first_name, b.first_name) <= 2") > 0


def test_namesakes_share_their_full_name_and_nothing_else(demo: Demo) -> None:
    pairs = (
        "truth_persons as a join truth_persons as b on a.first_name = b.first_name and a.last_name = b.last_name"
        " and a.person_id < b.person_id where a.scenario = 'namesakes' and b.scenario = 'namesakes'"
    )
    assert _count(demo, pairs) >= _count(demo, "truth_persons where scenario = 'namesakes'") / 2 > 0
    assert _count(demo, f"{pairs} and (a.household_id = b.household_id or a.birth_date = b.birth_date)") == 0


def test_a_father_and_his_son_bear_one_name(demo: Demo) -> None:
    pairs = (
        "truth_persons as a join truth_persons as b on a.household_id = b.household_id and a.first_name = b.first_name"
        " and a.last_name = b.last_name and a.birth_date < b.birth_date where a.scenario = 'father_and_son'"
    )
    assert _count(demo, pairs) > 5


def test_families_write_from_one_mailbox_and_the_mailbox_bears_the_familys_name(demo: Demo) -> None:
    shared = demo.con.execute(
        """
        select regexp_extract(lower(trim(email)), '^(famille)?'), count(*) from (
            select email, person_id from shop_customers
            join truth_records on feed = 'shop_customers' and record_id = customer_id where person_id like 'X0%'
            union select email, person_id from loyalty_members
            join truth_records on feed = 'loyalty_members' and record_id = card_id where scenario = 'shared_mailbox'
        ) where email is not null group by lower(trim(email)) having count(distinct person_id) > 1
        """
    ).fetchall()
    assert {prefix for prefix, _ in shared} == {"famille", ""}


def test_about_one_person_in_eight_uses_a_second_address_of_mail_at_the_same_time(demo: Demo) -> None:
    count = demo.one(
        """
        select count(*) from shop_customers as c
        join truth_records as a on a.feed = 'shop_customers' and a.record_id = c.customer_id
        join truth_records as b on b.person_id = a.person_id and b.feed = 'loyalty_members'
        join loyalty_members as l on l.card_id = b.record_id
        where c.email is not null and l.email like '%@groupe-%.example' and c.email not like '%@groupe-%'
        """
    )
    assert isinstance(count, int)
    assert count > 5


def test_a_cashier_shows_her_own_card_for_strangers(demo: Demo) -> None:
    ((tickets, buyers, cards),) = demo.con.execute(
        """
        select count(*), count(distinct t.person_id), count(distinct p.loyalty_card_id)
        from truth_records as r join truth_transactions as t using (feed, record_id)
        join pos_tickets as p on p.ticket_id = record_id
        where r.scenario = 'clerk_card' and r.person_id like 'X0%'
        """
    ).fetchall()
    assert cards == 1
    assert buyers > 20
    assert tickets > 50


def test_a_grandchild_leaves_a_number_for_the_grandmothers_card(demo: Demo) -> None:
    def digits(column: str) -> str:
        return rf"right(regexp_replace({column}, '\D', '', 'g'), 9)"

    count = demo.one(
        f"""
        select count(*) from loyalty_members as l
        join truth_records as r on r.feed = 'loyalty_members' and r.record_id = l.card_id
        join truth_persons as p using (person_id)
        join truth_records as o on o.household_id = r.household_id and o.person_id <> r.person_id
        left join shop_customers as c on o.feed = 'shop_customers' and c.customer_id = o.record_id
        left join shop_orders as s on o.feed = 'shop_orders' and s.order_id = o.record_id
        where p.scenario = 'grandmother' and p.birth_date < date '1953-01-01'
            and (lower(trim(l.email)) in (lower(trim(c.email)), lower(trim(s.email)))
                or {digits("l.phone")} in ({digits("c.phone")}, {digits("s.phone")}))
        """
    )
    assert isinstance(count, int)
    assert count > 0


def test_names_of_other_countries_are_among_the_people(demo: Demo) -> None:
    families = {row["name"] for row in csv.DictReader(
        (ROOT / "dagster_project/demo/data/other_names.csv").open(encoding="utf-8")
    ) if row["kind"] == "family" and row["origin"] != "particle"}  # fmt: skip
    demo.con.register("families", pa.table({"name": sorted(families)}))
    share = demo.one(
        "select avg((last_name in (select name from families) or last_name similar to '.* .*')::integer)"
        " from truth_persons where person_id like 'X0%'"
    )
    demo.con.unregister("families")
    assert isinstance(share, float)
    assert 0.06 < share < 0.16


def test_few_records_have_nothing_in_common_with_another_record_of_their_person(demo: Demo) -> None:
    """Neither e-mail nor phone, nor the birth date and a name, nor the address and a name; tickets do not count."""
    word = r"regexp_replace(lower(strip_accents({})), '[^a-z]', '', 'g')"
    share = demo.one(
        rf"""
        with contacts as (
            select 'shop_customers' as feed, customer_id as record_id, * from shop_customers
            union all by name select 'loyalty_members' as feed, card_id as record_id, * from loyalty_members
            union all by name select 'shop_orders' as feed, order_id as record_id, * from shop_orders
        ),
        records as (
            select feed, record_id, person_id, lower(trim(email)) as email,
                right(regexp_replace(phone, '\D', '', 'g'), 9) as phone,
                list_filter([{word.format("first_name")}, {word.format("last_name")}], lambda n: n <> '') as names,
                birth_date, postal_code || regexp_extract(address_line1, '(\d+) ?(bis|ter|B|T)?,? ?[^\d]*$', 1) as home
            from contacts join truth_records using (feed, record_id) where person_id like 'X0%'
        ),
        judged as (
            select a.record_id, bool_or(coalesce(a.email = b.email, false) or coalesce(a.phone = b.phone, false)
                or (coalesce(a.birth_date = b.birth_date, false) or coalesce(a.home = b.home, false))
                    and list_has_any(a.names, b.names)) as can_be_known
            from records as a join records as b using (person_id)
            where a.record_id <> b.record_id and a.feed <> 'shop_orders' group by a.record_id
        )
        select avg((not can_be_known)::integer) from judged
        """
    )
    assert isinstance(share, float)
    assert share < 0.015


# What is said of it.

_NOT_OF_PEOPLE = re.compile(r"TOTAL_OFF|UNKNOWN_|ROW_|HEADER_|ORPHAN_|FILE_")


def test_the_page_about_the_noise_says_every_rate_and_says_it_right() -> None:
    rates = {name: value for name, value in vars(dirt).items() if name.isupper() and isinstance(value, float)}
    page = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")
    said = {name: float(value.replace(",", ".")) / 100 for name, value in
            re.findall(r"^\| `([A-Z0-9_]+)` \| ([\d.]+) % \|", page, re.MULTILINE)}  # fmt: skip
    of_people = {name: rate for name, rate in rates.items() if not _NOT_OF_PEOPLE.match(name)}
    assert said == pytest.approx(of_people)


def test_the_generator_knows_nothing_of_how_identities_are_resolved() -> None:
    for path in (ROOT / "dagster_project" / "demo").glob("*.py"):
        assert "domain.identity" not in path.read_text(encoding="utf-8")
