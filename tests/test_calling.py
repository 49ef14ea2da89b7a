"""UDFs call UDFs: at any depth, with few workers, within limits, and never for nothing."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from tests.scrapes import scrape
from tests.server_process import COUNT, Server, eventually, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDFS = """
    import asyncio, datetime, os, threading, time
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path
    import webfoot
    import webfoot.errors
    from webfoot import udf
    from ._count import count

    @udf
    def leaf(n: int, sleep: float = 0.0, fail: bool = False, tag: str = ""):
        count(f"leaf {tag} {n}")
        time.sleep(sleep)
        if fail:
            raise ValueError(f"no leaf {n}")
        return [{"square": n * n}]

    @udf(waits=True)
    def patient(n: int, sleep: float = 0.2):
        print(f"patient {n}")
        time.sleep(sleep)
        return [{"n2": n, "pid": os.getpid()}]

    @udf(waits=True)
    async def patient_async(n: int):
        await asyncio.sleep(0.2)
        return [{"n2": n}]

    @udf(waits=True)
    def dying(n: int):
        time.sleep(0.2)
        if n == 3:
            os._exit(5)
        return [{"n2": n}]

    @udf(waits=True, timeout=4)
    def stuck():
        count(f"stuck in {os.getpid()}")
        time.sleep(30)
        return [{"n": 0}]

    @udf(waits=True)
    def held(n: int):
        count("held")
        while not (Path(__file__).parents[1] / "go").exists():
            time.sleep(0.02)
        return [{"pid": os.getpid()}]

    @udf
    def one(n: int = 3, tag: str = ""):
        return webfoot.run(leaf, n=n, tag=tag)

    @udf
    def total(count: int = 5, tag: str = "", sleep: float = 0.0):
        inputs = [{"n": n, "tag": tag, "sleep": sleep} for n in range(count)]
        squares = webfoot.map("leaf", inputs)
        return squares.sql("SELECT sum(square)::BIGINT AS s, count(*) AS n FROM self")

    @udf
    def bare():
        return webfoot.map("leaf", [1, 2, 3], over="n")

    @udf
    def strict():
        return webfoot.map("leaf", [{"n": 0}, {"n": 1, "fail": True}, {"n": 2}])

    @udf
    def lenient():
        results = webfoot.map("leaf", [{"n": 5}, {"n": 6, "fail": True}, {"n": 7}], partial=True)
        (failed,) = results.errors
        return [{"n": failed.index, "said": str(failed.error), "run": failed.error.run}]

    @udf
    def cancelled():
        results = webfoot.map("leaf", [{"n": n, "sleep": n / 5} for n in range(30)], partial=True)
        for outcome in results.as_completed():
            results.cancel()
            break
        return [{"codes": sorted({outcome.error.code for outcome in results.errors})}]

    @udf
    def caught():
        try:
            webfoot.run("leaf", n=9, fail=True)
        except webfoot.Error as error:
            return [{"code": error.code, "udf": error.udf}]

    @udf
    def wrongly():
        return webfoot.run("leaf", m=1)

    @udf
    def gives_up(n: int):
        if n == 1:
            raise webfoot.errors.RunCancelled("not today")
        return [{"n2": n}]

    @udf
    def trusting():
        return webfoot.map("gives_up", [0, 1, 2], over="n")

    @udf(cache=0)
    def counted(n: int, tag: str):
        count(f"counted {tag} {n}")
        return [{"at": time.time_ns()}]

    @udf(waits=True)
    def waits_with_threads():
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(webfoot.run, "leaf", n=1).result()

    @udf
    def odd_error():
        raise webfoot.InvalidParameters("bad day", errors=[{"value": datetime.date(2024, 1, 1)}])

    @udf(waits=True)
    def odd_error_beside_others():
        raise webfoot.InvalidParameters("bad day", errors=[{"value": datetime.date(2024, 1, 1)}])

    @udf(waits=True)
    def changes():
        os.environ["LEFT"] = "1"
        os.chdir("/")
        return [{"pid": os.getpid()}]

    @udf(cache=0)
    def looks():
        return [{"left": os.environ.get("LEFT"), "root": os.getcwd() == "/"}]

    @udf(cache=0)
    def says_nonsense():
        import socket, struct, json
        for name in os.listdir("/proc/self/fd"):
            try:
                channel = socket.socket(fileno=os.dup(int(name)))
                body = json.dumps({"job": 1}).encode()
                for job in range(50):
                    body = json.dumps({"job": job}).encode()
                    channel.sendall(struct.pack("!I", len(body)) + body)
            except OSError:
                pass
        time.sleep(1)
        return [{"n": 1}]

    @udf
    def unknown():
        return webfoot.run("laef", n=1)

    @udf
    def deep(levels: int = 5):
        if not levels:
            return [{"n": 0}]
        return webfoot.run("deep", levels=levels - 1).sql("SELECT n + 1 AS n FROM self")

    @udf
    def endless(n: int = 0):
        return webfoot.run("endless", n=n + 1)

    @udf
    def circle(n: int = 0):
        return webfoot.run("circle", n=(n + 1) % 3)

    @udf
    def from_threads(tag: str = ""):
        with ThreadPoolExecutor(4) as pool:
            tables = list(pool.map(lambda n: webfoot.run("leaf", n=n, tag=tag), range(4)))
        return [{"n": sum(table.arrow()["square"][0].as_py() for table in tables)}]

    @udf
    async def from_async():
        table = await asyncio.to_thread(webfoot.run, "leaf", n=4)
        return table

    @udf
    def nested(width: int = 3, tag: str = ""):
        inputs = [{"count": width, "tag": f"{tag}{n}"} for n in range(width)]
        return webfoot.map("total", inputs).sql("SELECT sum(s)::BIGINT AS s FROM self")

    @udf(timeout=4)
    def hasty(tag: str):
        return webfoot.map("leaf", [{"n": n, "sleep": 1, "tag": tag} for n in range(40)])

    @udf
    def from_fork():
        pid = os.fork()
        if pid == 0:
            try:
                webfoot.run("leaf", n=1)
            except webfoot.Error as error:
                os._exit(7 if "forked" in str(error) else 8)
            os._exit(9)
        return [{"status": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = write_udfs(tmp_path_factory.mktemp("calling"), _count=COUNT, calling=UDFS)
    with serve(folder, "--depth", "5") as running:
        yield running


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one worker."""
    folder = write_udfs(tmp_path_factory.mktemp("lone"), _count=COUNT, calling=UDFS)
    with serve(folder, "--workers", "1", "--depth", "5") as running:
        yield running


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that runs UDFs on threads of its own."""
    folder = write_udfs(tmp_path_factory.mktemp("inline"), _count=COUNT, calling=UDFS)
    with serve(folder, "--runner", "inline", "--workers", "1", "--depth", "5") as running:
        yield running


@pytest.fixture(params=["server", "lone", "inline"])
def any_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(request.param)
    return server


def get(server: Server, path: str, *, status: int = 200) -> list[dict[str, Any]]:
    answer = httpx.get(f"{server.url}/udfs/{path}", timeout=60, follow_redirects=True)
    assert answer.status_code == status, answer.text
    rows = answer.json()
    return rows if status == 200 else [rows]


def nothing_runs(server: Server) -> bool:
    told = scrape(server.url)
    return not told.total("webfoot_runs_in_progress") + told.total("webfoot_runs_waiting")


def test_run_gives_the_other_udfs_table(any_server: Server) -> None:
    assert get(any_server, "one.json?n=7") == [{"square": 49}]


def test_map_gives_one_table_with_the_inputs(any_server: Server) -> None:
    assert get(any_server, "bare.json") == [
        {"n": 1, "square": 1},
        {"n": 2, "square": 4},
        {"n": 3, "square": 9},
    ]


def test_five_deep_finishes_with_one_worker(any_server: Server) -> None:
    assert get(any_server, "deep.json?levels=5") == [{"n": 5}]


def test_fan_outs_of_fan_outs_finish_with_one_worker(any_server: Server) -> None:
    assert get(any_server, "nested.json?tag=x") == [{"s": 15}]


def test_a_call_that_is_made_twice_runs_once(server: Server) -> None:
    get(server, "total.json?tag=twice")
    get(server, "leaf.json?n=3&tag=twice")
    get(server, "one.json?n=3&tag=twice")
    assert [server.executions(f"leaf twice {n}") for n in range(5)] == [1] * 5


def test_an_input_that_fails_is_named_by_index_and_input(any_server: Server) -> None:
    (problem,) = get(any_server, "strict.json", status=500)
    assert problem["code"] == "fanout-failed"
    assert problem["udf"] == "strict"
    detail = "leaf: input 1 of 3 (n=1, fail=True): ValueError: no leaf 1"
    assert str(problem["detail"]).startswith(detail)
    (failure,) = problem["failures"]
    assert (failure["index"], failure["input"]) == (1, {"n": 1, "fail": True})
    assert failure["problem"]["code"] == "udf-failed"


def test_whatever_fails_an_input_fails_a_map_that_is_not_partial(any_server: Server) -> None:
    (problem,) = get(any_server, "trusting.json", status=503)
    assert problem["code"] == "run-cancelled"
    assert "gives_up: input 1 of 3 (n=1): not today" in str(problem["detail"])


def test_inputs_that_are_the_same_call_have_the_same_answer(any_server: Server) -> None:
    tag = any_server.url[-5:]
    rows = get(any_server, f"counted.json?_each=n&n=1&n=2&n=1&n=1&tag={tag}")
    assert [row["n"] for row in rows] == [1, 2, 1, 1]
    assert len({row["at"] for row in rows if row["n"] == 1}) == 1
    assert any_server.executions(f"counted {tag} 1") == 1


def test_failures_may_be_allowed_and_looked_at(any_server: Server) -> None:
    ((row),) = get(any_server, "lenient.json")
    assert (row["n"], row["said"]) == (1, "ValueError: no leaf 6")
    assert httpx.get(f"{any_server.url}/runs/{row['run']}").json()["udf"] == "leaf"


def test_calls_can_be_cancelled(any_server: Server) -> None:
    assert get(any_server, "cancelled.json") == [{"codes": ["run-cancelled"]}]
    assert get(any_server, "one.json?n=8") == [{"square": 64}]


def test_an_error_of_the_other_udf_can_be_caught(any_server: Server) -> None:
    assert get(any_server, "caught.json") == [{"code": "udf-failed", "udf": "leaf"}]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrongly", "leaf: m: unknown parameter; known: n"),
        ("unknown", "there is no UDF 'laef'; did you mean 'leaf'"),
    ],
)
def test_a_wrong_call_is_the_calling_udfs_fault(any_server: Server, name: str, said: str) -> None:
    (problem,) = get(any_server, f"{name}.json", status=500)
    assert problem["code"] == "udf-failed"
    assert said in str(problem["detail"])


