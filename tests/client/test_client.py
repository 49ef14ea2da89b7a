"""The client and a real server, and the same calls on a folder in this process."""

from __future__ import annotations

import datetime as dt
import enum
import gc
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import duckdb
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel
from tests.server_process import COUNT, EVERY_TYPE, Server, connect, serve, write_udfs

import webfoot
from webfoot.errors import (
    InvalidParameters,
    RunCancelled,
    UdfFailed,
    UdfNotFound,
    Unreachable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDFS = """
    import time
    from datetime import date
    from pathlib import Path
    from webfoot import udf
    from ._count import count

    @udf
    def squares(n: int = 3):
        '''The first square numbers.

        Args:
            n: How many.
        '''
        count(f"squares {n}")
        if n < 0:
            raise ValueError(f"{n} is too few")
        return {"number": list(range(n)), "square": [i * i for i in range(n)]}

    @udf
    def words(text: str = "default", maybe: int | None = 5, end: date = date(2024, 1, 31)):
        return [{"text": text, "maybe": maybe, "end": end}]

    @udf(cache=0)
    def always():
        return [{"same": 1}]

    @udf
    def sleeps(seconds: float, mark: str = ""):
        count(f"begun {mark}")
        time.sleep(seconds)
        count(f"done {mark}")
        return [{"slept": seconds}]

    @udf
    def two(a: int, b: int):
        return [{"sum": a + b}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(
        tmp_path_factory.mktemp("sdk"), _count=COUNT, some=UDFS, every_type=EVERY_TYPE
    )
    with serve(folder) as running:
        yield running


# One call.


def test_a_call_gives_a_table(either: webfoot.Client) -> None:
    assert either.run("squares", n=3).arrow().to_pydict() == {
        "number": [0, 1, 2],
        "square": [0, 1, 4],
    }


def test_a_server_and_a_folder_give_equal_frames(
    client: webfoot.Client, in_process: webfoot.Client
) -> None:
    for name, parameters in (("squares", {"n": 5}), ("words", {}), ("numbers", {"whole": 1})):
        tables = [one.run(name, **parameters) for one in (client, in_process)]
        assert tables[0].schema == tables[1].schema
        pd.testing.assert_frame_equal(tables[0].df(), tables[1].df())
    first, second = (one.map("squares", [1, 0, 4]).df() for one in (client, in_process))
    pd.testing.assert_frame_equal(first, second)


def test_errors_come_as_the_classes_that_the_server_raised(either: webfoot.Client) -> None:
    with pytest.raises(UdfFailed, match="-1 is too few") as failed:
        either.run("squares", n=-1)
    assert failed.value.udf == "squares"
    assert failed.value.run
    with pytest.raises(InvalidParameters, match="m: unknown parameter; known: n") as wrong:
        either.run("squares", m=1)
    assert wrong.value.errors[0]["parameter"] == "m"
    with pytest.raises(UdfNotFound, match="did you mean 'squares'"):
        either.run("square")


def test_in_process_an_error_shows_where_the_author_raised_it(in_process: webfoot.Client) -> None:
    with pytest.raises(UdfFailed) as failed:
        in_process.run("squares", n=-2)
    assert "some.py" in failed.value.__notes__[0]


class Colour(enum.Enum):
    RED = "red"
    BLUE = "deep blue"


class Inner(BaseModel):
    weight: float = 1
    colours: list[Colour] = []


class Tree(BaseModel):
    name: str
    inner: Inner = Inner()


@dataclass
class Point:
    x: float
    y: float = 0


VALUES: list[tuple[str, str, Any, str]] = [
    ("numbers", "whole", 7, "7"),
    ("numbers", "whole", np.int64(7), "7"),
    ("numbers", "real", 1e300, "1e+300"),
    ("numbers", "real", np.float32(0.5), "0.5"),
    ("numbers", "real", 3, "3.0"),
    ("numbers", "exact", Decimal("2.50"), "2.50"),
    ("numbers", "yes", True, "True"),
    ("numbers", "yes", np.bool_(True), "True"),
    ("numbers", "maybe", None, "None"),
    ("texts", "text", "a&b=c %2F/ +é 🦆\n'\"", "a&b=c %2F/ +é 🦆\n'\""),
    ("texts", "text", "", ""),
    ("texts", "text", "[1]", "[1]"),
    ("texts", "text", "true", "true"),
    ("texts", "kind", 3, "3"),
    ("texts", "kind", "b c", "b c"),
    ("texts", "colour", Colour.BLUE, "Colour.BLUE"),
    ("texts", "id", UUID(int=7), str(UUID(int=7))),
    ("moments", "day", dt.date(2024, 2, 29), "2024-02-29"),
    ("moments", "at", dt.datetime(2024, 2, 29, 1, 2, 3), "2024-02-29 01:02:03"),  # noqa: DTZ001
    ("moments", "at", dt.datetime(2024, 2, 29, tzinfo=dt.UTC), "2024-02-29 00:00:00+00:00"),
    ("moments", "at", pd.Timestamp("2024-02-29 01:02:03"), "2024-02-29 01:02:03"),
    ("moments", "at", np.datetime64("2024-02-29T01:02:03"), "2024-02-29 01:02:03"),
    ("moments", "clock", dt.time(1, 2, 3, 4), "01:02:03.000004"),
    ("moments", "span", dt.timedelta(days=1, seconds=2), "1 day, 0:00:02"),
    ("lists", "numbers", [3, 4], "[3, 4]"),
    ("lists", "numbers", (3, 4), "[3, 4]"),
    ("lists", "numbers", np.array([3, 4]), "[3, 4]"),
    ("lists", "numbers", pd.Series([3, 4]), "[3, 4]"),
    ("lists", "numbers", [], "[]"),
    ("lists", "words", ["a,b", "", '"'], "['a,b', '', '\"']"),
    ("lists", "days", [dt.date(2024, 2, 29)], "[datetime.date(2024, 2, 29)]"),
    ("objects", "free", {"a": 1}, "{'a': 1}"),
    ("objects", "point", Point(1.5), "Point(x=1.5, y=0.0)"),
    ("objects", "point", {"x": 1.5}, "Point(x=1.5, y=0.0)"),
]


@pytest.mark.parametrize(("name", "parameter", "value", "expected"), VALUES, ids=str)
def test_a_python_value_arrives_as_what_it_is(
    client: webfoot.Client, name: str, parameter: str, value: Any, expected: str
) -> None:
    required = {"whole": 1} if name == "numbers" else {}
    shown = client.run(name, **{**required, parameter: value}).arrow()[parameter].to_pylist()
    assert shown == [expected]
    # In the body of a fan-out, too.
    (table,) = client.map(name, [{**required, parameter: value}])
    assert table.arrow()[parameter].to_pylist() == [expected]


def test_a_model_arrives_as_an_object(client: webfoot.Client) -> None:
    tree = Tree(name="é", inner=Inner(weight=2, colours=[Colour.BLUE]))
    (shown,) = client.run("objects", tree=tree).arrow()["tree"].to_pylist()
    assert "name='é'" in shown
    assert "weight=2.0" in shown
    assert "Colour.BLUE" in shown


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_refused_by_name(client: webfoot.Client, value: float) -> None:
    with pytest.raises(InvalidParameters, match="real"):
        client.run("numbers", whole=1, real=value)
    (outcome,) = client.map("numbers", [{"whole": 1, "real": value}]).errors
    assert isinstance(outcome.error, InvalidParameters)


def test_none_is_none_and_not_the_default(either: webfoot.Client) -> None:
    assert either.run("words", maybe=None).arrow()["maybe"].to_pylist() == [None]
    assert either.run("words").arrow()["maybe"].to_pylist() == [5]
    with pytest.raises(InvalidParameters, match="text"):
        either.run("words", text=None)


def test_a_value_too_long_for_a_url_gives_the_same_table(
    client: webfoot.Client, server: Server
) -> None:
    long = "é" * 20_000
    before = len(server.requests("/words"))
    table = client.run("words", text=long)
    assert table.arrow()["text"].to_pylist() == [long]
    assert table.schema == client.run("words").schema
    assert [method for method, _ in server.requests("/words")[before:]] == ["POST", "GET"]


def test_a_part_of_a_result_is_had_as_in_a_url(either: webfoot.Client) -> None:
    part = either.run("squares", n=9, _limit=2, _order="-number", _columns="number")
    assert part.arrow().to_pydict() == {"number": [8, 7]}
    with pytest.raises(TypeError, match="_limit cannot go with"):
        either.run("words", text="", _limit=1)


def test_what_cannot_be_sent_is_refused_before_anything_is(client: webfoot.Client) -> None:
    with pytest.raises(TypeError, match=r"n is <object .*, of object, which cannot be sent"):
        client.run("squares", n=object())
    with pytest.raises(TypeError, match="input 1: n is"):
        client.map("squares", [{"n": 1}, {"n": object()}])


# What is asked for twice.


def test_an_unchanged_result_is_asked_after_and_not_downloaded(server: Server) -> None:
    with webfoot.Client(server.url) as client:
        tables = [client.run("squares", n=17) for _ in range(3)]
    assert tables[0] is tables[1] is tables[2]
    asked = server.requests("/squares.parquet?n=17")
    assert asked == [("GET", 200), ("GET", 304), ("GET", 304)]
    assert server.executions("squares 17") == 1


def test_a_changed_result_is_downloaded(tmp_path: Path) -> None:
    udfs = """
        from pathlib import Path
        from webfoot import udf

        @udf(cache="1ms")
        def reads():
            return [{"text": Path(__file__).with_name("said.txt").read_text()}]
    """
    folder = write_udfs(tmp_path, some=udfs)
    said = folder / "said.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEBFOOT_STORE", str(tmp_path / "store"))
        client = webfoot.Client(folder)
    with client:
        for text in ("one", "two", "two"):
            said.write_text(text)
            assert client.run("reads").arrow()["text"].to_pylist() == [text]


def test_a_result_that_is_not_to_be_kept_is_not(server: Server) -> None:
    with webfoot.Client(server.url) as client:
        assert client.run("always") is not client.run("always")
    assert server.requests("/always") == [("GET", 200), ("GET", 200)]


def test_a_client_without_memory_downloads_again(server: Server) -> None:
    with webfoot.Client(server.url, memory=1) as client:
        client.run("squares", n=18)
        client.run("squares", n=18)
    assert server.requests("/squares.parquet?n=18") == [("GET", 200), ("GET", 200)]


# Many calls.


def test_many_inputs_are_one_table_with_the_inputs_as_columns(either: webfoot.Client) -> None:
    results = either.map("squares", [2, 0, 1])
    assert results.arrow().to_pydict() == {
        "n": [2, 2, 1],
        "number": [0, 1, 0],
        "square": [0, 1, 0],
    }
    assert [len(table) for table in results] == [2, 0, 1]


def test_the_table_is_the_one_that_the_server_makes_of_all_inputs(
    client: webfoot.Client, server: Server
) -> None:
    """Types of inputs included: a date that was given as a text is a date."""
    inputs = [{"end": "2024-05-01", "text": "x"}, {"maybe": 3}, {"maybe": None, "text": "z"}]
    response = client._connection.post("udfs/words/map", json.dumps(inputs).encode())
    whole = webfoot.Table.from_parquet(response.content).arrow()
    ours = client.map("words", inputs).arrow()
    assert ours.schema.remove_metadata() == whole.schema.remove_metadata()
    assert ours.to_pydict() == whole.to_pydict()


def test_a_thousand_inputs_with_three_failures_keep_the_rest(
    client: webfoot.Client, server: Server
) -> None:
    inputs = [{"n": -index if index in (7, 500, 999) else 1 + index % 5} for index in range(1_000)]
    results = client.map("squares", inputs)
    assert [outcome.index for outcome in results.errors] == [7, 500, 999]
    assert all(isinstance(outcome.error, UdfFailed) for outcome in results.errors)
    with pytest.warns(UserWarning, match="3 of 1,000 inputs failed"):
        frame = results.df()
    assert len(frame) == sum(given["n"] for given in inputs if given["n"] > 0)
    # Far fewer requests than inputs.
    assert len(server.requests("/squares/map")) < 200


def test_an_input_that_is_no_call_fails_alone(either: webfoot.Client) -> None:
    results = either.map("squares", [{"n": 1}, {"m": 1}, {"n": "x"}, {"n": 2}])
    assert [outcome.index for outcome in results.errors] == [1, 2]
    assert all(isinstance(outcome.error, InvalidParameters) for outcome in results.errors)
    assert [len(results[0]), len(results[3])] == [1, 2]


def test_bare_values_are_of_the_only_parameter_that_must_be_given(client: webfoot.Client) -> None:
    assert client.map("sleeps", [0, 0.001]).arrow()["slept"].to_pylist() == [0, 0.001]
    with pytest.raises(TypeError, match="input 0 is a bare value, 1, and could be of any"):
        client.map("two", [1, 2])
    assert client.map("words", ["x"], over="text").arrow()["input_text"].to_pylist() == ["x"]


def test_a_typing_error_in_the_name_is_told_at_once(either: webfoot.Client) -> None:
    with pytest.raises(UdfNotFound, match="did you mean 'squares'"):
        either.map("sqares", [1])


def test_a_number_of_requests_below_one_is_refused(client: webfoot.Client) -> None:
    with pytest.raises(ValueError, match="concurrency is 1 or more, got 0"):
        client.map("squares", [1], concurrency=0)


def test_a_cancelled_map_stops_on_the_server(client: webfoot.Client, server: Server) -> None:
    results = client.map("sleeps", [{"seconds": 30.0, "mark": f"c{i}"} for i in range(4)])
    _wait_for(lambda: "begun c" in _counts(server))
    results.cancel()
    assert len(results.errors) == 4
    assert all(isinstance(outcome.error, RunCancelled) for outcome in results.errors)
    # Its workers are free again, long before the sleepers would have ended.
    assert len(client.run("squares", n=11)) == 11
    assert "done c" not in _counts(server)


def _counts(server: Server) -> str:
    path = server.folder.parent / "counts.txt"
    return path.read_text() if path.exists() else ""


def _wait_for(condition: Any) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def test_a_server_that_is_killed_loses_no_result_that_was_there(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, some=UDFS)
    with serve(folder) as server, webfoot.Client(server.url, retries=1) as client:
        # The later ones sleep until the kill, however late it comes.
        seconds = [0.0] * 4 + [30.0] * 26
        inputs = [{"seconds": each, "mark": str(index)} for index, each in enumerate(seconds)]
        results = client.map("sleeps", inputs, concurrency=2)
        arriving = results.as_completed()
        first = next(arriving)
        assert first.table is not None
        server.process.send_signal(signal.SIGKILL)
        errors = results.errors
    assert 0 < len(errors) < 30
    assert {type(outcome.error) for outcome in errors} == {Unreachable}
    with pytest.warns(UserWarning, match="of 30 inputs failed"):
        assert len(results.df()) == 30 - len(errors)


def test_threads_share_one_client(server: Server) -> None:
    with webfoot.Client(server.url) as client, ThreadPoolExecutor(16) as threads:

        def work(number: int) -> list[int]:
            run = len(client.run("squares", n=number % 7))
            mapped = [len(table) for table in client.map("squares", [number % 5, 1])]
            return [run, *mapped]

        found = list(threads.map(work, range(64)))
    assert found == [[number % 7, number % 5, 1] for number in range(64)]


def test_leaving_a_client_stops_what_it_waits_for(server: Server) -> None:
    with webfoot.Client(server.url) as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.run, "sleeps", seconds=30, mark="left")
        results = client.map("sleeps", [{"seconds": 30.0, "mark": "left too"}])
        _wait_for(lambda: "begun left\n" in _counts(server))
        client.close()
        with pytest.raises(RunCancelled, match="the client was closed"):
            waiting.result(30)
    assert isinstance(results.errors[0].error, RunCancelled)
    with pytest.raises(RunCancelled, match="the client was closed"):
        client.run("squares")
    _wait_for(lambda: not [t for t in threading.enumerate() if t.name.startswith("webfoot ")])


# What there is.


def test_udfs_are_listed_and_found_by_name(either: webfoot.Client) -> None:
    udfs = either.udfs()
    squares = udfs["squares"]
    assert squares in list(udfs)
    assert squares.signature == "squares(n: int = 3)"
    assert repr(squares) == "squares(n: int = 3)\n\nThe first square numbers.\n\n  n: How many."
    assert "squares(n: int = 3)" in repr(udfs)
    assert "The first square numbers." in udfs._repr_html_()
    assert "How many." in squares._repr_html_()
    with pytest.raises(UdfNotFound, match="did you mean 'squares'"):
        _ = udfs["sqares"]


def test_a_catalog_is_attached_to_a_duckdb(client: webfoot.Client) -> None:
    con = connect()
    for _ in range(2):  # A notebook's cell is run twice.
        client.attach(con, "their udfs")
        found = con.sql('SELECT sum(square) FROM "their udfs".squares(n := 4)').fetchone()
        assert found == (14,)
    con.close()


def test_attaching_loads_httpfs_and_shows_the_token_to_that_server_only(server: Server) -> None:
    con = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    with webfoot.Client(server.url, token="it's secret") as client:
        client.attach(con)
    secret = con.sql("SELECT name, scope, secret_string FROM duckdb_secrets()").fetchone()
    assert secret is not None
    assert secret[:2] == ("webfoot_udfs", [f"{server.url}/"])
    assert con.sql("SELECT count(*) FROM udfs.squares()").fetchone() == (3,)
    con.close()


def test_a_folder_cannot_be_attached_and_says_what_can(in_process: webfoot.Client) -> None:
    with connect() as con, pytest.raises(ValueError, match=r"webfoot serve .*, and attach that"):
        in_process.attach(con)


# Addresses.


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:8000", "like http://localhost:8000"),
        ("no/such/folder", "there is no folder 'no/such/folder'"),
        ("ftp://host", "'ftp://host' is no address"),
        ("http://", "is no address"),
        ("http://host:port", "is no address"),
        ("http://host/?a=1", "leave out what follows"),
    ],
)
def test_an_address_that_is_none_says_so_at_once(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        webfoot.Client(url)


def test_a_slash_at_the_end_of_an_address_changes_nothing(server: Server) -> None:
    with webfoot.Client(f" {server.url}/ ") as client:
        assert len(client.run("squares", n=2)) == 2


def test_the_token_is_not_shown(server: Server) -> None:
    assert repr(webfoot.Client(server.url, token="s3cret")) == f"<Client {server.url}>"
    gc.collect()
