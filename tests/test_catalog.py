"""The catalog's SQL: types, defaults, names; and that writing it asks no server for anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb
import pytest
from tests.server_process import EVERY_TYPE, connect, write_udfs

from webfoot.assembly import load_folder
from webfoot.catalog import Kind
from webfoot.catalog.macros import distinct
from webfoot.catalog.script import catalog_script, standalone_script
from webfoot.database import write_database
from webfoot.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.registry import Registry

# Nobody listens there: a request would fail, and the test with it.
NOWHERE = "http://127.0.0.1:9"


def registry_of(folder: Path) -> Registry:
    registry = load_folder(Settings(folder=folder, runner="inline"))
    assert not registry.problems
    return registry


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return registry_of(write_udfs(tmp_path_factory.mktemp("every"), every=EVERY_TYPE))


def script_of(registry: Registry, kind: Kind = Kind.TYPED, base_url: str = NOWHERE) -> str:
    return catalog_script(registry, base_url, dict.fromkeys(registry, 600.0), kind)


def filled(script: str) -> duckdb.DuckDBPyConnection:
    """A database with the catalog; httpfs is there, so a URL could be read."""
    connection = connect()
    connection.execute(script)
    return connection


def signatures(connection: duckdb.DuckDBPyConnection) -> dict[str, dict[str, str | None]]:
    """Macros' parameters and types."""
    found = connection.execute(
        "SELECT function_name, parameters, parameter_types FROM duckdb_functions()"
        " WHERE function_type = 'table_macro' AND NOT internal"
    ).fetchall()
    return {name: dict(zip(names, types, strict=True)) for name, names, types in found}


