"""What attackers try on a real server that asks for keys: each refused clearly, nothing leaked.

SQL has its own list: `tests/attacks.py`, asked of a server in `tests/test_server_queries.py`. Who
may ask for what is in `tests/access/test_matrix.py`; what spreadsheets run is in
`tests/test_spreadsheets.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.access.granting import give_key, give_link
from tests.server_process import INLINE, serve, write_udfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server_process import Server

PLANTED = "planted-secret-0815"
SCRIPT = "<script>alert(1)</script>"
UDFS = f"""
    from webfoot import udf

    KEY = "{PLANTED}"

    @udf(cache="1h")
    def squares(rows: int = 3):
        '''Squares {SCRIPT}

        Args:
            rows: How <img src=x onerror=alert(1)> many.
        '''
        return [{{"number": n, "square": n * n}} for n in range(rows)]

    @udf(cache="1h")
    def texts(text: str = "a"):
        return [{{text: text, "b": text}}]

    @udf
    def fails(text: str = "x"):
        raise ValueError(text)
"""


@dataclass(frozen=True)
class Place:
    """A server with keys of two tenants, and a link that gives `text=mine`."""

    server: Server
    ann: str
    zoe: str
    operator: str
    link: str

    def secrets(self) -> tuple[str, ...]:
        """What nobody may be shown: besides these, where the server's files are."""
        return (PLANTED, self.ann, self.zoe, self.operator, self.link, "root:x:", "Traceback")


@dataclass(frozen=True)
class Answer:
    """What came back, byte for byte."""

    status: int
    head: str
    body: bytes

    @property
    def problem(self) -> dict[str, str]:
        """The body, as every refusal has it."""
        problem: dict[str, str] = json.loads(self.body)
        assert problem["code"]
        assert problem["detail"]
        return problem

    def header(self, name: str) -> str:
        """The values of a header."""
        pairs = [line.partition(": ")[::2] for line in self.head.split("\r\n")[1:]]
        return ", ".join(value for key, value in pairs if key.lower() == name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    parent = tmp_path_factory.mktemp("attacked")
    folder = write_udfs(parent, tables=UDFS)
    (parent / "secret.csv").write_text(f"a\n{PLANTED}\n")
    (folder / "secret.csv").write_text(f"a\n{PLANTED}\n")
    keys = parent / "store/access"
    ann, zoe = (give_key(keys, "analyst", tenant=tenant) for tenant in ("acme", "zeta"))
    operator = give_key(keys, "admin")
    link = give_link(
        keys, "texts", fixed={"text": ("mine",)}, formats=("csv", "html"), tenant="acme"
    )
    environment = {**os.environ, "POSTGRES_DSN": PLANTED, "WEBFOOT_LAKE": f"a={parent}/secret.csv"}
    with serve(folder, environment=environment) as server:
        yield Place(server, ann, zoe, operator, link)


def send(place: Place, data: bytes) -> Answer:
    """What is answered to these bytes; nothing of it may be secret."""
    host, _, port = place.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connected:
        connected.sendall(data)
        said = b""
        while piece := connected.recv(65_536):
            said += piece
    head, _, body = said.partition(b"\r\n\r\n")
    for secret in (*place.secrets(), str(place.server.folder.parent)):
        assert secret.encode() not in said
    return Answer(int(head[9:12]), head.decode("latin-1"), body)


def ask(
    place: Place,
    target: str,
    *headers: str,
    method: str = "GET",
    body: bytes = b"",
    key: str | None = None,
) -> Answer:
    """Ask as no library would: nothing is corrected on the way."""
    named = any(header.lower().startswith("host:") for header in headers)
    lines = [
        f"{method} {target} HTTP/1.1",
        *([] if named else ["host: here"]),
        *headers,
        *([f"authorization: Bearer {place.ann if key is None else key}"] if key != "" else []),
        *([f"content-length: {len(body)}"] if body else []),
        "connection: close",
    ]
    return send(place, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)


def post(place: Place, path: str, body: bytes, *headers: str) -> Answer:
    given = headers or ("content-type: application/json",)
    return ask(place, path, *given, method="POST", body=body)


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.csv",
        "/%2e%2e/secret.csv",
        "/udfs/../secret.csv",
        "/udfs/..%2fsecret.csv",
        "/udfs/%2e%2e%2f%2e%2e%2fetc%2fpasswd.csv",
        "/udfs/%252e%252e%252fsecret.csv",
        "/udfs/%c0%ae%c0%ae%c0%afsecret.csv",
        "/udfs/..%5csecret.csv",
        "/udfs/secret.csv",
        "/udfs/tables.py",
        "/udfs/squares.py",
        "/udfs/squares%00.csv",
        "/udfs/squares.csv%00.parquet",
        "/udfs/squares.%2e%2e%2fcsv",
        "/udfs/squares.csv/../../secret",
        "/udfs/squares/rows=1/..%2f..%2fsecret.csv",
        "/static/../secret.csv",
        "/static/v/..%2f..%2fsecret.csv",
        "/runs/..%2f..%2fsecret",
        "/runs/%2e%2e",
        "/runs/%00",
        "/jobs/%2e%2e%2faccess%2fgiven.sqlite",
        "/jobs/..%2fsecret.csv",
        "/jobs/%00",
        "/_system/..%2frequests.json",
        "/_system/requests.%2e%2e%2fjson",
        "/catalog.duckdb/../secret.csv",
        "/.env",
        "/.git/config",
        "//evil.example/udfs/",
        "/%5cevil.example/udfs/",
        "/" + "../" * 50 + "etc/passwd",
    ],
)
def test_no_path_leads_out_of_what_there_is(place: Place, path: str) -> None:
    for key in (place.ann, place.operator):
        answer = ask(place, path, key=key)
        assert answer.status == 404
        assert answer.problem["code"] in (
            *("not-found", "udf-not-found", "unsupported-format", "job-not-found"),
        )


