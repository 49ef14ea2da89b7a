"""A folder without a server: the same application, reached without a socket."""

from __future__ import annotations

import contextlib
import gc
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from tests.server_process import INLINE, serve, write_udfs

import webfoot
from webfoot.errors import RunCancelled, UdfNotFound, Unreachable
from webfoot.in_process import ADDRESS, Host

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UDFS = """
    import time
    from pathlib import Path
    from webfoot import udf

    @udf
    def numbers(rows: int = 3):
        return f"SELECT range AS n, md5(range::VARCHAR) AS text FROM range({rows})"

    @udf
    def fails():
        raise ValueError("this is why")

    @udf
    def waits(name: str):
        here = Path(__file__).parents[1]
        (here / f"{name}.begun").touch()
        while not (here / f"{name}.go").exists():
            time.sleep(0.01)
        return [{"name": name}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WEBFOOT_STORE", str(tmp_path / "store"))
    return write_udfs(tmp_path, some=UDFS)


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    with contextlib.closing(Host(folder)) as opened:
        yield opened


def wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} does not come"
        time.sleep(0.01)


def test_it_answers_as_a_server_does(host: Host) -> None:
    with httpx.Client(transport=host.transport(), base_url=ADDRESS) as http:
        assert http.get("healthz").json() == {"status": "ok"}
        assert http.get("udfs/numbers.csv?rows=1&_columns=n").text.splitlines() == ["n", "0"]
        assert http.get("udfs/numbers.parquet", headers={"range": "bytes=0-3"}).content == b"PAR1"
        head = http.head("udfs/numbers.parquet")
        assert (head.status_code, head.content) == (200, b"")
        assert http.get("udfs/none.parquet").status_code == 404
        assert json.loads(http.get("udfs/numbers.json?rows=x").content)["code"]


def test_a_large_body_comes_whole_and_in_pieces(host: Host) -> None:
    with (
        httpx.Client(transport=host.transport(), base_url=ADDRESS, timeout=60) as http,
        http.stream("GET", "udfs/numbers.csv?rows=300000") as response,
    ):
        pieces = list(response.iter_raw())
    assert len(pieces) > 1
    assert sum(len(piece) for piece in pieces) == int(response.headers["content-length"])


def test_who_stops_reading_stops_the_answer(host: Host) -> None:
    with httpx.Client(transport=host.transport(), base_url=ADDRESS, timeout=60) as http:
        with http.stream("GET", "udfs/numbers.csv?rows=300000") as response:
            next(response.iter_raw())
        assert http.get("healthz").is_success


def test_an_answer_that_takes_too_long_is_given_up(folder: Path) -> None:
    with (
        webfoot.Client(folder, timeout=0.1) as client,
        pytest.raises(Unreachable, match="no answer in the time"),
    ):
        client.run("waits", name="slow")
    (folder.parent / "slow.go").touch()


def test_a_request_that_is_given_up_is_forgotten(host: Host, folder: Path) -> None:
    transport = host.transport()
    with httpx.Client(transport=transport, base_url=ADDRESS, timeout=0.1) as http:
        with pytest.raises(httpx.ReadTimeout):
            http.get("udfs/waits.parquet?name=slow")
        (folder.parent / "slow.go").touch()
        assert vars(transport)["_exchanges"] == set()
        # Its run is not: who asks next has the result.
        assert http.get("udfs/waits.csv?name=slow", timeout=30).text.splitlines()[1] == "slow"


def test_closing_ends_requests_that_wait(folder: Path) -> None:
    client = webfoot.Client(folder)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.run, "waits", name="closed")
        wait_for(folder.parent / "closed.begun")
        client.close()
        with pytest.raises(RunCancelled, match="the client was closed"):
            waiting.result(30)
        (folder.parent / "closed.go").touch()


def test_a_job_of_a_client_that_was_closed_begins_anew_in_one_that_takes_it_up(
    folder: Path,
) -> None:
    with webfoot.Client(folder) as client:
        job = client.submit("waits", name="left")
        wait_for(folder.parent / "left.begun")
    (folder.parent / "left.begun").unlink()
    with webfoot.Client(folder) as client:
        # It does not begin by itself: who opens a folder has not asked for that.
        assert len(client.run("numbers")) == 3
        assert not (folder.parent / "left.begun").exists()
        again = client.job(job.id)
        wait_for(folder.parent / "left.begun")
        (folder.parent / "left.go").touch()
        assert again.result(30).arrow().to_pylist() == [{"name": "left"}]


def test_a_job_of_a_process_that_was_killed_is_taken_up_too(folder: Path) -> None:
    code = (
        "import sys, webfoot\n"
        "client = webfoot.Client(sys.argv[1])\n"
        "print(client.submit('waits', name='killed').id, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        job = process.stdout.readline().decode().strip()
        wait_for(folder.parent / "killed.begun")
        process.kill()
    (folder.parent / "killed.go").touch()
    with webfoot.Client(folder) as client:
        assert client.job(job).result(30).arrow().to_pylist() == [{"name": "killed"}]


def test_a_server_goes_on_with_the_job_of_a_client_that_was_closed(folder: Path) -> None:
    with webfoot.Client(folder) as client:
        job = client.submit("waits", name="served")
        wait_for(folder.parent / "served.begun")
    (folder.parent / "served.go").touch()
    with serve(folder, *INLINE) as server, webfoot.Client(server.url) as client:
        assert client.job(job.id).result(30).arrow().to_pylist() == [{"name": "served"}]


def test_a_job_that_another_client_runs_is_not_begun_anew(folder: Path) -> None:
    with webfoot.Client(folder) as runs, webfoot.Client(folder) as asks:
        job = asks.job(runs.submit("waits", name="living").id)
        wait_for(folder.parent / "living.begun")
        (folder.parent / "living.begun").unlink()
        assert asks.job(job.id).status == "running"
        (folder.parent / "living.go").touch()
        assert len(job.result(30)) == 1
    assert not (folder.parent / "living.begun").exists()


def test_a_job_of_another_folder_is_left_to_that(folder: Path, tmp_path: Path) -> None:
    """The store may be one for all folders, as it is by default."""
    with webfoot.Client(folder) as client:
        job = client.submit("waits", name="elsewhere")
        wait_for(folder.parent / "elsewhere.begun")
    other = write_udfs(tmp_path / "other", some="from webfoot import udf\n@udf\ndef f(): ...\n")
    with webfoot.Client(other) as client:
        assert client.job(job.id).status == "running"
        with pytest.raises(UdfNotFound, match="waits"):
            client.job(job.id).result()
    (folder.parent / "elsewhere.go").touch()
    with webfoot.Client(folder) as client:
        assert len(client.job(job.id).result(30)) == 1


def test_a_folder_is_served_as_long_as_somebody_has_a_job_of_it(folder: Path) -> None:
    job = webfoot.Client(folder).submit("waits", name="held")
    wait_for(folder.parent / "held.begun")
    gc.collect()
    (folder.parent / "held.go").touch()
    assert len(job.result(30)) == 1


def test_closing_leaves_no_thread_of_its_loop(folder: Path) -> None:
    before = set(threading.enumerate())
    with webfoot.Client(folder) as client:
        client.run("numbers")
    left = {thread for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert [thread.name for thread in left if "portal" in thread.name.lower()] == []


def test_an_edit_is_live(folder: Path) -> None:
    with webfoot.Client(folder) as client:
        assert len(client.run("numbers")) == 3
        source = (folder / "some.py").read_text()
        (folder / "some.py").write_text(source.replace("rows: int = 3", "rows: int = 4"))
        until = time.monotonic() + 30
        while len(client.run("numbers")) != 4:
            assert time.monotonic() < until, "the edit does not go live"
            time.sleep(0.02)


def test_a_failure_is_raised_and_not_printed_too(folder: Path) -> None:
    code = (
        "import sys, webfoot\n"
        "with webfoot.Client(sys.argv[1]) as client:\n"
        "    try: client.run('fails')\n"
        "    except webfoot.Error as error: print(error)\n"
        "    print(len(client.run('numbers')))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr) == ("ValueError: this is why\n3\n", "")


def test_a_client_that_is_never_closed_lets_its_process_end(folder: Path) -> None:
    code = "import sys, webfoot; print(len(webfoot.Client(sys.argv[1]).run('numbers')))"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("3\n", "", 0)


def test_outside_a_server_udfs_are_those_of_the_folder_in_the_settings(folder: Path) -> None:
    code = (
        "import webfoot\n"
        "print(len(webfoot.run('numbers', rows=2)))\n"
        "print(webfoot.map('numbers', [1, 2], over='rows').arrow()['rows'].to_pylist())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder.parent,
        timeout=50,
    )
    assert (ran.stdout, ran.stderr) == ("2\n[1, 2, 2]\n", "")


def test_outside_a_server_and_without_a_folder_it_says_where_it_looked(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import webfoot; webfoot.run('numbers')"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "UDFs are those of the folder udfs/, and there is none" in ran.stderr


def test_a_call_in_this_process_may_take_longer_than_a_request_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBFOOT_HOLD", "50ms")
    monkeypatch.setenv("WEBFOOT_STORE", str(tmp_path / "store"))
    text = """
        import time
        from webfoot import udf

        @udf
        def slow():
            time.sleep(0.5)
            return [{"n": 1}]
    """
    with webfoot.Client(write_udfs(tmp_path, slow=text)) as client:
        assert client.run("slow").arrow().to_pylist() == [{"n": 1}]
