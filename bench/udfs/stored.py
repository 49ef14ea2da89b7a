"""The UDF whose stored results are read again and again."""

import pyarrow as pa

from webfoot import udf

from ._data import readings


@udf(cache="1d")
def stored(rows: int = 1000) -> pa.Table:
    """Sensor readings.

    Args:
        rows: Number of rows.
    """
    return readings(rows)