@pytest.mark.parametrize("folder", ["rows=..%2f..%2fsecret", "rows=%00", "%2e%2e=1"])
def test_folders_of_a_path_are_parameters_and_no_folders(place: Place, folder: str) -> None:
    answer = ask(place, f"/udfs/squares/{folder}/data.csv")
    assert (answer.status, answer.problem["code"]) == (422, "invalid-parameters")


# Headers


@pytest.mark.parametrize(
    "target",
    [
        "/udfs/%0d%0aX-Evil:%201/",
        "/udfs/squares/?a=%0d%0aX-Evil:%201",
        "/udfs/squares.csv?rows=1&_cb=%0d%0aX-Evil:%201",
        "/udfs/texts.csv?text=%0d%0aX-Evil:%201",
        "/udfs/fails.csv?text=%0d%0aX-Evil:%201",
        "/query.csv?sql=SELECT%201%20AS%20%22%0d%0aX-Evil:%201%22",
    ],
)
def test_no_text_becomes_a_header(place: Place, target: str) -> None:
    assert "\r\nx-evil" not in ask(place, target).head.lower()


@pytest.mark.parametrize(
    "header", ["x-request-id: a\r\n X-Evil: 1", "x-request-id: a\nX-Evil: 1", "x-request-id: a\0b"]
)
def test_a_header_that_goes_on_is_none(place: Place, header: str) -> None:
    answer = ask(place, "/healthz", header)
    assert answer.status == 400
    assert "x-evil" not in answer.head.lower()


@pytest.mark.parametrize("text", ["<b>", "a b", "é", "a" * 200])
def test_a_request_id_that_could_be_more_is_not_repeated(place: Place, text: str) -> None:
    assert text not in ask(place, "/healthz", f"x-request-id: {text}").head


