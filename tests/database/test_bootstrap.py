"""Steps run when what they provide is first used, once per instance, and say how long they took."""

from __future__ import annotations

import re
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import duckdb
import pytest

import webfoot
from webfoot.database.bootstrap import NotConfigured, Resources, Step, StepFailed
from webfoot.database.secrets import secrets_of
from webfoot.database.steps import DEFAULT_BOOTSTRAP, motherduck, postgres

Native = duckdb.DuckDBPyConnection


@dataclass
class Counted:
    """A step's work, which makes a table and counts."""

    table: str = "lookup"
    runs: list[int] = field(default_factory=list)

    def __call__(self, con: Native, _: Resources) -> None:
        self.runs.append(threading.get_ident())
        con.execute(f"CREATE TABLE IF NOT EXISTS {self.table} AS SELECT 7 AS n")


def step(work: Counted, name: str = "lookup") -> Step:
    return Step(name=name, catalogs=(work.table,), paths=(f"{work.table}://",), prepare=work)


def test_an_author_s_step_runs_when_it_is_first_used_and_once() -> None:
    work = Counted()
    with webfoot.session(bootstrap=(step(work),)) as con:
        con.execute("SELECT 1")
        con.execute("SELECT 'lookup' -- lookup")
        assert (work.runs, con.steps()) == ([], ())
        for _ in range(3):
            assert con.execute("FROM Lookup").fetchall() == [(7,)]
        assert len(work.runs) == 1
        (ran,) = con.steps()
    assert (ran.name, ran.skipped) == ("lookup", None)
    assert ran.seconds > 0


@pytest.mark.parametrize(
    "use",
    [
        lambda con: con.sql("FROM lookup"),
        lambda con: con.query("FROM lookup"),
        lambda con: con.table("lookup"),
        lambda con: con.execute(con.extract_statements("FROM lookup")[0]),
        lambda con: con.execute("SELECT ?", ["lookup://x"]),
        lambda con: con.execute("SELECT $p", {"p": ["a", "LOOKUP://x"]}),
        lambda con: con.execute(query="SELECT ?", parameters=["lookup://x"]),
        lambda con: con.executemany("SELECT ?", [["a"], ["lookup://x"]]),
        lambda con: con.cursor().execute("FROM lookup"),
        lambda con: con.require("lookup"),
    ],
)
def test_every_way_to_name_it_is_seen(use: object) -> None:
    work = Counted()
    with webfoot.session(bootstrap=(step(work),)) as con:
        use(con)  # type: ignore[operator]
        assert len(work.runs) == 1


def test_a_path_that_is_read_by_a_method_is_seen() -> None:
    work = Counted()
    with webfoot.session(bootstrap=(step(work),)) as con:
        with pytest.raises(duckdb.Error):
            con.read_parquet(["lookup://x.parquet"])
        assert len(work.runs) == 1


def test_each_instance_runs_it_for_itself() -> None:
    work = Counted()
    for _ in range(2):
        with webfoot.session(bootstrap=(step(work),)) as con:
            con.execute("FROM lookup")
    assert len(work.runs) == 2


def test_it_runs_once_for_all_threads_and_they_wait_for_it() -> None:
    begun, work = threading.Event(), Counted()

    def slow(con: Native, resources: Resources) -> None:
        begun.set()
        # The others have asked by now, or wait at the lock.
        duckdb.execute("SELECT sum(hash(n)) FROM range(3_000_000) t(n)").fetchone()
        work(con, resources)

    slowly = Step(name="slow", catalogs=("lookup",), prepare=slow)

    def read(_: int) -> object:
        with webfoot.cursor("slow step", bootstrap=(slowly,)) as con:
            return con.execute("FROM lookup").fetchall()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, range(16))) == [[(7,)]] * 16
    assert begun.is_set()
    assert len(work.runs) == 1


