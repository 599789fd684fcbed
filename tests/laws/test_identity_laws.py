"""Laws of identity: what holds for any set of records, in any order, on any night."""

from datetime import date
from itertools import combinations

import duckdb
import networkx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dagster_project.domain.identity import resolve
from dagster_project.domain.identity.clustering import connect, guarded_union

AS_OF = date(2020, 7, 1)
LAW = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

# Few values of each kind, so that records meet, share, contradict and bridge each other.
_EMAILS = st.sampled_from([None, "a@mail.example", "b@mail.example", "noreply@shop.example"])
_PHONES = st.sampled_from([None, "+33639980001", "+33639980002", "+33600000000"])
_NAMES = st.sampled_from([None, "Ana", "ANA", "A.", "Bea", "Luc", "Zoé", "Hugo", "Ines", "Jean-Paul"])
_BIRTHS = st.sampled_from([None, "1980-03-04", "1980-04-03", "1955-12-31", "1900-01-01"])
_CARDS = st.sampled_from([None, "K0", "K1", "K2"])
_CUSTOMERS = st.sampled_from([None, "C0", "C1", "C9"])
_TOKENS = st.sampled_from([None, "p", "q"])
_MOMENTS = st.sampled_from(["2019-01-01", "2019-02-01", "2019-03-01"])


def _numbered(prefix, key, **columns):
    return st.lists(st.fixed_dictionaries(columns), max_size=6).map(
        lambda rows: [{key: f"{prefix}{n}", **row} for n, row in enumerate(rows)]
    )


RECORDS = st.fixed_dictionaries(
    {
        "shop_customers": _numbered(
            "C", "customer_id", email=_EMAILS, phone=_PHONES, first_name=_NAMES, birth_date=_BIRTHS,
            loyalty_card_id=_CARDS, created_at=_MOMENTS,
        ),
        "loyalty_members": _numbered(
            "K", "card_id", email=_EMAILS, phone=_PHONES, first_name=_NAMES, birth_date=_BIRTHS, enrolled_at=_MOMENTS
        ),
        "shop_orders": _numbered(
            "O", "order_id", customer_id=_CUSTOMERS, email=_EMAILS, phone=_PHONES, first_name=_NAMES,
            payment_token=_TOKENS, ordered_at=_MOMENTS,
        ),
        "pos_tickets": _numbered(
            "T", "ticket_id", loyalty_card_id=_CARDS, email=_EMAILS, phone=_PHONES, payment_token=_TOKENS,
            sold_at=_MOMENTS,
        ),
    }
)  # fmt: skip


def _clusters(connection):
    """Accounts as sets of records, whatever their ids."""
    found = {}
    for feed, record, account in connection.execute(
        "select feed, record_id, account_id from identity.account_links"
    ).fetchall():
        found.setdefault(account, set()).add((feed, record))
    return {frozenset(records) for records in found.values()}


def _links(connection):
    return connection.execute("select * from identity.account_links order by all").fetchall()


def _release(connection, path):
    """Write the tables that the next night reads, as a release does."""
    path.unlink(missing_ok=True)
    connection.execute(f"attach '{path}' as released; create schema released.identity")
    for table in ("account_links", "anchors", "account_events", "account_redirects"):
        connection.execute(f"create table released.identity.{table} as from identity.{table}")
    connection.execute("detach released")
    return path