@pytest.mark.parametrize(
    "head",
    [
        "POST /query HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\ntransfer-encoding: chunked",
        "POST /query HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\ncontent-length: 7",
        "POST /query HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked, identity",
    ],
)
def test_a_body_that_ends_in_two_places_is_refused(place: Place, head: str) -> None:
    answer = send(place, head.encode() + b"\r\n\r\n0\r\n\r\nGET /udfs HTTP/1.1\r\n\r\n")
    assert answer.status == 400
    assert b"HTTP/1.1" not in answer.body, "one answer, not two"


@pytest.mark.parametrize("target", ["/udfs/squares/", "/docs/", "/udfs/"])
def test_a_redirect_stays_here(place: Place, target: str) -> None:
    plain = ask(place, f"{target}?next=//evil.example&url=http://evil.example")
    assert plain.status == 307
    assert plain.header("location").startswith("http://here/")
    broken = ask(place, target, 'host: evil"><script>')
    assert broken.header("location").startswith(f"{place.server.url}/")
    whole = ask(place, f"http://evil.example{target}", "host: here")
    assert whole.header("location").startswith("http://here/")


def test_where_the_server_is_can_be_set_so_that_no_request_says_it(tmp_path: Path) -> None:
    folder = write_udfs(tmp_path, tables=UDFS)
    environment = {**os.environ, "WEBFOOT_BASE_URL": "https://udfs.example"}
    evil = {"host": "evil.example", "x-forwarded-host": "evil.example", "accept": "text/html"}
    with (
        serve(folder, *INLINE, environment=environment) as server,
        httpx.Client(base_url=server.url, headers=evil) as http,
    ):
        for path in ("/", "/udfs/squares", "/udfs/squares/", "/catalog.sql", "/docs", "/nothing"):
            answer = http.get(path)
            assert "evil.example" not in answer.text + str(answer.headers)


# Browsers


def test_no_page_of_another_site_reads_with_somebody_s_credentials(place: Place) -> None:
    foreign = ("origin: https://evil.example", "cookie: a=b")
    wish = "access-control-request-headers: authorization"
    answers = [
        ask(place, "/udfs/squares.json", *foreign),
        ask(place, "/udfs", *foreign),
        ask(place, "/nothing", *foreign, key=""),
        ask(
            place,
            *("/query", *foreign, wish, "access-control-request-method: POST"),
            method="OPTIONS",
            key="",
        ),
    ]
    for answer in answers:
        # A browser hands nobody what came with credentials, unless both of these said so.
        assert answer.header("access-control-allow-origin") == "*"
        assert answer.header("access-control-allow-credentials") == ""


def test_what_is_one_asker_s_no_cache_hands_to_another(place: Place) -> None:
    for path in ("/udfs/squares.json", "/udfs", "/catalog.sql", "/openapi.json", "/nothing", "/"):
        answer = ask(place, path)
        told = answer.header("cache-control")
        assert "public" not in told
        assert "no-store" in told or {"Authorization", "X-Api-Key"} <= set(
            answer.header("vary").split(", ")
        )


@pytest.mark.parametrize(
    "target",
    [
        f"/?q={quote(SCRIPT)}",
        f"/udfs/texts?text={quote(SCRIPT)}",
        f"/udfs/texts?{quote(SCRIPT)}=1",
        f"/udfs/texts?text={quote(chr(34) + ' onfocus=alert(1) autofocus x=')}",
        f"/udfs/texts.html?text={quote(SCRIPT)}",
        f"/udfs/fails.html?text={quote(SCRIPT)}",
        f"/udfs/{quote(SCRIPT)}",
        f"/udfs/{quote(SCRIPT)}.html",
        f"/runs/{quote(SCRIPT)}",
        "/query.html?sql=" + quote(f"SELECT '{SCRIPT}' AS \"{SCRIPT}\""),
        "/udfs/squares",
        "/docs",
    ],
)
def test_a_page_shows_markup_as_text(place: Place, target: str) -> None:
    answer = ask(place, target, "accept: text/html")
    assert answer.header("content-type").startswith("text/html")
    for markup in (SCRIPT, "<img src=x", '" onfocus='):
        assert markup.encode() not in answer.body
    assert "default-src 'none'" in answer.header("content-security-policy")
    assert "unsafe-inline" not in answer.header("content-security-policy").partition("style-src")[0]
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("referrer-policy") == "no-referrer"