def defaults(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """A macro's signature as the Binder shows it to somebody who got it wrong."""
    wrong = ", ".join(["0::UTINYINT[][][]"] * 20)
    with pytest.raises(duckdb.BinderException) as caught:
        connection.execute(f'FROM "{name}"({wrong})')
    found = re.search(rf"\t{name}\((.*)\)\n", str(caught.value))
    assert found is not None
    return found[1]


@pytest.mark.parametrize("kind", Kind)
def test_writing_it_makes_no_request(every: Registry, kind: Kind, tmp_path: Path) -> None:
    # Also not for UDFs without parameters, or with nothing but partitions.
    filled(script_of(every, kind)).close()
    versions = {Kind.TYPED: "v1.4.0", Kind.UNTYPED: "v1.0.0"}
    write_database(tmp_path / "catalog.duckdb", script_of(every, kind), versions[kind])
    assert not (tmp_path / "catalog.duckdb.wal").exists()
    with duckdb.connect(str(tmp_path / "catalog.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM udfs").fetchall() == [(len(every),)]


def test_parameters_have_duckdb_s_types(every: Registry) -> None:
    with filled(script_of(every)) as con:
        told = signatures(con)
    assert told["numbers"] == {
        "whole": "BIGINT",
        "real": "DOUBLE",
        "exact": None,  # A decimal of any scale.
        "yes": "BOOLEAN",
        "few": "BIGINT",
        "maybe": "BIGINT",
        "share": "DOUBLE",
        "_limit": "BIGINT",
    }
    assert told["texts"]["kind"] == told["texts"]["colour"] == told["texts"]["text"] == "VARCHAR"
    assert told["texts"]["id"] == "UUID"
    assert [*told["moments"].values()][:5] == ["DATE", "TIMESTAMP", "TIME", "INTERVAL", "DATE"]
    lists = ["BIGINT[]", "VARCHAR[]", "DATE[]", "VARCHAR[]", "DOUBLE[]"]
    assert [*told["lists"].values()][:5] == lists
    assert {told["objects"][name] for name in ("tree", "point", "free")} == {"JSON"}
    assert told["lists_each"]["days"] == "DATE[][]"
    assert told["numbers_each"]["whole"] == "BIGINT[]"
    assert told["numbers_each"]["_partial"] == "BOOLEAN"


def test_defaults_are_the_udf_s_and_required_ones_have_none(every: Registry) -> None:
    with filled(script_of(every)) as con:
        assert defaults(con, "numbers").startswith(
            "whole BIGINT, real DOUBLE := 0.5, exact := '1.50', yes BOOLEAN := false"
        )
        assert "maybe BIGINT := NULL" in defaults(con, "numbers")
        moments = defaults(con, "moments")
        assert "day DATE := '2024-01-31'::DATE" in moments
        assert "clock TIME := '09:00:00'::TIME" in moments
        assert "numbers BIGINT[] := [1, 2]" in defaults(con, "lists")
        assert "text VARCHAR := 'é 🦆'" in defaults(con, "texts")


def test_without_types_every_parameter_can_be_named(every: Registry) -> None:
    with filled(script_of(every, Kind.UNTYPED)) as con:
        assert set(signatures(con)["numbers"].values()) == {None}
        # DuckDB before 1.4 would take a parameter without a default only by its position.
        assert "whole := NULL" in defaults(con, "numbers")


def test_comments_say_what_it_is_and_what_it_takes(every: Registry) -> None:
    with filled(script_of(every)) as con:
        (comment,) = con.execute(
            "SELECT comment FROM duckdb_functions() WHERE function_name = 'numbers'"
        ).fetchone() or [""]
    assert comment.startswith("Numbers.")
    assert "whole (int): A whole number." in comment


def test_the_tables_describe_udfs_and_parameters(every: Registry) -> None:
    with filled(script_of(every)) as con:
        rows = con.execute(
            "SELECT url, cache_s, tags, each FROM udfs WHERE name = 'numbers'"
        ).fetchall()
        assert rows == [(f"{NOWHERE}/udfs/numbers.parquet", 600, ["numbers"], "numbers_each")]
        told = con.execute(
            "SELECT position, type, duckdb_type, required, default_value, minimum, maximum"
            " FROM parameters WHERE udf = 'numbers' AND name IN ('whole', 'few')"
        ).fetchall()
        assert told == [
            (1, "int", "BIGINT", True, None, None, None),
            (5, "int", "BIGINT", False, "3", 0, 10),
        ]
        choices = con.execute("SELECT choices FROM parameters WHERE name = 'colour'").fetchone()
        assert choices == (["red", "deep blue"],)


def test_the_script_runs_again_and_meets_no_table_of_the_users(every: Registry) -> None:
    script = standalone_script(every, NOWHERE, dict.fromkeys(every, 1.0), Kind.TYPED)
    with connect() as con:
        con.execute("CREATE TABLE udfs AS SELECT 1 AS mine; CREATE TABLE parameters AS SELECT 2 p")
        con.execute(script)
        con.execute(script)
        assert con.execute("FROM udfs").fetchall() == [(1,)]
        assert con.execute("SELECT count(*) FROM udfs.udfs").fetchall() == [(len(every),)]


CLASHES = """
    from webfoot import udf

    @udf
    def delays(month: int = 1): return []
    @udf
    def delays_each(a: int = 1, A: int = 2): return []
    @udf
    def Delays(): return []
    @udf
    def udfs(n: int = 1): return []
    @udf
    def range(n: int = 1): return []
    @udf
    def order(select: int = 1, table: str = "it's"): return []
"""


def test_names_that_clash_are_numbered_and_told(tmp_path: Path) -> None:
    registry = registry_of(write_udfs(tmp_path, clashes=CLASHES))
    with filled(script_of(registry)) as con:
        told = signatures(con)
        rows = con.execute("SELECT name, macro, each FROM udfs").fetchall()
        names = {name: (macro, each) for name, macro, each in rows}
        renamed = con.execute(
            "SELECT name, argument FROM parameters WHERE udf = 'delays_each'"
        ).fetchall()
    # A UDF keeps its own name before the further form of another.
    assert names["delays_each"] == ("delays_each", "delays_each_each")
    assert names["delays"] == ("delays_2", "delays_2_each")
    assert names["Delays"] == ("Delays", None)
    assert {macro for macro, _ in names.values()} <= set(told)
    assert renamed == [("a", "a"), ("A", "A_2")]
    assert "udfs" in told
    assert told["order"]["select"] == "BIGINT"


def test_distinct_numbers_what_sql_takes_for_one() -> None:
    assert distinct(["a", "A", "b", "a_2"]) == ["a", "A_2", "b", "a_2_2"]
    assert distinct(["x_each"], ["X_EACH"]) == ["x_each_2"]


def test_no_text_ends_its_literal(tmp_path: Path) -> None:
    hostile = "'; DROP TABLE udfs; --"
    text = f'''
        from webfoot import udf

        @udf(tags=["it's"])
        def hostile(name: str = "{hostile}"):
            """It's {hostile}

            Args:
                name: {hostile}
            """
            return []
    '''
    registry = registry_of(write_udfs(tmp_path, hostile=text))
    with filled(script_of(registry, base_url="http://h/it's")) as con:
        assert con.execute("SELECT default_value, help FROM parameters").fetchall() == [
            (hostile, hostile)
        ]
        assert con.execute("SELECT title FROM udfs").fetchone() == (f"It's {hostile}",)


# --- partitions ---

PARTITIONED = """
    import enum
    from typing import Annotated, Literal
    from pydantic import Field
    from webfoot import udf

    class Size(enum.Enum):
        SMALL = "s m"
        LARGE = 3

    @udf(partitions={partitions})
    def cut(
        region: Literal["a", "b c"], month: Annotated[int, Field(ge=1, lt=4)] = 1,
        size: Size | None = None, whole: bool = False, free: str = "x", number: int = 1,
        wide: Annotated[int, Field(ge=0, le=5000)] = 0,
    ):
        return []
"""


def test_partitions_are_paths_for_every_combination(tmp_path: Path) -> None:
    partitions = ["region", "size", "whole"]
    text = PARTITIONED.format(partitions=partitions)
    registry = registry_of(write_udfs(tmp_path, cut=text))
    script = script_of(registry)
    paths = re.findall(r"'(region=[^']+)'", script)
    assert len(paths) == 2 * 2 * 2
    assert "region=b%20c/size=s%20m/whole=true" in paths
    with filled(script) as con:
        assert [*signatures(con)["cut_partitioned"]] == [
            "month",
            "free",
            "number",
            "wide",
            "_limit",
        ]
        assert con.execute("SELECT partitions, partitioned FROM udfs").fetchall() == [
            (partitions, "cut_partitioned")
        ]


@pytest.mark.parametrize(
    ("partitions", "message"),
    [
        (["free"], "the partition free has the type str, whose values cannot be listed; use a Lit"),
        (["number"], "number: Annotated[int, Field(ge=1, le=12)]"),
        (["wide"], "which cannot be listed; bound it"),
        (["regoin"], "partitions names 'regoin', which is no parameter; the function has region,"),
        (["month", "month"], "names a parameter twice"),
    ],
)
def test_partitions_that_cannot_be_listed_are_refused(
    partitions: list[str], message: str, tmp_path: Path
) -> None:
    folder = write_udfs(tmp_path, cut=PARTITIONED.format(partitions=partitions))
    (problem,) = load_folder(Settings(folder=folder, runner="inline")).problems
    assert problem.message.startswith("DefinitionError: cut: ")
    assert message in problem.message