def test_a_statement_runs_only_what_it_needs_in_the_order_of_the_bootstrap() -> None:
    works = [Counted(name) for name in ("first", "second", "third")]
    bootstrap = tuple(step(work, work.table) for work in works)
    with webfoot.session(bootstrap=bootstrap) as con:
        con.execute("SELECT * FROM third, first")
        assert [run.name for run in con.steps()] == ["first", "third"]
        assert not works[1].runs


def test_it_runs_again_when_what_it_rests_on_has_changed() -> None:
    work, token = Counted(), ["one"]
    rotating = Step(name="lookup", catalogs=("lookup",), prepare=work, rests_on=lambda _: token[0])
    with webfoot.session(bootstrap=(rotating,)) as con:
        for value, runs in (("one", 1), ("one", 1), ("two", 2), ("two", 2), ("one", 3)):
            token[0] = value
            con.execute("FROM lookup")
            assert len(work.runs) == runs
        token[0] = "three"
        con.execute("SELECT 1")
        assert len(work.runs) == 3


def test_a_step_that_fails_is_named_and_tried_again() -> None:
    work, failures = Counted(), [LookupError("no key of that name")]

    def fail_once(con: Native, resources: Resources) -> None:
        if failures:
            raise failures.pop()
        work(con, resources)

    failing = Step(name="lookup", catalogs=("lookup",), prepare=fail_once)
    with webfoot.session(bootstrap=(failing,)) as con:
        with pytest.raises(StepFailed, match="the bootstrap step lookup failed: no key of that"):
            con.execute("FROM lookup")
        assert con.steps() == ()
        assert con.execute("FROM lookup").fetchall() == [(7,)]


def test_a_step_may_use_what_it_provides_itself() -> None:
    def nested(con: Native, resources: Resources) -> None:
        with webfoot.cursor("nested", bootstrap=bootstrap) as own:
            own.execute("CREATE TABLE lookup AS SELECT 7 AS n")

    bootstrap = (Step(name="lookup", catalogs=("lookup",), prepare=nested),)
    with webfoot.cursor("nested", bootstrap=bootstrap) as con:
        assert con.execute("FROM lookup").fetchall() == [(7,)]


def test_what_is_not_configured_is_skipped_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POSTGRES_DSN", raising=False)
    with webfoot.session() as con:
        # An alias of that name is nothing to fail for.
        assert con.execute("SELECT pg.n FROM (SELECT 1 AS n) pg").fetchall() == [(1,)]
        assert [(run.name, run.skipped) for run in con.steps()] == [
            ("postgres", "there is no secret POSTGRES_DSN")
        ]
        with pytest.raises(StepFailed, match="not configured: there is no secret POSTGRES_DSN"):
            con.require("postgres")


def test_to_require_what_there_is_not_names_what_there_is() -> None:
    told = r"s3 is no bootstrap step here; there are \['httpfs'"
    with webfoot.session(bootstrap=("httpfs",)) as con, pytest.raises(StepFailed, match=told):
        con.require("s3")


def test_names_of_steps_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="'sqs' is no bootstrap step; there are httpfs, s3, post"):
        webfoot.session(bootstrap=("sqs",)).__enter__()
    with pytest.raises(ValueError, match="each bootstrap step needs a name of its own"):
        webfoot.session(bootstrap=("s3", "s3")).__enter__()


def test_the_default_is_four_steps() -> None:
    assert [step.name for step in DEFAULT_BOOTSTRAP] == ["httpfs", "s3", "postgres", "motherduck"]


def test_steps_that_are_alike_share_an_instance() -> None:
    """A UDF that writes its bootstrap where it uses it makes no instance per call."""
    assert postgres("sales", options={"sslmode": "require"}) == postgres(
        "sales", options={"sslmode": "require"}
    )
    assert postgres("sales") != postgres("other")
    for step in range(2):
        with webfoot.cursor("alike", bootstrap=(postgres("sales"), motherduck("x"))) as con:
            con.execute("CREATE TABLE IF NOT EXISTS t AS SELECT 0 AS n")
            con.execute("INSERT INTO t VALUES (1)")
            assert con.execute("SELECT count(*) FROM t").fetchone() == (step + 2,)