# Share links, keys, tenants


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/udfs/texts.csv?_share={}&text=other", 403),
        ("/udfs/texts.csv?_share={}&text=&text=other", 403),
        ("/udfs/texts.csv?_share={}&%74ext=other", 403),
        ("/udfs/texts.csv?_share={}&_each=text&text=other", 403),
        ("/udfs/texts.csv?_share={}&text%00=1", 403),
        ("/udfs/texts.csv?_share={};text=other", 401),
        ("/udfs/texts.csv?_share={}x", 401),
        ("/udfs/texts.csv?_share=x&_share={}", 401),
        ("/udfs/texts.csv?_sh%61re={}", 401),
        ("/udfs/texts.parquet?_share={}", 403),
        ("/udfs/squares.csv?_share={}", 404),
        ("/udfs/texts?_share={}", 403),
        ("/udfs?_share={}", 403),
        ("/catalog.duckdb?_share={}", 403),
        ("/query.csv?sql=SELECT%201&_share={}", 403),
        ("/_system/requests.json?_share={}", 403),
    ],
)
def test_a_link_is_for_what_it_says_and_tells_nobody_of_itself(
    place: Place, path: str, status: int
) -> None:
    for accept in ("*/*", "text/html"):
        answer = ask(place, path.format(place.link), f"accept: {accept}", key="")
        assert answer.status == status
        if answer.header("content-type").startswith("text/html"):
            assert answer.header("referrer-policy") == "no-referrer"
    plain = ask(place, f"/udfs/texts.csv?_share={place.link}", key="")
    assert (plain.status, plain.body) == (200, b"mine,b\r\nmine,mine\r\n")
    assert plain.header("referrer-policy") == "no-referrer"
    assert "private" in plain.header("cache-control")


def test_whoever_guesses_a_key_learns_nothing(place: Place) -> None:
    there = "_".join(place.ann.split("_")[:2])  # With an id that exists.
    tried = [
        "wf_000000000000_" + "a" * 43,
        f"{there}_{'a' * 43}",
        there,
        "wf_",
        "x",
        "é",
        "a" * 9_000,
    ]
    paths = ("/udfs/squares.csv", "/udfs/nothing.csv", "/runs/x", "/jobs/x", "/nothing")
    told = {
        (answer.status, answer.body)
        for text in tried
        for path in paths
        for answer in [ask(place, path, key=text)]
    }
    assert len(told) == 1, "one answer to all, whatever there is"
    assert next(iter(told))[0] == 401
    without = {ask(place, path, key="").body for path in paths}
    assert len(without) == 1


def test_a_tenant_s_runs_jobs_and_names_of_results_are_no_other_s(place: Place) -> None:
    first = ask(place, "/udfs/squares.parquet?rows=41")
    etag, run = first.header("etag"), first.header("x-webfoot-run")
    made = post(
        place, "/jobs", b'{"udf": "squares"}', "idempotency-key: ../x", "content-type: a/json"
    )
    job = json.loads(made.body)["id"]
    zoe = place.zoe
    for path in (f"/runs/{run}", f"/jobs/{job}", f"/jobs/{job}.csv"):
        theirs, none = (ask(place, where, key=zoe) for where in (path, path.replace(run, "0" * 16)))
        assert theirs.status == none.status == 404
    assert ask(place, f"/jobs/{job}", method="DELETE", key=zoe).status == 404
    # The name of a result is no proof that somebody has it: HEAD tells of nothing, GET runs it.
    head = ask(
        place, "/udfs/squares.parquet?rows=41", f"if-none-match: {etag}", method="HEAD", key=zoe
    )
    assert (head.status, head.header("etag")) == (200, "")
    own = ask(place, "/udfs/squares.parquet?rows=41", f"if-none-match: {etag}", key=zoe)
    assert own.header("x-webfoot-run") != run
    with httpx.Client(base_url=place.server.url) as http:
        again = http.post(
            "/jobs",
            json={"udf": "squares"},
            headers={"authorization": f"Bearer {zoe}", "idempotency-key": "../x"},
        )
    assert again.json()["id"] != job


