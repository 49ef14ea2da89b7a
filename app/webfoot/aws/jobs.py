"""Jobs as events: one that another instance has made, or a batch of messages from a queue."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from webfoot.access.principal import ANONYMOUS
from webfoot.errors import Error
from webfoot.server.jobs import read_question

if TYPE_CHECKING:
    from collections.abc import Mapping

    from webfoot.aws.orders import Deadline
    from webfoot.engine import Engine
    from webfoot.jobs import Job
    from webfoot.jobs.running import Jobs

_KIND = "webfoot.job"
_QUEUE = "aws:sqs"

_log = logging.getLogger(__name__)


def event_for(job: Job) -> dict[str, Any]:
    """The event that has an instance run `job`."""
    return {"kind": _KIND, "id": job.id}


def is_job(event: Mapping[str, Any]) -> bool:
    """Whether an event is a job that another instance has made."""
    return event.get("kind") == _KIND


def is_batch(event: Mapping[str, Any]) -> bool:
    """Whether an event is messages of an SQS queue."""
    records = event.get("Records")
    return isinstance(records, list) and any(
        isinstance(record, dict) and record.get("eventSource") == _QUEUE for record in records
    )


async def run_job(event: Mapping[str, Any], jobs: Jobs, deadline: Deadline) -> dict[str, Any]:
    """Run the job that an event names, to its end; one that has ended stays as it is."""
    job = await jobs.taken(event["id"])
    if job is None:
        return {"job": event["id"], "state": "forgotten"}
    job = await jobs.run(job, deadline.ends_at - time.time())
    return {"job": job.id, "state": job.state}


async def run_batch(
    event: Mapping[str, Any], jobs: Jobs, engine: Engine, deadline: Deadline
) -> dict[str, Any]:
    """Run the jobs that messages ask for, with bodies such as `POST /jobs` has.

    Whoever may write to the queue may ask for anything. A message that is delivered twice is one
    job. One that makes no job, or whose job fails, is told as failed, so that the queue keeps it
    for whoever looks why; it is not run again.

    Returns:
        What SQS asks for: which messages failed.
    """

    async def run(record: Mapping[str, Any]) -> bool:
        try:
            body = record["body"].encode()
            question = read_question(engine, engine.registry, ANONYMOUS, body)
            job = await jobs.admit(question, once=f"message {record['messageId']}")
            job = await jobs.run(job, deadline.ends_at - time.time())
        except Error as error:
            _log.warning("message %s makes no job: %s", record["messageId"], error.detail)
            return False
        if job.state != "done":
            detail = (job.problem or {}).get("detail")
            _log.warning("job %s of message %s: %s", job.id, record["messageId"], detail)
        return job.state == "done"

    records = event["Records"]
    ended = await asyncio.gather(*(run(record) for record in records))
    failed = [record for record, done in zip(records, ended, strict=True) if not done]
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in failed]}
