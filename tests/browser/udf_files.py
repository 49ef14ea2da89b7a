"""The UDFs that the browser tests look at."""

from __future__ import annotations

TABLES = '''
    import os
    import time
    from datetime import date
    from pathlib import Path
    from typing import Annotated, Literal
    from pydantic import Field
    from webfoot import InvalidParameters, udf
    from ._count import count

    @udf(tags=["numbers", "small"])
    def squares(rows: Annotated[int, Field(ge=1, le=5000)] = 5, label: str = "no"):
        """The first square numbers.

        As `n` grows, so does its square.

        Args:
            rows: How many.
            label: A word beside each.

        Returns:
            One row per number: `number`, `square`, `label`.
        """
        count(f"squares {rows} {label}")
        return [{"number": n, "square": n * n, "label": label} for n in range(rows)]

    @udf(tags=["numbers"])
    def several(
        needed: int,
        kind: Literal["sharp", "blunt"] = "sharp",
        sizes: list[int] = [1, 2],
        tools: list[Literal["saw", "axe"]] = ["saw"],
        since: date = date(2024, 1, 31),
        share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        loud: bool = False,
        note: str | None = None,
        setup: dict[str, int] = {},
    ):
        """Takes many kinds of parameters."""
        return [{name: str(value) for name, value in locals().items()}]

    @udf
    def typed():
        """One column of each kind."""
        return \'\'\'
            SELECT i::INTEGER AS whole, 9007199254740993 + i AS large, i / 3 AS real,
                   DATE '2024-01-30' + i::INTEGER AS day, i % 2 = 0 AS even,
                   CASE WHEN i > 0 THEN 'word ' || i END AS word
            FROM range(40) r(i)
        \'\'\'

    @udf
    def places():
        """Every kind of geometry."""
        texts = [
            "POINT (1 1)", "POINT Z (2 1 9)", "LINESTRING (0 0, 1 2, 3 1)",
            "POLYGON ((4 0, 8 0, 8 4, 4 4, 4 0), (5 1, 7 1, 7 3, 5 3, 5 1))",
            "MULTIPOINT ((1 3), (2 3))", "MULTILINESTRING ((0 4, 1 5), (2 4, 3 5))",
            "MULTIPOLYGON (((4 5, 5 5, 5 6, 4 5)), ((6 5, 7 5, 7 6, 6 5)))",
            "GEOMETRYCOLLECTION (POINT (1 6), POLYGON ((2 6, 3 6, 3 7, 2 6)))",
            "POINT EMPTY", None,
        ]
        return [
            {"shape": text, "size": size, "name": f"place {size}"}
            for size, text in enumerate(texts)
        ]

    @udf
    def positions():
        """Longitudes and latitudes."""
        return """
            SELECT 10 + i / 10 AS pickup_lon, 50 + i / 20 AS pickup_lat, i AS count
            FROM range(30) r(i)
        """

    @udf
    def geojson():
        """Shapes as GeoJSON."""
        points = [{"type": "Point", "coordinates": [x, 2.0 * x]} for x in (1.0, 2.0)]
        return [{"geometry": point, "x": x} for x, point in enumerate(points)]

    @udf
    def no_rows():
        """A table without rows."""
        return "SELECT 1 AS a WHERE false"

    @udf
    def refuses(low: int = 1, high: int = 2):
        if low >= high:
            raise InvalidParameters(f"low must be below high, got {low} >= {high}")
        raise ValueError("there is no table today")

    @udf
    def slow(seconds: float = 60):
        """Takes its time."""
        Path(__file__).with_name("slow.pid").write_text(str(os.getpid()))
        time.sleep(seconds)
        return [{"slept": seconds}]
'''
# What would set `window.attacked`, or load something, if it were ever taken for more than a text.
ATTACK = """<img src=x onerror="attacked=1"><script>attacked=1</script><svg onload="attacked=1">"""
HOSTILE = f'''
    from webfoot import udf

    ATTACK = """{ATTACK}"""

    @udf(tags=[ATTACK, '" onmouseover="attacked=1'])
    def hostile(text: str = ATTACK, fail: bool = False):
        """Shows {ATTACK} as it is.

        And [a link](javascript:attacked=1), too: {ATTACK}

        Args:
            text: Takes {ATTACK}.

        Returns:
            A table {ATTACK}.
        """
        if fail:
            raise ValueError(text)
        named = {{ATTACK: text, "wkt": "POINT (1 2)", "size": 3, "javascript:attacked=1": text}}
        return [named, {{**named, "size": 4, ATTACK: "</td></table>" + text}}]
'''
BROKEN = f"""
    raise ImportError('''{ATTACK}''')
"""