def test_a_recursion_without_end_is_ended(any_server: Server) -> None:
    (problem,) = get(any_server, "endless.json", status=500)
    assert problem["code"] == "fanout-limit"
    assert "endless: UDFs call UDFs more than 5 deep" in str(problem["detail"])


def test_a_call_that_waits_for_itself_is_refused(any_server: Server) -> None:
    (problem,) = get(any_server, "circle.json", status=500)
    assert problem["code"] == "fanout-limit"
    assert "'circle' is called in a circle" in str(problem["detail"])


def test_threads_of_a_run_may_call_at_the_same_time(server: Server) -> None:
    assert get(server, "from_threads.json?tag=threads") == [{"n": 14}]
    assert [server.executions(f"leaf threads {n}") for n in range(4)] == [1] * 4


def test_threads_of_runs_that_share_a_process_are_told_that_they_cannot_call(
    server: Server,
) -> None:
    (problem,) = get(server, "waits_with_threads.json", status=500)
    assert problem["code"] == "udf-failed"
    assert "copy_context" in str(problem["detail"])


@pytest.mark.parametrize("name", ["odd_error", "odd_error_beside_others"])
def test_an_error_may_hold_what_json_has_no_word_for(server: Server, name: str) -> None:
    (problem,) = get(server, f"{name}.json", status=422)
    assert (problem["detail"], problem["errors"]) == ("bad day", [{"value": "2024-01-01"}])


