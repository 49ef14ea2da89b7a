"""What people show to be let in, and the secrets that UDFs are given, are in no output at all."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING

import duckdb
import httpx
import pytest
from tests.access.granting import bearer, give_key, give_link
from tests.otlp_collector import collect
from tests.scrapes import OPENMETRICS
from tests.server_process import eventually, serve, write_udfs

if TYPE_CHECKING:
    from pathlib import Path

SPANS = {"call connects", "call asks", "GET /udfs/{name}.{extension}"}
PASSWORD = "S3CRETPASSW0RD"
UDFS = f"""
    import webfoot
    from webfoot import udf

    @udf
    def connects(password: str = "", city: str = ""):
        print(f"password={{password}}")
        raise ConnectionError(f"no postgresql://reader:{PASSWORD}@db/flights ({{password=}})")

    @udf
    def asks(password: str = ""):
        return webfoot.run("connects", password=password)

    @udf
    def fine(city: str = "here"):
        return [{{"city": city}}]
"""


@pytest.mark.parametrize("log", ["text", "json"])
def test_no_secret_is_in_any_output(tmp_path: Path, log: str) -> None:
    folder = write_udfs(tmp_path, some=UDFS)
    store = tmp_path / "store/access"
    key, admin, other = (give_key(store, role) for role in ("analyst", "admin", "viewer"))
    link = give_link(store, "fine", formats=("csv",), fixed={"city": ("Here",)})
    forged = link[:-4] + "AAAA"
    basic = base64.b64encode(f"me:{other}".encode()).decode()
    wrong = f"{key[:-4]}AAAA"
    # Of keys, what follows their ids; of links, their signatures.
    shown = (key, admin, other, wrong, link, forged)
    secrets = [PASSWORD, basic, *(text[-20:] for text in shown)]
    askers: list[dict[str, str]] = [
        bearer(key),
        {"x-api-key": key},
        {"authorization": f"Basic {basic}"},
        bearer(wrong),
        {},
    ]
    paths = [
        *("/udfs/fine.csv", f"/udfs/fine.csv?_share={link}", f"/udfs/fine.csv?_share={forged}"),
        *(f"/udfs/connects.json?password={PASSWORD}", f"/udfs/asks.parquet?password={PASSWORD}"),
        *(f"/udfs/fine.json?password={PASSWORD}", f"/udfs?_share={link}&password={PASSWORD}"),
        f"/query.json?sql=FROM%20connects(password%20:=%20'{PASSWORD}')",
        f"/nothing?_share={link}",
    ]
    told: dict[str, bytes] = {}
    with collect() as collector:
        # What is sent only when the server ends may come too late.
        sent = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
        environment = {**os.environ, **sent}
        with (
            serve(folder, "--log", log, "--debug", environment=environment) as server,
            httpx.Client(base_url=server.url, timeout=60) as http,
        ):
            for number, asker in enumerate(askers):
                for path in paths:
                    seen = {"user-agent": f"me/1 password={PASSWORD}", "referer": server.url + path}
                    answer = http.get(path, headers={**asker, **seen})
                    told[f"{number} {path}"] = answer.content + str(answer.headers).encode()
            operator = bearer(admin)
            for table in ("requests.json", "requests.parquet", "runs.json"):
                answer = http.get(f"/_system/{table}", headers=operator)
                told[table] = answer.raise_for_status().content
            for accept in ("", OPENMETRICS):
                answer = http.get("/metrics", headers={**operator, "accept": accept})
                told[f"metrics {accept}"] = answer.raise_for_status().content
            told["alerts"] = http.get("/alerts", headers=operator).raise_for_status().content
            job = http.post(
                "/jobs",
                json={"udf": "connects", "parameters": {"password": PASSWORD}},
                headers=bearer(key),
            ).json()
            while http.get(f"/jobs/{job['id']}", headers=bearer(key)).json()["state"] != "failed":
                time.sleep(0.05)
            told["job"] = http.get(f"/jobs/{job['id']}", headers=bearer(key)).content
            assert b"password=***" in told["job"]
            for run in http.get("/_system/runs.json", headers=operator).json():
                answer = http.get(f"/runs/{run['run']}", headers=bearer(key))
                told[f"run {run['run']}"] = answer.content
            eventually(lambda: {span.name for span in collector.spans()} >= SPANS)
        told["log"] = server.printed().encode()
        spans = collector.spans()
        told["traces"] = b"".join(collector.bodies) + str(collector.headers).encode()
    # They have all been at work.
    assert any("postgresql://" in span.said for span in spans)
    assert b'udf="connects"' in told["metrics "]
    (tmp_path / "requests.parquet").write_bytes(told["requests.parquet"])
    count = duckdb.sql(f"SELECT count(*) FROM '{tmp_path / 'requests.parquet'}'").fetchone()
    assert count
    assert count[0] >= len(askers) * len(paths)
    found = [
        (where, secret)
        for where, text in told.items()
        for secret in secrets
        if secret.encode() in text
    ]
    assert found == []