# What is large, deep, slow, or larger than it looks


@pytest.mark.parametrize(
    "header",
    [
        "range: bytes=" + ",".join(f"{n}-{n}" for n in range(3_000)),
        "range: bytes=0-" + "9" * 30_000,
        "if-none-match: " + '"a",' * 7_000,
        "if-none-match: " + '"' * 31_000,
        "if-modified-since: Sat, 01 Jan " + "9" * 5_000,
        "if-modified-since: " + "(" * 31_000,
        "accept: " + "text/html," * 3_000,
        "accept-encoding: " + "gzip " * 6_000,
        "accept-encoding: ," + " " * 31_000 + "x",
    ],
    ids=lambda header: header[:20],
)
def test_a_header_that_is_a_book_is_one_of_many_requests(place: Place, header: str) -> None:
    began = time.monotonic()
    answer = ask(place, "/udfs/squares.csv", header)
    assert answer.status == 200
    assert time.monotonic() - began < 25, "a hang, and no measurement"
    assert len(answer.body) < 1_000


def test_more_of_it_is_refused(place: Place) -> None:
    for header in ("if-none-match: " + '"a",' * 25_000, "x: " + "y" * 100_000):
        answer = ask(place, "/udfs/squares.csv", header)
        assert (answer.status, answer.problem["code"]) == (431, "request-header-fields-too-large")


@pytest.mark.parametrize(
    "query",
    [
        "&".join(f"a{n}=1" for n in range(7_000)),
        "&".join(["rows=1"] * 9_000),
        "rows=" + "9" * 60_000,
        "rows=1e999999999",
        "_limit=" + "9" * 5_000,
        "_order=" + ",".join(["number"] * 8_000),
        "_columns=" + ",".join(["number"] * 8_000),
        "%" * 60_000,
    ],
    ids=lambda query: query[:20],
)
def test_parameters_that_never_end_are_refused(place: Place, query: str) -> None:
    answer = ask(place, f"/udfs/squares.csv?{query}")
    assert (answer.status, answer.problem["code"]) == (422, "invalid-parameters")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'[{"rows":' + b'{"a":' * 100_000,
        b'[{"rows":' + b"9" * 1_000_000 + b"}]",
        b'[{"rows":1e' + b"9" * 100_000 + b"}]",
        b'[{"rows": NaN}]',
        b'[{"rows": "\\ud800"}]',
        b'[{"__proto__": 1, "__class__": 2}]',
        b"[" + b"{}," * 2_000_000 + b"{}]",
    ],
    ids=lambda body: body[:14].decode(),
)
def test_json_that_is_a_trap_is_refused(place: Place, body: bytes) -> None:
    answer = post(place, "/udfs/squares/map", body)
    assert (answer.status, answer.problem["code"]) == (422, "invalid-parameters")


def test_the_last_of_two_values_counts_for_everybody(place: Place) -> None:
    answer = post(place, "/udfs/squares/map", b'[{"rows": 1, "rows": 2}]', "accept: text/csv")
    assert answer.body.count(b"\r\n") == 3


def test_a_body_is_never_expanded(place: Place) -> None:
    bomb = gzip.compress(b"[" + b" " * 50_000_000)
    for path in ("/udfs/squares/map", "/query", "/jobs"):
        for coding in ("gzip", "deflate", "br"):
            answer = post(place, path, bomb, f"content-encoding: {coding}", "accept: */*")
            assert (answer.status, answer.problem["code"]) == (422, "invalid-parameters")


