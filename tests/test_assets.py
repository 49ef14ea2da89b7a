"""The files of the pages, and that they are in the package that people install."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from webfoot import assets

ROOT = Path(__file__).parent.parent


def test_every_file_has_a_type_and_what_scripts_import_is_there() -> None:
    files = assets.files()
    assert {name.rpartition(".")[2] for name in files} == set(assets.MEDIA_TYPES)
    folder = Path(assets.__file__).with_name("static")
    assert set(files) == {file.name for file in folder.iterdir()}
    for name, content in files.items():
        for imported in re.findall(r'from "\./([^"]+)"', content.decode()):
            assert imported in files, f"{name} imports {imported}"


def test_the_page_of_a_udf_asks_for_all_of_its_scripts_at_once() -> None:
    page = (ROOT / "app/webfoot/templates/udf.html").read_text()
    listed = re.search(r"for name in \((.*)\) %", page)
    assert listed is not None
    needed, waiting = set[str](), ["udf.js"]
    while waiting:
        imported = re.findall(r'from "\./([^"]+)"', assets.files()[waiting.pop()].decode())
        waiting += set(imported) - needed
        needed |= set(imported)
    assert {f"{name}.js" for name in re.findall(r'"(\w+)"', listed[1])} == needed


def test_no_file_names_another_server_or_makes_markup_of_data() -> None:
    for name, content in assets.files().items():
        text = content.decode()
        addresses = set(re.findall(r"https?://[^\s\"')]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_a_wheel_has_the_files_and_the_templates(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    templates = {file.name for file in (ROOT / "app/webfoot/templates").iterdir()}
    assert {f"webfoot/static/{name}" for name in assets.files()} <= packed
    assert {f"webfoot/templates/{name}" for name in templates} <= packed
