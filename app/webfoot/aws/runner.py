"""A fan-out over Lambda: what a run calls runs in other instances of the same function."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from webfoot import assembly
from webfoot.aws.invoking import Busy, Died, Refused
from webfoot.aws.orders import answer_of, order_for
from webfoot.aws.window import Window
from webfoot.errors import UdfCrashed, UdfTimeout
from webfoot.quantities import write_seconds
from webfoot.runners.inline import InlineRunner
from webfoot.runners.jobs import UdfJob

if TYPE_CHECKING:
    from pathlib import Path

    from webfoot.aws.invoking import Invoker
    from webfoot.aws.orders import Deadline, Order
    from webfoot.registry import Registry
    from webfoot.results import Draft
    from webfoot.runners import Calls, Load, Runner
    from webfoot.runners.jobs import Job
    from webfoot.settings import Settings

# An event may have 6 MB; of its arguments JSON may make more than they are.
_MOST_ARGUMENTS = 1_000_000
# Platforms end instances for reasons of their own; a UDF that ends two of them does it itself.
_MOST_DEATHS = 2

_log = logging.getLogger(__name__)


def make_runner(
    settings: Settings, temp: Path, *, invoker: Invoker | None, deadline: Deadline
) -> Runner:
    """The runner of a function: over its instances, if these share their results.

    Args:
        settings: How the application behaves.
        temp: Where runs may put temporary files.
        invoker: Reaches the other instances.
        deadline: When their answers are of no use any more.
    """
    here = assembly.make_runner(settings, temp)
    if invoker is None or not settings.invocations or not isinstance(here, InlineRunner):
        return here
    return LambdaRunner(here, invoker, settings.invocations, deadline)


class LambdaRunner:
    """Runs here what a request asks for, and in other instances what that calls.

    Whenever there is room here, a call is run here. So runs that wait for each other come to their
    end even if no instance is to be had.

    Args:
        here: Runs jobs in this process.
        invoker: Gives events to other instances.
        at_once: How many of them are used at a time.
        deadline: When their answers are of no use any more.
    """

    def __init__(
        self, here: InlineRunner, invoker: Invoker, at_once: int, deadline: Deadline
    ) -> None:
        self.calls_at_once = here.calls_at_once + at_once
        self._here = here
        self._invoker = invoker
        self._window = Window(at_once)
        self._deadline = deadline
        self._is_refused = False

    async def run(self, job: Job, target: Path, log: Path, calls: Calls) -> Draft:
        """Run `job`, somewhere."""
        if isinstance(job, UdfJob) and self._may_go(job, calls):
            draft = await self._run_elsewhere(job, calls)
            if draft is not None:
                return draft
        try:
            return await self._here.run(job, target, log, calls)
        finally:
            self._window.look_again()

    def load(self) -> Load:
        """How busy this instance is."""
        return self._here.load()

    async def use(self, registry: Registry) -> None:
        """Note what runs may call."""
        await self._here.use(registry)

    async def close(self) -> None:
        """Stop; what other instances do ends there, at its deadline."""
        await self._here.close()

    def _may_go(self, job: UdfJob, calls: Calls) -> bool:
        return (
            calls.descent.depth > 0
            # Many that only wait do so here as well as anywhere.
            and not job.udf.options.waits
            and not self._is_refused
            and len(job.arguments) <= _MOST_ARGUMENTS
        )

    async def _run_elsewhere(self, job: UdfJob, calls: Calls) -> Draft | None:
        """Have another instance make a run; None if it is to be made here."""
        for deaths in range(1, _MOST_DEATHS + 1):
            try:
                answer = await self._ask(order_for(job, calls.descent, self._deadline.ends_at))
            except Refused as error:
                self._is_refused = True
                _log.warning(
                    "what UDFs call runs in this instance alone, as it may invoke no other (%s);"
                    " allow lambda:InvokeFunction, or set WEBFOOT_INVOCATIONS to 0",
                    error,
                )
                return None
            except Died as error:
                _log.warning("an instance ended in a run of %s: %s", job.udf.name, error)
                if error.timed_out:
                    limit = write_seconds(job.timeout_s)
                    raise UdfTimeout(
                        f"it ran longer than {limit}", timeout_s=job.timeout_s
                    ) from None
                if deaths == _MOST_DEATHS:
                    raise UdfCrashed(
                        f"the instance that ran it ended, and so did the next ({error}); if it"
                        " needs more memory, give the function more"
                    ) from None
            else:
                done = answer_of(answer)
                if done is None:
                    return None
                calls.made_elsewhere(done.calls, done.cost)
                return done.draft
        return None

    async def _ask(self, order: Order) -> Any:
        """What an instance answers; nothing if there is room here first."""
        window = self._window
        while await window.enter(self._here.has_room):
            try:
                answer = await self._invoker.invoke(order.event())
            except Busy:
                window.narrow()
            else:
                window.widen()
                return answer
            finally:
                window.leave()
        return {}
