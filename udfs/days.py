"""The shortest kind of UDF: it returns SQL, and Webfoot runs it."""

from datetime import date

from webfoot import InvalidParameters, udf


@udf(cache="forever")
def days(since: date = date(2013, 1, 1), until: date = date(2013, 12, 31)) -> str:
    """A calendar, one row per day: something to join with, so that days without data show.

    Args:
        since: First day.
        until: Last day, included.

    Returns:
        `day` date, ISO `week` such as `2013-W01`, `weekday` name, `is_weekend` boolean.

    Raises:
        InvalidParameters: If `until` is before `since`.

    Source:
        The Gregorian calendar; weeks by ISO 8601.
    """
    if until < since:
        raise InvalidParameters(f"until must not be before since, got {until} < {since}")
    # A date cannot carry SQL; text can, so give that to a cursor as a parameter (see `delays`).
    return f"""
        FROM range(DATE '{since}', DATE '{until}' + 1, INTERVAL 1 DAY) AS calendar(midnight)
        SELECT CAST(midnight AS DATE) AS day,
               strftime(midnight, '%G-W%V') AS week,
               dayname(midnight) AS weekday,
               isodow(midnight) > 5 AS is_weekend
    """
