"""What a run takes, measured where it runs: some 40 µs for each."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
import time
from collections.abc import Callable

from webfoot.billing import function_bytes
from webfoot.results import Usage

# Tells what a run has taken so far; asked on the run's own thread.
Meter = Callable[[], Usage]

_STATUS = re.compile(rb"^(VmHWM|RssFile|RssShmem):\s+(\d+)", re.MULTILINE)
# What the system takes for "forget how much memory this process once had"; nothing else changes.
# https://docs.kernel.org/filesystems/proc.html
_FORGET_PEAK = b"5"


def meter_process() -> Meter:
    """Begin to measure a run that has this process for itself."""
    with contextlib.suppress(
        OSError
    ):  # Where it may not, the peak is the process' own of all time.
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
        try:
            os.write(descriptor, _FORGET_PEAK)
        finally:
            os.close(descriptor)
    return _begin(_process_cpu_s)


def meter_thread() -> Meter:
    """Begin to measure a run that has this thread for itself, and shares the process."""
    return _begin(time.thread_time)


def _begin(cpu_s: Callable[[], float]) -> Meter:
    began, used_s = time.perf_counter(), cpu_s()

    def usage() -> Usage:
        memory = function_bytes() or _peak_bytes()
        return Usage(time.perf_counter() - began, cpu_s() - used_s, memory)

    return usage


def _process_cpu_s() -> float:
    """Of all threads, and of children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _peak_bytes() -> int:
    """The most memory that was this process' own; pages of files, such as libraries, are not."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/status", os.O_RDONLY)
        try:
            found = dict(_STATUS.findall(os.read(descriptor, 1 << 16)))
        finally:
            os.close(descriptor)
        if b"VmHWM" in found:
            # What is shared is known for now only; it changes little.
            shared_kib = int(found.get(b"RssFile", 0)) + int(found.get(b"RssShmem", 0))
            return (int(found[b"VmHWM"]) - shared_kib) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