def test_what_runs_that_wait_change_no_run_alone_meets(server: Server) -> None:
    get(server, "changes.json")
    for _ in range(4):
        assert get(server, "looks.json") == [{"left": None, "root": False}]


def test_a_run_that_answers_in_its_workers_place_harms_only_itself(server: Server) -> None:
    for _ in range(3):
        (problem,) = get(server, "says_nonsense.json", status=500)
        assert problem["code"] == "udf-crashed"
    assert get(server, "one.json?n=77") == [{"square": 5929}]


def test_asynchronous_udfs_call_on_threads(any_server: Server) -> None:
    assert get(any_server, "from_async.json") == [{"square": 16}]


def test_a_forked_process_is_told_that_it_cannot_call(server: Server) -> None:
    assert get(server, "from_fork.json") == [{"status": 7}]


@pytest.mark.parametrize("parents", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_many_parents_at_once_finish(server: Server, parents: int) -> None:
    with ThreadPoolExecutor(parents) as pool:
        paths = (f"total.json?count=3&tag=of{parents}n{n}" for n in range(parents))
        answers = list(pool.map(lambda path: get(server, path), paths))
    assert answers == [[{"s": 5, "n": 3}]] * parents


def test_runs_know_the_trace_and_the_parent(server: Server) -> None:
    run = httpx.get(f"{server.url}/udfs/one.json?n=31&tag=trace").headers["x-webfoot-run"]
    parent = httpx.get(f"{server.url}/runs/{run}").json()
    leaf = httpx.get(f"{server.url}/udfs/leaf.json?n=31&tag=trace").headers["x-webfoot-run"]
    child = httpx.get(f"{server.url}/runs/{leaf}").json()
    assert (child["parent"], child["trace"]) == (run, parent["trace"])
    assert parent["parent"] is None


@pytest.mark.parametrize("leaves", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_many_leaves_keep_few_processes(server: Server, leaves: int) -> None:
    squares = sum(n * n for n in range(leaves))
    path = f"total.json?count={leaves}&tag=many{leaves}"
    assert get(server, path) == [{"s": squares, "n": leaves}]
    children = psutil.Process(server.process.pid).children(recursive=True)
    assert len(children) <= 2 + 1 + 1  # Two run, one spare, and one that waited.


def test_udfs_that_wait_share_a_process(any_server: Server) -> None:
    query = "&".join(f"n={n}" for n in range(20))
    rows = get(any_server, f"patient.json?_each=n&{query}")
    assert [row["n2"] for row in rows] == list(range(20))
    assert len({row["pid"] for row in rows}) == 1
    rows = get(any_server, f"patient_async.json?_each=n&{query}")
    assert [row["n2"] for row in rows] == list(range(20))


def test_prints_of_udfs_that_wait_are_told_apart(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    with serve(folder, "--debug") as server:
        get(server, "patient.json?_each=n&n=1&n=2&n=3")
        for n in (1, 2, 3):
            answer = httpx.get(f"{server.url}/udfs/patient.json?n={n}")
            run = httpx.get(f"{server.url}/runs/{answer.headers['x-webfoot-run']}")
            assert run.json()["log"] == f"patient {n}\n"


def test_a_crash_of_one_that_waits_fails_only_that_one(server: Server) -> None:
    query = "&".join(f"n={n}" for n in range(6))
    rows = get(server, f"dying.json?_each=n&{query}&_partial=allow")
    assert [row["n2"] for row in rows] == [0, 1, 2, None, 4, 5]
    assert rows[3]["_error"] == "its process ended with exit code 5"


def test_one_that_waits_too_long_fails_alone(server: Server) -> None:
    with ThreadPoolExecutor(5) as pool:
        neighbours = [pool.submit(get, server, f"held.json?n={n}") for n in range(5)]
        eventually(lambda: server.executions("held") == 5)
        (problem,) = get(server, "stuck.json", status=504)
        (server.folder.parent / "go").touch()
        rows = [row for neighbour in neighbours for row in neighbour.result()]
    assert "it ran longer than 4s" in str(problem["detail"])
    (pid,) = {row["pid"] for row in rows}
    assert server.executions(f"stuck in {pid}") == 1


@pytest.mark.parametrize("path", ["total.json?count=400&sleep=0.5&tag={}", "fan-out"])
def test_when_the_client_goes_its_children_soon_run_no_more(server: Server, path: str) -> None:
    tag = f"gone{len(path)}"
    if path == "fan-out":
        values = "&".join(f"n={n}" for n in range(400))
        path = f"leaf.json?_each=n&sleep=0.5&tag={{}}&{values}"
    before = server.executions()
    address = httpx.URL(f"{server.url}/udfs/{path.format(tag)}")
    assert address.port
    with socket.create_connection((address.host, address.port)) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % address.raw_path)
        eventually(lambda: server.executions() > before)
    eventually(lambda: nothing_runs(server))
    then = server.executions()
    time.sleep(1.5)
    assert server.executions() == then < before + 200
    # Nothing is held by what was given up.
    assert get(server, f"one.json?n=2&tag={tag}after") == [{"square": 4}]


def test_a_time_limit_covers_the_calls_below(server: Server) -> None:
    (problem,) = get(server, "hasty.json?tag=hasty", status=504)
    assert problem["udf"] == "hasty"
    eventually(lambda: nothing_runs(server))
    then = server.executions()
    time.sleep(1.5)  # Two workers would have begun two leaves by now.
    assert server.executions() == then
    assert 0 < sum(server.executions(f"leaf hasty {n}") for n in range(40)) < 20


def test_a_request_may_lead_to_so_many_calls(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, _count=COUNT, calling=UDFS)
    with serve(folder, "--runner", "inline", "--calls", "12", "--depth", "3") as server:
        get(server, "total.json?count=12&tag=a")
        (problem,) = get(server, "total.json?count=13&tag=b", status=500)
        assert problem["code"] == "fanout-limit"
        assert "13 more calls after 0 would be more than one request may" in str(problem["detail"])
        (problem,) = get(server, "nested.json?width=4&tag=c", status=500)
        assert "is 12" in str(problem["detail"])
        (problem,) = get(server, "deep.json?levels=4", status=500)
        assert "more than 3 deep" in str(problem["detail"])
        # It says nothing of the calls on the way.
        assert get(server, "deep.json?levels=3") == [{"n": 3}]
        (problem,) = get(server, "deep.json?_each=levels&levels=9", status=500)
        assert problem["code"] == "fanout-limit"
        assert get(server, "deep.json?levels=2") == [{"n": 2}]