@dataclass
class Recorded:
    """A connection, and extensions, that note what they are told."""

    said: list[str] = field(default_factory=list)

    def execute(self, sql: str, _: object = None) -> Recorded:
        self.said.append(sql)
        return self

    def fetchone(self) -> tuple[bool]:
        return (False,)

    def load(self, _: object, name: str) -> None:
        self.said.append(f"load {name}")


def resources(recorded: Recorded, **environment: str) -> Resources:
    return Resources(secrets_of(("environment",), environment), recorded, environment)  # type: ignore[arg-type]


def test_motherduck_is_attached_with_its_token() -> None:
    """Not run: its extension is in no package of ours."""
    recorded = Recorded()
    prepare = motherduck("sales").prepare
    prepare(recorded, resources(recorded, MOTHERDUCK_TOKEN="it's one"))  # type: ignore[arg-type]
    recorded.said.pop(1)  # Whether DuckDB logs.
    assert recorded.said == [
        "load motherduck",
        "SET motherduck_token = 'it''s one'",
        "ATTACH IF NOT EXISTS 'md:sales' AS sales",
    ]


def test_motherduck_is_skipped_without_one() -> None:
    recorded = Recorded()
    with pytest.raises(NotConfigured, match="there is no secret MOTHERDUCK_TOKEN"):
        motherduck().prepare(recorded, resources(recorded))  # type: ignore[arg-type]
    assert recorded.said == []


@pytest.mark.parametrize(
    "text",
    [
        r"host=h port=5 dbname=d user='a b' password='it\'s \\' sslmode=require",
        "postgresql://a%20b:it%27s%20%5C@h:5/d?sslmode=require",
        "postgres://a%20b:it%27s%20%5C@h:5/d?sslmode=require",
    ],
)
def test_what_is_secret_of_a_postgres_goes_into_a_secret(text: str) -> None:
    recorded = Recorded()
    prepare = postgres(options={"connect_timeout": "3"}).prepare
    prepare(recorded, resources(recorded, POSTGRES_DSN=text))  # type: ignore[arg-type]
    load, _, secret, attach = recorded.said
    assert load == "load postgres"
    assert secret == (
        "CREATE OR REPLACE SECRET webfoot_pg (TYPE postgres, HOST 'h', PORT '5', DATABASE 'd',"
        " USER 'a b', PASSWORD 'it''s \\')"
    )
    assert re.sub(r" fallback_application_name=''[0-9a-f]{32}''", "", attach) == (
        "ATTACH OR REPLACE 'keepalives=''1'' keepalives_idle=''10'' keepalives_interval=''5''"
        " keepalives_count=''3'' connect_timeout=''3'' application_name=''webfoot''"
        " sslmode=''require''' AS pg (TYPE postgres, READ_ONLY, SECRET webfoot_pg)"
    )


def test_a_secret_that_duckdb_does_not_take_is_not_shown() -> None:
    """DuckDB shows the line of SQL at which it stumbles."""

    class Refusing(Recorded):
        def execute(self, sql: str, values: object = None) -> Recorded:
            if sql.startswith("CREATE"):
                raise duckdb.ParserException(f"near hunter2\n\nLINE 1: {sql}")
            return super().execute(sql, values)

    recorded = Refusing()
    with pytest.raises(RuntimeError, match=r"^near …$") as caught:
        postgres().prepare(recorded, resources(recorded, POSTGRES_DSN="password=hunter2"))  # type: ignore[arg-type]
    assert "hunter2" not in "".join(traceback.format_exception(caught.value)).replace(
        'POSTGRES_DSN="password=hunter2"', ""
    )


@pytest.mark.parametrize("text", ["hunter2", "host=h hunter2", "postgresql://h:hunter2/d"])
def test_what_is_no_connection_string_is_not_shown(text: str) -> None:
    recorded = Recorded()
    with pytest.raises(ValueError, match=r"the secret POSTGRES_DSN|the port in the") as caught:
        postgres().prepare(recorded, resources(recorded, POSTGRES_DSN=text))  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
