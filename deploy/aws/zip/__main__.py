"""Make the zip and its template: `python -m deploy.aws.zip --architecture arm64`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from deploy.aws.zip.archive import (
    MOST_DIRECT_BYTES,
    MOST_UNPACKED_BYTES,
    TooLarge,
    check_size,
    gather,
    largest,
    megabytes,
    pack,
    size_of,
)
from deploy.aws.zip.needs import needs_of
from deploy.aws.zip.packages import REQUIREMENTS, Installed, NotLocked, install
from deploy.aws.zip.template import zip_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from deploy.aws.zip.packages import Package

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "deploy" / "aws" / "template.yaml"
MACHINES = {"x86_64": "x86_64", "arm64": "aarch64"}
# Lambda's runtimes of before rest on a system with an older C library than pyarrow's wheels take.
PYTHONS = ("3.12", "3.13")


def main() -> None:
    """Make both, or say why not."""
    options = _parse()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version not in PYTHONS:
        sys.exit(
            f"this is Python {version}, and a zip is made by the Python that is to run it:"
            f" {' or '.join(PYTHONS)}; say make build-aws-zip PYTHON=python{PYTHONS[-1]}"
        )
    try:
        made = make(options.architecture, options.udfs, options.extra, options.output)
    except (NotLocked, OSError, SyntaxError, TooLarge) as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd[2]} failed; it says why above")
    template = TEMPLATE.read_text(encoding="utf-8")
    text = zip_template(template, options.architecture, f"python{version}", made.name)
    made.with_suffix(".yaml").write_text(text, encoding="utf-8")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.aws.zip", description=__doc__)
    parser.add_argument("--architecture", choices=MACHINES, default="arm64")
    parser.add_argument("--udfs", type=Path, default=ROOT / "udfs", help="the folder of UDFs")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="the folder to write to")
    parser.add_argument(
        "--with",
        dest="extra",
        nargs="*",
        default=[],
        metavar="PACKAGE",
        help=f"packages of {REQUIREMENTS} that go in, though no file of UDFs imports them",
    )
    return parser.parse_args()


def make(architecture: str, udfs: Path, extra: Sequence[str], output: Path) -> Path:
    """Make the zip, and tell what is in it.

    Args:
        architecture: What for, as Lambda calls it.
        udfs: The folder of UDFs.
        extra: Packages that go in, though no file of UDFs imports them.
        output: The folder to write to.

    Raises:
        NotLocked: If a package is required that the lock file does not have.
        OSError: If there is no such folder, or a file cannot be read or written.
        SyntaxError: If a file of UDFs is not Python.
        TooLarge: If Lambda would refuse it.
        subprocess.CalledProcessError: If pip or Python fails; it has said why.
    """
    needs = needs_of(udfs)
    path = output / f"webfoot-lambda-{architecture}.zip"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temp:
        everything, task = Path(temp) / "everything", Path(temp) / "task"
        install(ROOT, MACHINES[architecture], everything)
        # To read what packages require takes one that has just been installed.
        sys.path.append(str(everything))
        installed = Installed(everything, MACHINES[architecture])
        asked = {**needs.packages, **dict.fromkeys(extra, "--with")}
        packages = installed.choose(needs.modules, asked)
        gather(packages, udfs, task)
        check_size(task, packages)
        pack(task, path)
        _report(path, task, packages)
    for module, file in installed.missing(needs.modules).items():
        print(f"{file} imports {module}, which {REQUIREMENTS} does not have: it will not load")
    return path


def _report(path: Path, task: Path, packages: Sequence[Package]) -> None:
    unpacked, zipped = size_of(task), path.stat().st_size
    most = megabytes(MOST_UNPACKED_BYTES)
    print(f"{path}: {megabytes(zipped)}, unpacked {megabytes(unpacked)}; Lambda takes {most}")
    for line in largest(task, packages):
        print(f"  {line}")
    if zipped > MOST_DIRECT_BYTES:
        print(f"above {megabytes(MOST_DIRECT_BYTES)} it goes by way of S3, as sam sends it")


if __name__ == "__main__":
    main()
