"""What happens to an account's id when its records meet, part or disappear."""

from datetime import date

import pytest

from dagster_project.domain.identity import resolve

ANA = {"first_name": "Ana", "created_at": "2019-01-01"}


@pytest.fixture
def night(staging_database, tmp_path):
    """Run one night after another on the given web accounts and decisions, each on the release of the one before."""
    released = []

    def run(customers, decisions=()):
        connection = staging_database({"shop_customers": customers, "identity_decisions": list(decisions)})
        number = len(released)
        resolve(
            connection,
            as_of=date(2020, 7, 1 + number),
            run_id=f"night {number}",
            previous=released[-1] if released else None,
        )
        path = tmp_path / f"{number}.duckdb"
        connection.execute(f"attach '{path}' as released; create schema released.identity")
        for table in ("account_links", "anchors", "account_events", "account_redirects"):
            connection.execute(f"create table released.identity.{table} as from identity.{table}")
        connection.execute("detach released")
        released.append(path)
        return connection

    return run


def ids(connection):
    return dict(connection.execute("select record_id, account_id from identity.account_links").fetchall())


def last_events(connection):
    return connection.execute(
        "select event, account_id, other_account_id, cause from identity.account_events "
        "where run_id = (select max(run_id) from identity.account_events) order by all"
    ).fetchall()


def redirects(connection):
    return dict(connection.execute("select old_account_id, account_id from identity.account_redirects").fetchall())


def test_in_a_merge_the_larger_side_keeps_its_id_and_the_smaller_is_redirected(night):
    apart = [
        {"customer_id": "C1", "email": "a@mail.example", **ANA},
        {"customer_id": "C2", "email": "b@mail.example", **ANA},
        {"customer_id": "C3", "email": "b@mail.example", "city": "Lyon", **ANA},
    ]
    before = ids(night(apart))
    connection = night([{**apart[0], "email": "b@mail.example"}, *apart[1:]])
    assert set(ids(connection).values()) == {before["C2"]}
    assert redirects(connection) == {before["C1"]: before["C2"]}
    ((event, account, other, cause),) = last_events(connection)
    assert (event, account, other) == ("merged", before["C1"], before["C2"])
    assert "email, shop_customers|C1 - shop_customers|" in cause


def test_redirects_of_two_merges_lead_to_the_account_that_lives(night):
    people = [{"customer_id": f"C{n}", "email": f"{n}@mail.example", "city": f"City {n}", **ANA} for n in range(7)]

    def with_emails(*emails):
        return [{**person, "email": f"{email}@mail.example"} for person, email in zip(people, emails, strict=True)]

    first = ids(night(with_emails(0, 1, 1, 2, 2, 2, 2)))
    night(with_emails(1, 1, 1, 2, 2, 2, 2))
    last = night(with_emails(2, 2, 2, 2, 2, 2, 2))
    assert set(ids(last).values()) == {first["C3"]}
    assert redirects(last) == {first["C0"]: first["C3"], first["C1"]: first["C3"]}


def test_in_a_split_the_larger_side_keeps_the_id(night):
    people = [{"customer_id": f"C{n}", "email": "a@mail.example", "city": f"City {n}", **ANA} for n in range(3)]
    before = ids(night(people))
    connection = night([{**people[0], "email": "z@mail.example"}, *people[1:]])
    after = ids(connection)
    assert after["C1"] == after["C2"] == before["C0"]
    assert after["C0"] != before["C0"]
    ((event, account, other, cause),) = last_events(connection)
    assert (event, account, other) == ("split", after["C0"], before["C0"])
    assert cause


def test_revoking_a_decision_restores_the_accounts_and_gives_no_id_twice(night):
    people = [{"customer_id": "C1", **ANA}, {"customer_id": "C2", "city": "Lyon", **ANA}]
    same = {
        "decision_id": "D1", "left_feed": "shop_customers", "left_id": "C1", "right_feed": "shop_customers",
        "right_id": "C2", "decision": "same", "decided_by": "steward", "decided_at": "2020-01-01",
    }  # fmt: skip
    first = ids(night(people))
    joined = ids(night(people, [same]))
    again = ids(night(people, [{**same, "revoked_at": "2020-07-02"}]))
    assert joined["C1"] == joined["C2"] == first["C1"] == again["C1"]
    assert again["C2"] not in first.values()


def test_an_account_without_records_is_retired_and_its_id_does_not_come_back(night):
    people = [{"customer_id": "C1", **ANA}, {"customer_id": "C2", **ANA}]
    first = ids(night(people))
    gone = night(people[:1])
    assert [event[:3] for event in last_events(gone)] == [("retired", first["C2"], None)]
    back = ids(night(people))
    assert back["C1"] == first["C1"]
    assert back["C2"] != first["C2"]


def test_an_id_says_nothing_of_the_person(night):
    connection = night([{"customer_id": "C1", **ANA}])
    ((found,),) = connection.execute(
        "select regexp_full_match(account_id, 'A[0-9A-F]{16}') from identity.anchors"
    ).fetchall()
    assert found
