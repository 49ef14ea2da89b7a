"""Many inputs in one request are one table, whichever way they are sent."""

from __future__ import annotations

import asyncio
import datetime
import io
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import duckdb
import httpx
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.server_process import COUNT, INLINE, Server, connect, serve, write_udfs

from webfoot.server import create_app
from webfoot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDFS = """
    import datetime
    from typing import Annotated, Literal
    from pydantic import Field
    from webfoot import udf
    from ._count import count

    @udf
    def rows(
        n: Annotated[int, Field(ge=0)] = 2, kind: Literal["a", "b"] = "a", fail: int = -1,
        tag: str = "",
    ):
        '''As many rows as `n`.'''
        count(f"rows {tag} {n} {kind}")
        if n == fail:
            raise ValueError(f"no {n}")
        if n > 100_000:
            return f"SELECT range AS i, '{kind}' AS name FROM range({n})"
        return [{"i": i, "name": kind} for i in range(n)] or "SELECT 1 AS i, 'x' AS name LIMIT 0"

    @udf
    def typed(day: datetime.date, of: list[int] = [1], yes: bool = True, x: float = 1):
        return [{"weekday": day.weekday(), "sum": sum(of)}]

    @udf
    def clash(n: int):
        return [{"n": str(n), "input_n": 1}]

    @udf
    def changing(n: int):
        return [{"value": [1, 1.5, None, "text"][n], "same": n}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("fan-outs"), _count=COUNT, fan=UDFS)
    with serve(folder) as running:
        yield running


def post(server: Server, name: str, inputs: object, query: str = "", **headers: str) -> Any:
    url = f"{server.url}/udfs/{name}/map{query}"
    return httpx.post(url, json=inputs, headers=headers, timeout=60)


def table(answer: httpx.Response) -> pa.Table:
    assert answer.status_code == 200, answer.text
    return pq.read_table(io.BytesIO(answer.content))


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    return found


EXPECTED = {"n": [1, 3, 3, 3], "i": [0, 0, 1, 2], "name": ["a"] * 4}


def test_a_list_of_inputs_is_one_table_with_the_inputs_first(server: Server) -> None:
    answer = post(server, "rows", [{"n": 1}, {"n": 0}, {"n": 3}])
    assert answer.headers["content-type"] == "application/vnd.apache.parquet"
    assert table(answer).to_pydict() == EXPECTED


def test_each_input_that_has_rows_has_a_row_group_of_its_own(server: Server) -> None:
    answer = post(server, "rows", [{"n": 1}, {"n": 0}, {"n": 3}])
    file = pq.ParquetFile(io.BytesIO(answer.content))
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [1, 3]
    note = json.loads(file.schema_arrow.metadata[b"webfoot"])
    assert note == {"inputs": [{"rows": 1}, {"rows": 0}, {"rows": 3}], "columns": {"n": "n"}}


def test_a_large_input_has_several_row_groups(server: Server) -> None:
    file = pq.ParquetFile(io.BytesIO(post(server, "rows", [{"n": 300_000}, {"n": 2}]).content))
    groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert groups == [122_880, 122_880, 54_240, 2]


def test_a_query_string_is_the_same_table(server: Server) -> None:
    answer = httpx.get(f"{server.url}/udfs/rows.parquet?_each=n&n=1&n=0&n=3")
    assert table(answer).to_pydict() == EXPECTED
    assert answer.content == post(server, "rows", [{"n": 1}, {"n": 0}, {"n": 3}]).content


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_table_of_inputs_is_the_same_table(server: Server, kind: str) -> None:
    inputs = pa.table({"n": [1, 0, 3]})
    sink = io.BytesIO()
    if kind == "parquet":
        pq.write_table(inputs, sink)
        media_type = "application/vnd.apache.parquet"
    else:
        with pa.ipc.new_stream(sink, inputs.schema) as writer:
            writer.write_table(inputs)
        media_type = "application/vnd.apache.arrow.stream"
    answer = httpx.post(
        f"{server.url}/udfs/rows/map",
        content=sink.getvalue(),
        headers={"content-type": media_type},
    )
    assert table(answer).to_pydict() == EXPECTED


def test_several_names_are_all_combinations(server: Server) -> None:
    url = f"{server.url}/udfs/rows.csv?_each=kind,n&n=1&n=2&kind=b&kind=a"
    lines = httpx.get(url).text.splitlines()
    assert lines[0] == "kind,n,i,name"
    assert lines[1:] == ["b,1,0,b", "b,2,0,b", "b,2,1,b", "a,1,0,a", "a,2,0,a", "a,2,1,a"]


def test_names_may_be_repeated_or_joined_and_partial_repeated(server: Server) -> None:
    query = "kind=b&kind=a&n=1&_partial=allow&_partial=allow"
    joined = httpx.get(f"{server.url}/udfs/rows.csv?_each=kind,n&{query}")
    repeated = httpx.get(f"{server.url}/udfs/rows.csv?_each=kind&_each=n&{query}")
    assert joined.text == repeated.text
    assert joined.text.splitlines()[1:] == ["b,1,0,b,", "a,1,0,a,"]


def test_an_empty_value_is_the_default(server: Server) -> None:
    url = f"{server.url}/udfs/rows.csv?_each=n&n=1&n=&kind="
    assert httpx.get(url).text.splitlines() == ["n,i,name", "1,0,a", "2,0,a", "2,1,a"]


def test_inputs_have_the_types_of_their_parameters(server: Server) -> None:
    inputs = [{"day": "2024-01-31", "of": [1, 2], "yes": False, "x": 1}, {"day": "2024-02-01"}]
    found = table(post(server, "typed", inputs))
    assert [str(kind) for kind in found.schema.types[:4]] == [
        "date32[day]",
        "list<element: int64>",
        "bool",
        "double",
    ]
    assert found.to_pylist()[1]["day"] == datetime.date(2024, 2, 1)
    assert found.column("of").to_pylist() == [[1, 2], [1]]


def test_an_input_that_is_named_like_a_column_has_another_name(server: Server) -> None:
    answer = post(server, "clash", [{"n": 1}])
    assert table(answer).to_pydict() == {"input_input_n": [1], "n": ["1"], "input_n": [1]}


def test_types_that_differ_between_inputs_meet_where_they_can(server: Server) -> None:
    found = table(post(server, "changing", [{"n": 0}, {"n": 1}, {"n": 2}]))
    assert found.column("value").to_pylist() == [1.0, 1.5, None]
    said = problem(post(server, "changing", [{"n": 0}, {"n": 3}]), 500)
    assert said["code"] == "invalid-result"
    assert "column 'value' is int64 for one input and string for another" in said["detail"]


def test_each_input_is_a_call_of_its_own(server: Server) -> None:
    httpx.get(f"{server.url}/udfs/rows.parquet?n=2&tag=own")
    post(server, "rows", [{"n": n, "tag": "own"} for n in (1, 2, 2, 3)])
    post(server, "rows", [{"n": n, "tag": "own"} for n in (3, 4)])
    httpx.get(f"{server.url}/udfs/rows.parquet?n=4&tag=own")
    assert [server.executions(f"rows own {n} a") for n in (1, 2, 3, 4)] == [1] * 4


def test_a_failing_input_fails_the_whole_and_is_named(server: Server) -> None:
    inputs = [{"n": n, "fail": 2} for n in (1, 2, 3)]
    said = problem(post(server, "rows", inputs), 500)
    assert said["code"] == "fanout-failed"
    assert said["udf"] == "rows"
    assert said["detail"].startswith("input 1 of 3 (n=2, fail=2): ValueError: no 2")
    ((failure),) = said["failures"]
    assert (failure["index"], failure["problem"]["code"]) == (1, "udf-failed")


@pytest.mark.parametrize("option", ["_partial", "partial"])
def test_partial_results_tell_the_failures_beside(server: Server, option: str) -> None:
    inputs = [{"n": 1, "fail": 2}, {"n": 2, "fail": 2}, {"n": -1}, {"m": 1}, {"n": 1}]
    answer = post(server, "rows", inputs, f"?{option}=allow")
    assert answer.headers["x-webfoot-failed"] == "3"
    found = table(answer).to_pydict()
    assert found["n"] == [1, 2, None, None, 1]
    assert found["i"] == [0, None, None, None, 0]
    assert found["_error"][0] is found["_error"][4] is None
    assert found["_error"][1] == "ValueError: no 2"
    assert found["_error"][2].startswith("n: Input should be greater than or equal to 0")
    assert found["_error"][3].startswith("m: unknown parameter")
    metadata = pq.read_schema(io.BytesIO(answer.content)).metadata
    note = json.loads(metadata[b"webfoot"])
    codes = [outcome.get("problem", {}).get("code") for outcome in note["inputs"]]
    assert codes == [None, "udf-failed", "invalid-parameters", "invalid-parameters", None]


def test_without_failures_the_error_column_is_there_all_the_same(server: Server) -> None:
    answer = post(server, "rows", [{"n": 1}], "?_partial=allow")
    assert table(answer).to_pydict() == {"n": [1], "i": [0], "name": ["a"], "_error": [None]}
    assert "x-webfoot-failed" not in answer.headers


def test_wrong_inputs_run_nothing(server: Server) -> None:
    inputs = [{"n": 1, "tag": "wrong"}, {"n": "x", "tag": "wrong"}, {"o": 1}]
    said = problem(post(server, "rows", inputs), 422)
    assert said["detail"].startswith("input 1: n: Input should be a valid integer")
    assert [(error["index"], error["parameter"]) for error in said["errors"]] == [
        (1, "n"),
        (2, "o"),
    ]
    assert server.executions("rows wrong 1 a") == 0


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is not JSON"),
        (b"{", "the body is not JSON"),
        (b'{"n": 1}', "the body must be a list of objects"),
        (b"[1, 2]", "the body must be a list of objects"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
    ],
)
def test_a_body_that_is_no_list_of_inputs_is_refused(
    server: Server, body: bytes, said: str
) -> None:
    answer = httpx.post(f"{server.url}/udfs/rows/map", content=body)
    assert problem(answer, 422)["detail"].startswith(said)


@pytest.mark.parametrize("kind", ["parquet", "arrow.stream"])
def test_a_body_that_is_no_table_is_refused(server: Server, kind: str) -> None:
    headers = {"content-type": f"application/vnd.apache.{kind}"}
    answer = httpx.post(f"{server.url}/udfs/rows/map", content=b"PAR1 no", headers=headers)
    assert problem(answer, 422)["detail"].startswith("the body cannot be read: it is neither")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("_each=m&m=1", "_each: rows has no parameter of that name; it has n, kind"),
        ("_each=n", "_each: add a value, n=…, for each call, got 'n'"),
        ("_each=n,kind&n=1", "_each: add a value, kind=…, for each call"),
        ("_each=n&n=x", "input 0: n: Input should be a valid integer"),
        ("_each=n&n=1&o=2", "input 0: o: unknown parameter"),
        ("_partial=allow&n=1", "_partial: is for fan-outs; add _each"),
        ("_each=n&n=1&_partial=yes", "_partial: must be allow, got 'yes'"),
    ],
)
def test_a_query_that_is_no_fan_out_is_refused(server: Server, query: str, said: str) -> None:
    answer = httpx.get(f"{server.url}/udfs/rows.csv?{query}")
    assert problem(answer, 422)["detail"].startswith(said)


def test_a_post_has_its_parameters_in_the_body(server: Server) -> None:
    assert problem(post(server, "rows", [{}], "?n=1"), 422)["detail"].startswith("n: a POST has")
    assert problem(post(server, "rows", [{}], "?_each=n"), 422)["detail"].startswith(
        "_each: is for"
    )


def test_no_inputs_are_no_rows(server: Server) -> None:
    said = problem(post(server, "rows", []), 422)
    assert said["detail"] == "there are no inputs; send one or more"


def test_combinations_are_counted_before_they_are_made(server: Server) -> None:
    values = "&".join(f"n={n}&tag={n}&fail={n}" for n in range(300))
    answer = httpx.get(f"{server.url}/udfs/rows.csv?_each=n,tag,fail&{values}")
    said = problem(answer, 422)["detail"]
    assert said.startswith("27000000 inputs are more than one request may have, which is 10000")


def test_ten_thousand_inputs_leave_room_for_others(tmp_path: Path) -> None:
    """While one request with as many inputs as there may be is read, another is answered.

    In this process: where it stands still, those who ask stand still, too.
    """
    folder = write_udfs(tmp_path, _count=COUNT, fan=UDFS)
    app = create_app(Settings(folder=folder, store=tmp_path / "store", runner="inline"))
    inputs = [{"n": "x", "tag": str(n)} for n in range(10_000)]

    async def ask_both() -> tuple[httpx.Response, int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            large = asyncio.create_task(http.post("/udfs/rows/map", json=inputs))
            answers = 0
            while not large.done():
                assert (await http.get("/healthz")).status_code == 200
                answers += 1
                await asyncio.sleep(0)  # Nothing on the way to that answer waits for anything.
            return large.result(), answers

    answer, answers = asyncio.run(ask_both())
    assert answers > 10
    said = problem(answer, 422)
    assert said["detail"].endswith("; 9999 more inputs are wrong")
    assert len(said["errors"]) == 100


def test_an_unknown_udf_has_no_fan_out(server: Server) -> None:
    assert problem(post(server, "rosw", [{}]), 404)["code"] == "udf-not-found"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/vnd.apache.parquet"),
        ("text/csv", "text/csv; charset=utf-8; header=present"),
        ("application/json", "application/json"),
        ("text/unknown, application/x-ndjson;q=0.5", "application/x-ndjson"),
    ],
)
def test_a_post_is_answered_in_the_accepted_format(
    server: Server, accept: str, media_type: str
) -> None:
    assert post(server, "rows", [{"n": 1}], accept=accept).headers["content-type"] == media_type


def test_a_fan_out_is_a_table_like_any_other(server: Server) -> None:
    url = f"{server.url}/udfs/rows.parquet?_each=n&n=1&n=0&n=3&tag=like"
    first = httpx.get(url)
    again = httpx.get(url, headers={"if-none-match": first.headers["etag"]})
    part = httpx.get(url, headers={"range": "bytes=0-3"})
    head = httpx.head(url)
    assert (again.status_code, part.status_code, part.content) == (304, 206, b"PAR1")
    assert head.headers["etag"] == first.headers["etag"]
    limited = httpx.get(url.replace(".parquet", ".csv") + "&_limit=1&_columns=name")
    assert limited.text.split() == ["name", "a"]


def test_every_client_reads_it_and_it_runs_once(server: Server) -> None:
    url = f"{server.url}/udfs/rows.parquet?_each=n&n=1&n=0&n=3&tag=clients"
    with connect() as con:
        assert con.sql(f"FROM '{url}'").fetchnumpy()["i"].tolist() == EXPECTED["i"]
    assert pl.read_parquet(url).to_dict(as_series=False) == EXPECTED
    assert pd.read_parquet(url).to_dict("list") == EXPECTED
    assert [server.executions(f"rows clients {n} a") for n in (0, 1, 3)] == [1] * 3


def test_duckdb_shows_which_input_failed(server: Server) -> None:
    url = f"{server.url}/udfs/rows.parquet?_each=n&n=1&n=2&fail=2"
    with connect() as con, pytest.raises(duckdb.Error, match=r"input 1 of 2 \(n=2\): ValueError"):
        con.sql(f"FROM '{url}'").fetchall()


def test_the_same_fan_out_asked_by_many_at_once_runs_once(server: Server) -> None:
    inputs = [{"n": n, "tag": "many"} for n in range(30)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(server, "rows", inputs).content, range(8)))
    assert len(set(answers)) == 1
    assert [server.executions(f"rows many {n} a") for n in range(30)] == [1] * 30


def test_no_cache_runs_every_input_again(server: Server) -> None:
    inputs = [{"n": n, "tag": "again"} for n in (1, 2)]
    for _ in range(2):
        post(server, "rows", inputs, **{"cache-control": "no-cache"})
    assert [server.executions(f"rows again {n} a") for n in (1, 2)] == [2, 2]


def test_no_cache_does_not_join_a_fan_out_that_takes_old_results(server: Server) -> None:
    inputs = [{"n": n, "tag": "joined"} for n in range(40)]
    post(server, "rows", inputs[:20])
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(post, server, "rows", inputs)
        anew = pool.submit(post, server, "rows", inputs, **{"cache-control": "no-cache"})
        assert plain.result().content == anew.result().content
    assert [server.executions(f"rows joined {n} a") for n in range(20)] == [2] * 20


def test_a_failing_fan_out_is_in_the_servers_log(server: Server) -> None:
    post(server, "rows", [{"n": 2, "fail": 2, "tag": "logged"}])
    said = "rows: input 0 of 1 (n=2, fail=2, tag='logged'): ValueError: no 2"
    assert said in server.printed()


def test_results_that_were_stored_long_ago_are_not_evicted_before_they_are_joined(
    tmp_path: Any,
) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, fan=UDFS)
    with serve(folder, *INLINE, "--store-size", "3MB") as server:
        inputs = [{"n": 100_000 + n} for n in range(10)]
        for given in inputs:
            post(server, "rows", [given])
        time.sleep(1.1)  # What is in use is noted once a second.
        for path in (server.store / "objects").glob("*/*"):
            os.utime(path, (time.time() - 300,) * 2)
        answer = post(server, "rows", [*inputs, *({"n": 100_100 + n} for n in range(20))])
        assert table(answer).num_rows == sum(100_000 + n for n in range(10)) + sum(
            100_100 + n for n in range(20)
        )


def test_a_thousand_inputs_of_which_three_fail(server: Server) -> None:
    inputs: list[dict[str, object]] = [{"n": n % 7} for n in range(1000)]
    inputs[5] = inputs[731] = {"n": 5, "fail": 5}
    inputs[999] = {"n": -5}
    answer = post(server, "rows", inputs, "?_partial=allow")
    assert answer.headers["x-webfoot-failed"] == "3"
    found = table(answer)
    failed = [row for row in found.to_pylist() if row["_error"]]
    assert [row["_error"][:15] for row in failed] == ["ValueError: no "] * 2 + ["n: Input should"]
    assert len(found) == 3 + sum(n % 7 for n in range(1000) if n not in (5, 731, 999))


def test_two_thousand_inputs_in_one_url(server: Server) -> None:
    query = "&".join(f"n={n % 50}&n={n % 50}" for n in range(1000))
    answer = httpx.get(f"{server.url}/udfs/rows.parquet?_each=n&{query}")
    assert table(answer).num_rows == 2 * sum(n % 50 for n in range(1000))


def test_more_inputs_than_a_request_may_have_are_refused(tmp_path: Any) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, fan=UDFS)
    with serve(folder, *INLINE, "--calls", "10") as server:
        assert post(server, "rows", [{"n": 1}] * 10).status_code == 200
        said = problem(post(server, "rows", [{"n": 1}] * 11), 422)
        assert said["detail"].startswith("11 inputs are more than one request may have")
