"""The smallest useful UDF: what a first call costs beside it is the platform's share."""

import pyarrow as pa

from webfoot import udf


@udf
def small(n: int = 0) -> pa.Table:
    """Ten numbers and their squares.

    Args:
        n: The first number.
    """
    numbers = range(n, n + 10)
    return pa.table({"number": list(numbers), "square": [number**2 for number in numbers]})
