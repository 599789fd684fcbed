from datetime import date
import duckdb, pytest
from hypothesis import given
from dagster_project.domain.identity import resolve, night, blocking
from test_identity_laws import _nights, law, AS_OF, _release, ACCOUNT_TABLES

def replace_staging(connection, rows, fresh):
    for (t,) in connection.execute("select table_name from duckdb_tables() where schema_name='staging'").fetchall():
        connection.execute(f"delete from staging.{t}")
    path=None
    for name, records in rows.items():
        for r in records:
            connection.execute(f"insert into staging.stg_{name} ({', '.join(r)}) values ({', '.join('?'*len(r))})", list(r.values()))

def tables(c):
    names=[n for (n,) in c.execute("select table_name from information_schema.tables where table_schema='identity' order by 1").fetchall()]
    return {n: c.execute(f"from identity.{n} order by all").fetchall() for n in names}

@law(60)
@given(nights=_nights())
def test_nights(staging_database, tmp_path, nights):
    night.LARGE_NIGHT = 1e9
    blocking.SMALL_FILE_PROFILES=0
    try:
        previous=None
        long=staging_database(nights[0])
        for number, rows in enumerate(nights):
            replace_staging(long, rows, None)
            said={"run_id": f"n{number}", "previous": previous}
            resolve(long, as_of=AS_OF, **said)
            alone=staging_database(rows)
            resolve(alone, as_of=AS_OF, **said)
            a,b=tables(long),tables(alone)
            assert a.keys()==b.keys()
            for n in b:
                assert a[n]==b[n], (number, n, [x for x in a[n] if x not in b[n]][:3], [x for x in b[n] if x not in a[n]][:3])
            previous=tmp_path/f"{number%2}.duckdb"; previous.unlink(missing_ok=True)
            alone.execute(f"attach '{previous}' as released; create schema released.identity; create schema released.release; create table released.release.info as select 'n{number}' as release_id")
            for t in (*ACCOUNT_TABLES,"account_link_history"):
                alone.execute(f"create table released.identity.{t} as from identity.{t}")
            alone.execute("detach released")
    finally:
        blocking.SMALL_FILE_PROFILES=10_000; night.LARGE_NIGHT=0.2
