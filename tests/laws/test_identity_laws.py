"""Laws of identity: what holds for any set of records, in any order, on any night."""

from datetime import date
from itertools import combinations

import duckdb
import networkx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dagster_project.domain.identity import resolve
from dagster_project.domain.identity.clustering import Pair, connect, guarded_union

AS_OF = date(2020, 7, 1)


def law(examples, is_shrunk=False):
    """A law over whole warehouses shows a failing example as it was drawn: to shrink it would take minutes."""
    return settings(
        max_examples=examples,
        deadline=None,
        phases=[phase for phase in Phase if is_shrunk or phase not in (Phase.shrink, Phase.explain)],
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# Few values of each kind, so that records meet, share, contradict and bridge each other.
_EMAILS = st.sampled_from([None, "a@mail.example", "b@mail.example", "noreply@shop.example"])
_PHONES = st.sampled_from([None, "+33639980001", "+33639980002", "+33600000000"])
_NAMES = st.sampled_from([None, "Ana", "ANA", "A.", "Bea", "Luc", "Zoé", "Hugo", "Jean-Paul", "JP"])
_FAMILIES = st.sampled_from([None, "Roux", "ROUX", "Petit"])
_BIRTHS = st.sampled_from([None, "1980-03-04", "1980-04-03", "1955-12-31", "1900-01-01"])
_STREETS = st.sampled_from([None, "5 rue Basse", "5, r. Basse", "9 rue Haute"])
_CARDS = st.sampled_from([None, "K0", "K1", "K2"])
_CUSTOMERS = st.sampled_from([None, "C0", "C1", "C9"])
_TOKENS = st.sampled_from([None, "p", "q"])
_MOMENTS = st.sampled_from(["2019-01-01", "2019-02-01", "2019-03-01"])
_PERSON = {"email": _EMAILS, "phone": _PHONES, "first_name": _NAMES, "last_name": _FAMILIES, "address_line1": _STREETS}
_KEYS = {
    "shop_customers": "customer_id", "loyalty_members": "card_id", "shop_orders": "order_id",
    "pos_tickets": "ticket_id",
}  # fmt: skip


def _numbered(prefix, key, **columns):
    return st.lists(st.fixed_dictionaries(columns), max_size=6).map(
        lambda rows: [{key: f"{prefix}{n}", **row} for n, row in enumerate(rows)]
    )


_FEEDS = {
    "shop_customers": _numbered(
        "C", "customer_id", **_PERSON, birth_date=_BIRTHS, loyalty_card_id=_CARDS, created_at=_MOMENTS
    ),
    "loyalty_members": _numbered("K", "card_id", **_PERSON, birth_date=_BIRTHS, enrolled_at=_MOMENTS),
    "shop_orders": _numbered(
        "O", "order_id", **_PERSON, customer_id=_CUSTOMERS, payment_token=_TOKENS, ordered_at=_MOMENTS
    ),
    "pos_tickets": _numbered(
        "T", "ticket_id", loyalty_card_id=_CARDS, email=_EMAILS, phone=_PHONES, payment_token=_TOKENS, sold_at=_MOMENTS
    ),
}
_SIDE = st.sampled_from([
    ("shop_customers", "C0"), ("shop_customers", "C1"), ("shop_customers", "C2"), ("loyalty_members", "K0"),
    ("loyalty_members", "K1"), ("shop_orders", "O0"), ("shop_orders", "O1"), ("pos_tickets", "T0"),
])  # fmt: skip
_DECISIONS = st.lists(
    st.tuples(_SIDE, _SIDE, st.sampled_from(["same", "different"])).filter(lambda said: said[0] != said[1]),
    max_size=4,
).map(
    lambda decisions: [
        {
            "decision_id": f"D{n}", "left_feed": left[0], "left_id": left[1], "right_feed": right[0],
            "right_id": right[1], "decision": word, "decided_by": "steward", "decided_at": f"2020-01-0{n + 1}",
        }
        for n, (left, right, word) in enumerate(decisions)
    ]
)  # fmt: skip
RECORDS = st.fixed_dictionaries(_FEEDS)
DECIDED = st.fixed_dictionaries({**_FEEDS, "identity_decisions": _DECISIONS})

ACCOUNT_TABLES = ("account_links", "anchors", "account_events", "account_redirects")
TABLES = (
    *ACCOUNT_TABLES, "records", "contacts", "edges", "households", "demoted_identifiers", "shared_identifiers",
    "cut_blocks", "identifier_policies", "model_levels",
)  # fmt: skip


def _tables(connection):
    return {name: connection.execute(f"from identity.{name} order by all").fetchall() for name in TABLES}


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
    for table in ACCOUNT_TABLES:
        connection.execute(f"create table released.identity.{table} as from identity.{table}")
    connection.execute("detach released")
    return path


def _resolved(staging_database, rows, threads=1, **said):
    connection = staging_database(rows)
    connection.execute(f"set threads = {threads}")
    resolve(connection, as_of=AS_OF, **{"run_id": "run", "previous": None, **said})
    return connection


@law(6)
@given(rows=DECIDED, order=st.randoms(use_true_random=False))
def test_every_table_is_a_function_of_the_records_alone(staging_database, rows, order):
    """Not of the order of rows, not of the threads, not of how often it is asked."""
    expected = _tables(_resolved(staging_database, rows))
    shuffled = {name: order.sample(records, len(records)) for name, records in rows.items()}
    connection = _resolved(staging_database, shuffled, threads=2)
    assert _tables(connection) == expected
    resolve(connection, as_of=AS_OF, run_id="run", previous=None)
    assert _tables(connection) == expected


def _said(connection):
    """Per record: account, contact, what it says in standard form, and whether it is one of its person's own."""
    return connection.execute(
        """
        select feed, record_id, account_id, is_person_record, rule,
            given_name_key, given_name_forms, given_word_forms, given_word_count, given_initials, is_known_given_name,
            family_name_forms, birth_key, email_key, contacts.phone, records.customer_id
        from identity.account_links join identity.records using (feed, record_id)
        left join identity.contacts as contacts using (contact_id)
        """
    ).fetchall()


def _are_two_names(one, other):
    """Both names are known, and neither is a form, a part, an initial or the family name of the other."""
    key, forms, words, count, _, known, families = range(7)
    return (
        bool(one[known] and other[known])
        and one[key] != other[key]
        and not set(one[forms]) & set(other[forms])
        and not (1 in (one[count], other[count]) and set(one[words]) & set(other[words]))
        and not set(one[forms]) & set(other[families] or ())
        and not set(other[forms]) & set(one[families] or ())
        and not (min(len(one[key]), len(other[key])) == 2 and one[key][:2] == other[key][:2])
    )


@law(12)
@given(rows=st.one_of(RECORDS.map(lambda rows: {**rows, "identity_decisions": []}), DECIDED))
def test_who_is_who_keeps_its_promises(staging_database, rows):
    connection = _resolved(staging_database, rows)
    said = _said(connection)
    links = _links(connection)

    # Each record is once in an account; every web account and card is; every account has an anchor among its own.
    linked = [(feed, record) for feed, record, *_ in links]
    assert len(linked) == len(set(linked)) == len(said)
    for feed in ("shop_customers", "loyalty_members"):
        assert {(feed, row[_KEYS[feed]]) for row in rows[feed]} <= set(linked)
    assert set(linked) <= {(feed, row[key]) for feed, key in _KEYS.items() for row in rows[feed]}
    anchors = connection.execute("select account_id, anchor_feed, anchor_record_id from identity.anchors").fetchall()
    assert {account for account, *_ in anchors} == {link[2] for link in links}
    assert {tuple(anchor[1:]) for anchor in anchors} <= {(link[0], link[1]) for link in links if link[5]}

    # Of several decisions about one pair the last counts; who was declared different is not in one account.
    last = {}
    for decision in rows["identity_decisions"]:
        sides = frozenset((decision[f"{side}_feed"], decision[f"{side}_id"]) for side in ("left", "right"))
        last[sides] = decision["decision"]
    account = {(feed, record): found for feed, record, found, *_ in links}
    numbered = {("shop_orders", row["order_id"]) for row in rows["shop_orders"] if row["customer_id"]}
    if "same" not in last.values():
        for sides, word in last.items():
            one, other = sides
            # An order goes to the customer whose number it bears, whatever a steward says of it.
            if word == "different" and one in account and other in account and not numbered & {one, other}:
                assert account[one] != account[other]

    # Without a steward's word no account holds two given names that are known, or birth dates of two generations,
    # among what its people wrote of themselves.
    if not rows["identity_decisions"]:
        own = [row for row in said if row[3] and not (row[0] == "shop_orders" and row[15] is not None)]
        for one, other in combinations(own, 2):
            if one[2] == other[2]:
                assert not _are_two_names(one[5:12], other[5:12])
                if one[12] and other[12]:
                    assert abs(int(one[12][:4]) - int(other[12][:4])) < 15

    # A demoted value joins nobody.
    assert connection.execute(
        """
        select rule
        from identity.edges
        join identity.records as r on r.feed = right_feed and r.record_id = right_record_id
        join identity.contacts as c on c.contact_id = r.contact_id
        where decision = 'accepted' and (
            (rule = 'email' and c.email = 'noreply@shop.example') or (rule = 'phone' and c.phone = '+33600000000')
        )
        """
    ).fetchall() == []  # fmt: skip
    assert not [
        row for row in said if row[0] == "pos_tickets" and row[4] == "email" and row[13] == "noreply@shop.example"
    ]  # fmt: skip

    # Whatever is refused has a reason, what is accepted has none; web accounts and cards of an accepted pair are one
    # account (an order goes to the customer whose number it bears, whoever it was sent to).
    for decision, reason, rule, left, right in connection.execute(
        "select decision, reason, rule, (left_feed, left_record_id), (right_feed, right_record_id) from identity.edges"
    ).fetchall():
        assert (reason is None) == (decision == "accepted")
        if decision == "accepted" and rule != "decision" and not {left[0], right[0]} & {"shop_orders", "pos_tickets"}:
            assert account[tuple(left)] == account[tuple(right)]


@law(5)
@given(rows=DECIDED)
def test_a_revoked_decision_was_never_made(staging_database, rows):
    revoked = [{**decision, "revoked_at": "2020-06-30"} for decision in rows["identity_decisions"]]
    tomorrow = [{**decision, "decided_at": "2020-07-02"} for decision in rows["identity_decisions"]]
    expected = _tables(_resolved(staging_database, {**rows, "identity_decisions": []}))
    assert _tables(_resolved(staging_database, {**rows, "identity_decisions": revoked + tomorrow})) == expected


@law(5)
@given(rows=DECIDED)
def test_who_was_declared_different_is_in_two_accounts_even_if_both_say_the_same(staging_database, rows):
    """The two say nothing but the same; whatever else is decided between others, the two are never one."""
    twin = {"email": "a@mail.example", "first_name": "Ana", "last_name": "Roux", "created_at": "2019-01-01"}
    twins = [{"customer_id": number, **twin} for number in ("X0", "X1")]
    parted = {
        "decision_id": "X", "left_feed": "shop_customers", "left_id": "X1", "right_feed": "shop_customers",
        "right_id": "X0", "decision": "different", "decided_by": "steward", "decided_at": "2020-01-01",
    }  # fmt: skip
    everything = {
        **rows,
        "shop_customers": rows["shop_customers"] + twins,
        "identity_decisions": [*rows["identity_decisions"], parted],
    }
    found = {(link[0], link[1]): link[2] for link in _links(_resolved(staging_database, everything))}
    assert found["shop_customers", "X0"] != found["shop_customers", "X1"]


@st.composite
def _nights(draw):
    """A first night, and two on which some records are new, some say something else, and some are gone."""
    keys = {**_KEYS, "identity_decisions": "decision_id"}
    fates = st.lists(st.sampled_from(["kept", "kept", "changed", "gone"]), min_size=6, max_size=6)
    rows = draw(DECIDED)
    nights = [rows]
    for _ in range(2):
        news, before, rows = draw(DECIDED), rows, {}
        for name, key in keys.items():
            old = {row[key]: row for row in before[name]}
            new = {row[key]: row for row in news[name]}
            rows[name] = [
                old.get(number, new.get(number)) if fate == "kept" else new.get(number, old.get(number))
                for number, fate in zip(sorted({*old, *new}), draw(fates), strict=False)
                if fate != "gone"
            ]
        nights.append(rows)
    return nights


@law(3)
@given(nights=_nights())
def test_nights_one_after_another_are_the_full_build_and_ids_stay(staging_database, tmp_path, nights):
    seen, alive, previous = set(), set(), None
    for number, rows in enumerate(nights):
        said = {"run_id": f"night {number}", "previous": previous}
        connection = _resolved(staging_database, rows, **said)
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

        alone = _resolved(staging_database, rows)
        assert _clusters(alone) == _clusters(connection), "who is who must not depend on history"
        by_history = ("account_links", "anchors", "account_events", "account_redirects", "households")
        for name, table in _tables(alone).items():
            assert name in by_history or table == _tables(connection)[name]

        previous = _release(connection, tmp_path / f"{number % 2}.duckdb")
        resolve(connection, as_of=AS_OF, run_id="again", previous=previous)
        assert _links(connection) == links, "the same records on the next night keep their ids"
        assert connection.execute("from identity.account_events order by all").fetchall() == events
        seen |= now
        alive = now


@law(60, is_shrunk=True)
@given(pairs=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_components_are_those_of_an_independent_implementation(pairs):
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("create table pairs (l bigint, r bigint)")
        if pairs:
            connection.executemany("insert into pairs values (?, ?)", pairs)
        connect(connection, "pairs", "found")
        found = dict(connection.execute("from found").fetchall())
    graph = networkx.Graph(pairs)
    assert found == {node: min(part) for part in networkx.connected_components(graph) for node in part}


_COUNT = 7
_WEIGHTS = st.sampled_from([6.0, 8.0, 9.0, 12.0, 20.0, 21.0])


@st.composite
def _judged(draw):
    """Each pair of a few profiles at most once: joining or contradicting, pardoning, decided."""
    pairs, different = [], []
    for left, right in combinations(range(_COUNT), 2):
        kind = draw(
            st.sampled_from(["", "", "", "", "joins", "joins", "joins", "pardons", "same", "1", "2", "different"])
        )
        if kind in ("joins", "pardons"):
            pairs.append(Pair(left, right, draw(_WEIGHTS), joins=True, pardons=kind == "pardons"))
        elif kind == "same":
            pairs.append(Pair(left, right, 1000.0, joins=True, is_decided=True))
        elif kind in ("1", "2"):
            pairs.append(Pair(left, right, -5.0, conflict=int(kind)))
        elif kind == "different":
            different.append((left, right))
    return pairs, different


def _union(pairs, different):
    return guarded_union(range(_COUNT), pairs, different, rival_margin=4, bridge_weight=10)


def _by_hand(pairs, different):
    """The rules of the union once more, slowly: every question is asked of all pairs, nothing is kept beside them."""
    clusters = [frozenset([profile]) for profile in range(_COUNT)]
    settled = set()
    refusals = {}
    joining = [pair for pair in pairs if pair.joins]

    def between(one, other):
        return [
            pair for pair in pairs
            if (pair.left in one and pair.right in other) or (pair.left in other and pair.right in one)
        ]  # fmt: skip

    def is_parted(one, other):
        return any((a in one and b in other) or (a in other and b in one) for a, b in different)

    def are_two(one, other):
        return is_parted(one, other) or any(
            pair.conflict == 2 and frozenset((pair.left, pair.right)) not in settled for pair in between(one, other)
        )

    def exclude(one, other):
        across = between(one, other)
        return are_two(one, other) or (
            any(pair.conflict == 1 and frozenset((pair.left, pair.right)) not in settled for pair in across)
            and not any(pair.pardons for pair in across)
        )

    def is_torn(side, chosen, pair):
        for rival in clusters:
            if rival in (side, chosen):
                continue
            fits = [link.weight for link in between(side, rival) if link.joins]
            if (
                fits
                and max(fits) >= pair.weight - 4
                and not exclude(side, rival)
                and (are_two(rival, chosen) if pair.pardons else exclude(rival, chosen))
            ):
                return True
        return False

    for pair in sorted(joining, key=lambda pair: (not pair.is_decided, -pair.weight, pair.left, pair.right)):
        one = next(cluster for cluster in clusters if pair.left in cluster)
        other = next(cluster for cluster in clusters if pair.right in cluster)
        if one == other:
            continue
        reason = None
        if is_parted(one, other):
            reason = "declared_different"
        elif not pair.is_decided and exclude(one, other):
            reason = "conflict_inside"
        elif not pair.is_decided and (is_torn(one, other, pair) or is_torn(other, one, pair)):
            reason = "could_be_two_people"
        elif (
            not pair.is_decided
            and min(len(one), len(other)) >= 3
            and pair.weight < 10
            and len([link for link in between(one, other) if link.joins]) < 2
        ):
            reason = "weak_bridge"
        if reason:
            refusals[pair.left, pair.right] = reason
            continue
        clusters = [cluster for cluster in clusters if cluster not in (one, other)] + [one | other]
        if pair.is_decided:
            settled |= {frozenset(two) for two in combinations(one | other, 2)}
    return {profile: min(cluster) for cluster in clusters for profile in cluster}, refusals


@law(300, is_shrunk=True)
@given(judged=_judged(), order=st.randoms(use_true_random=False))
def test_a_guarded_union_is_what_its_rules_say_whatever_the_order(judged, order):
    pairs, different = judged
    labels, refusals = _union(pairs, different)
    assert (labels, refusals) == _union(order.sample(pairs, len(pairs)), [pair[::-1] for pair in different])
    assert (labels, refusals) == _by_hand(pairs, different)
    pardoned = {frozenset((pair.left, pair.right)) for pair in pairs if pair.pardons}
    has_stewards = any(pair.is_decided for pair in pairs)
    for left, right in different:
        assert labels[left] != labels[right]
    for pair in pairs:
        together = labels[pair.left] == labels[pair.right]
        if pair.joins:
            assert together or (pair.left, pair.right) in refusals
        if together and not has_stewards:
            assert pair.conflict < 2
            assert pair.conflict == 0 or pardoned
    if not refusals:
        graph = networkx.Graph((pair.left, pair.right) for pair in pairs if pair.joins)
        graph.add_nodes_from(range(_COUNT))
        assert labels == {node: min(part) for part in networkx.connected_components(graph) for node in part}
