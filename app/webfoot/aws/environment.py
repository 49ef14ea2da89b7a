"""What Lambda's environment makes of the settings that are not given."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from webfoot.settings import PREFIX, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# Lambda's disk is small, and UDFs spill to it, too.
_SHARE_OF_DISK = 0.5


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a function: those of the environment, and these where it says nothing.

    UDFs run inside the process, because Lambda isolates calls itself; the store is in the one place
    that can be written to; the folder is beside the function's code.

    Args:
        environment: The variables: Webfoot's own and Lambda's.

    Raises:
        SettingsError: If a variable has a value that it cannot have, or is no setting.
    """
    temp = Path(environment.get("TMPDIR") or tempfile.gettempdir())
    defaults: dict[str, Any] = {
        "folder": Path(environment.get("LAMBDA_TASK_ROOT") or Path.cwd()) / "udfs",
        "store": temp / "webfoot",
        "store_size": int(shutil.disk_usage(temp).free * _SHARE_OF_DISK),
        "runner": "inline",
        # Its disk goes with it: what is told of requests belongs into the function's log.
        "request_log": 0,
    }
    if not environment.get(f"{PREFIX}STORE", "").startswith("s3:"):
        # Another instance would not know the job that a request is sent on to.
        defaults["hold"] = math.inf
    given = {name: value for name, value in defaults.items() if not _is_set(name, environment)}
    return Settings.from_environment(environment, **given)


def _is_set(name: str, environment: Mapping[str, str]) -> bool:
    return bool(environment.get(PREFIX + name.upper()))