@LAW
@given(rows=RECORDS, order=st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(staging_database, rows, order):
    shuffled = {name: order.sample(records, len(records)) for name, records in rows.items()}
    outcomes = []
    for version in (rows, shuffled):
        connection = staging_database(version)
        resolve(connection, as_of=AS_OF, run_id="run", previous=None)
        outcomes.append(
            [
                connection.execute(f"from identity.{table} order by all").fetchall()
                for table in (
                    "account_links",
                    "edges",
                    "households",
                    "anchors",
                    "demoted_identifiers",
                    "account_events",
                )
            ]
        )
    assert outcomes[0] == outcomes[1]


@LAW
@given(rows=RECORDS)
def test_every_record_is_in_one_account_and_every_web_account_and_card_in_one(staging_database, rows):
    connection = staging_database(rows)
    resolve(connection, as_of=AS_OF, run_id="run", previous=None)
    linked = [(feed, record) for feed, record, *_ in _links(connection)]
    assert len(linked) == len(set(linked))
    for feed, key in (("shop_customers", "customer_id"), ("loyalty_members", "card_id")):
        assert {(feed, row[key]) for row in rows[feed]} <= set(linked)
    anchors = connection.execute("select account_id, anchor_feed, anchor_record_id from identity.anchors").fetchall()
    assert {account for account, *_ in anchors} == {link[2] for link in _links(connection)}
    assert {tuple(anchor[1:]) for anchor in anchors} <= {(link[0], link[1]) for link in _links(connection) if link[5]}


@LAW
@given(rows=RECORDS)
def test_no_account_holds_two_given_names_or_two_birth_dates(staging_database, rows):
    connection = staging_database(rows)
    resolve(connection, as_of=AS_OF, run_id="run", previous=None)
    assert (
        connection.execute(
            """
            select account_id
            from identity.account_links join identity.records using (feed, record_id)
            join identity.contacts using (contact_id)
            where is_person_record
                -- The orders of an unknown customer stay together, whoever they were sent to.
                and not (account_links.feed = 'shop_orders' and records.customer_id is not null)
            group by account_id
            having
                count(distinct given_name_key) > 1
                or count(distinct given_initial) > 1
                or count(distinct birth_key) > 1
            """
        ).fetchall()
        == []
    )


@LAW
@given(rows=RECORDS)
def test_a_demoted_identifier_never_joins(staging_database, rows):
    connection = staging_database(rows)
    resolve(connection, as_of=AS_OF, run_id="run", previous=None)
    assert (
        connection.execute(
            """
            select rule
            from identity.edges
            join identity.records as r on r.feed = right_feed and r.record_id = right_record_id
            join identity.contacts as c on c.contact_id = r.contact_id
            where decision = 'accepted' and (
                (rule = 'email' and c.email = 'noreply@shop.example') or (rule = 'phone' and c.phone = '+33600000000')
            )
            """
        ).fetchall()
        == []
    )


@LAW
@given(nights=st.lists(RECORDS, min_size=2, max_size=3))
def test_ids_stay_are_never_reused_and_redirects_resolve(staging_database, tmp_path, nights):
    seen, alive, previous = set(), set(), None
    for number, rows in enumerate(nights):
        connection = staging_database(rows)
        resolve(connection, as_of=AS_OF, run_id=f"night {number}", previous=previous)
        links = _links(connection)
        now = {link[2] for link in links}
        assert not (now - alive) & seen, "an id that was gone has come back"
        events = connection.execute("from identity.account_events order by all").fetchall()
        tonight = [event for event in events if event[4] == f"night {number}"]
        assert {event[0] for event in tonight if event[1] in ("created", "split")} == now - alive
        assert {event[0] for event in tonight if event[1] in ("merged", "retired")} == alive - now
        redirects = connection.execute("from identity.account_redirects").fetchall()
        assert {new for _, new in redirects} <= now
        assert not {old for old, _ in redirects} & now
        assert len({old for old, _ in redirects}) == len(redirects)

        alone = staging_database(rows)
        resolve(alone, as_of=AS_OF, run_id="alone", previous=None)
        assert _clusters(alone) == _clusters(connection), "who is who must not depend on history"

        previous = _release(connection, tmp_path / f"{number % 2}.duckdb")
        resolve(connection, as_of=AS_OF, run_id="again", previous=previous)
        assert _links(connection) == links, "the same records on the next night keep their ids"
        assert connection.execute("from identity.account_events order by all").fetchall() == events
        seen |= now
        alive = now


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_components_are_those_of_an_independent_implementation(pairs):
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("create table pairs (l bigint, r bigint)")
    if pairs:
        connection.executemany("insert into pairs values (?, ?)", pairs)
    connect(connection, "pairs", "found")
    graph = networkx.Graph(pairs)
    expected = {node: min(component) for component in networkx.connected_components(graph) for node in component}
    assert dict(connection.execute("from found").fetchall()) == expected


_VALUE = st.sampled_from([None, "x", "y"])


@settings(max_examples=100, deadline=None)
@given(
    people=st.lists(st.tuples(_VALUE, _VALUE, _VALUE), min_size=1, max_size=12),
    pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30),
    apart=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=4),
)
def test_a_guarded_union_holds_no_conflict_and_refuses_only_for_one(people, pairs, apart):
    attributes = dict(enumerate(people))
    pairs = [(one, two, False) for one, two in pairs if one != two and one in attributes and two in attributes]
    apart = [pair for pair in apart if pair[0] != pair[1] and set(pair) <= set(attributes)]
    labels, reasons = guarded_union(attributes, pairs, apart)
    for one, other in combinations(attributes, 2):
        if labels[one] == labels[other]:
            assert all(
                a is None or b is None or a == b for a, b in zip(attributes[one], attributes[other], strict=True)
            )
            assert (one, other) not in apart
            assert (other, one) not in apart
    assert all((labels[one] == labels[two]) or reason for (one, two, _), reason in zip(pairs, reasons, strict=True))
    if not any(reasons):
        graph = networkx.Graph([(one, two) for one, two, _ in pairs])
        graph.add_nodes_from(attributes)
        assert labels == {n: min(c) for c in networkx.connected_components(graph) for n in c}