@pytest.mark.parametrize(
    "media_type", ["application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"]
)
def test_a_table_that_expands_is_refused(place: Place, media_type: str) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000, np.int32)), ["a" * 400_000])
    table, sink = pa.table({"text": text}), io.BytesIO()
    if "parquet" in media_type:
        pq.write_table(table, sink)
    else:
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    answer = post(place, "/udfs/texts/map", sink.getvalue(), f"content-type: {media_type}")
    assert (answer.status, answer.problem["code"]) == (422, "invalid-parameters")
    assert "expands to more than is read" in answer.problem["detail"]


def test_bodies_that_never_end_leave_room_and_are_not_all_held(place: Place) -> None:
    host, _, port = place.server.url.removeprefix("http://").partition(":")
    head = f"POST /udfs/squares/map HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {place.ann}\r\n"
    head += "content-length: 16000000\r\n\r\n"
    part = b" " * 15_998_000
    held = []
    try:
        for _ in range(4):
            held.append(socket.create_connection((host, int(port)), timeout=30))
            held[-1].sendall(head.encode() + part)
        patient_until = time.monotonic() + 20
        while True:  # Until all of it has arrived. What is refused is small: it is not read whole.
            late = post(place, "/udfs/squares/map", b"[" + b" " * 12_000 + b"]")
            if late.status == 503 or time.monotonic() > patient_until:
                break
        assert (late.status, late.problem["code"]) == (503, "server-busy")
        assert late.header("retry-after") == "1"
        assert ask(place, "/udfs/squares.csv").status == 200, "who sends no body is answered"
    finally:
        for connected in held:
            connected.close()
    patient_until = time.monotonic() + 20
    while post(place, "/udfs/squares/map", b'[{"rows": 1}]').status != 200:
        assert time.monotonic() < patient_until, "who has gone takes no room"


def test_heads_that_never_end_keep_nobody_out(place: Place) -> None:
    host, _, port = place.server.url.removeprefix("http://").partition(":")
    slow = [socket.create_connection((host, int(port)), timeout=30) for _ in range(200)]
    try:
        for connected in slow:
            connected.sendall(b"GET /udfs HTTP/1.1\r\nx-slow: ")
        assert ask(place, "/udfs/squares.csv").status == 200
    finally:
        for connected in slow:
            connected.close()


def test_many_requests_at_once_on_one_connection_are_answered_one_by_one(place: Place) -> None:
    one = (
        f"GET /udfs/squares.csv?rows=2 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {place.ann}\r\n"
    )
    answer = send(
        place, (one + "\r\n").encode() * 50 + (one + "connection: close\r\n\r\n").encode()
    )
    assert answer.body.count(b"HTTP/1.1 200 OK") == 50


# Records


def test_neither_log_nor_records_tell_keys_and_tokens(place: Place) -> None:
    ask(place, f"/udfs/texts.csv?_share={place.link}", f"user-agent: {place.ann}", key="")
    ask(place, f"/nothing?a={place.ann}&_share={place.link}", "user-agent: x")
    ask(place, f"/udfs/texts.csv?_sh%61re={place.link}", key="")
    # Only who says it reads it again.
    shown = {"authorization": f"Bearer {place.ann}"}
    failed = httpx.get(f"{place.server.url}/udfs/fails.csv?text={place.zoe}", headers=shown)
    assert place.zoe in failed.json()["detail"]
    told = ask(place, "/_system/requests.json", key=place.operator)
    assert told.status == 200
    assert b"/udfs/{name}.{extension}" in told.body
    printed = place.server.printed()
    assert "/udfs/texts.csv?_share=…" in printed
    assert not [secret for secret in place.secrets() if secret in printed]
    for path in place.server.store.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # Some are there briefly.
            held = path.read_bytes()
            assert not [s for s in (place.ann, place.link, PLANTED) if s.encode() in held], path
