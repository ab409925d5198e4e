"""The pictures of the README: it shows them, and they can be made."""

from __future__ import annotations

import os
import re
import struct
from xml.etree import ElementTree

import pytest

pytest.importorskip("pyte")

from tests import pictures

NAMES = {"shell.svg", "top.svg"}
SVG = "{http://www.w3.org/2000/svg}"


def words(path: str) -> list[str]:
    """The texts of a picture; what is drawn must lie within it."""
    root = ElementTree.parse(path).getroot()
    wide, high = (float(size) for size in root.attrib["viewBox"].split()[2:])
    found = []
    for part in root.iter():
        if part.tag == SVG + "text":
            assert 0 < float(part.attrib["y"]) < high
            assert float(part.attrib["x"]) + float(part.attrib["textLength"]) < wide
            found.append(part.text or "")
    return found


def test_the_readme_shows_both_pictures_and_says_what_is_on_them() -> None:
    with open(os.path.join(pictures.ROOT, "README.md"), encoding="utf-8") as file:
        shown = re.findall(r"!\[([^\]]{20,})\]\(docs/(\w+\.svg)\)", file.read())
    assert {name for _, name in shown} == NAMES


def test_the_readme_shows_the_page_twice() -> None:
    with open(os.path.join(pictures.ROOT, "README.md"), encoding="utf-8") as file:
        shown = re.findall(r"!\[([^\]]{20,})\]\(docs/(\w[\w-]*\.png)\)", file.read())
    assert [name for _, name in shown] == ["page.png", "page-job.png"]
    for _, name in shown:
        with open(os.path.join(pictures.DOCS, name), "rb") as file:
            head = file.read(24)
        assert head.startswith(b"\x89PNG")
        assert struct.unpack(">II", head[16:]) == (1280, 800)


def test_the_pictures_kept_are_of_a_shell_and_of_top() -> None:
    shell = words(os.path.join(pictures.DOCS, "shell.svg"))
    assert {"queuectl>", "retry"} <= set(shell)
    assert any("completed in" in text for text in shell)
    assert any(
        text.startswith("workers:") for text in words(os.path.join(pictures.DOCS, "top.svg"))
    )


def test_pictures_are_made_of_a_real_session(tmp_path) -> None:
    assert pictures.main(str(tmp_path)) == 0
    assert set(os.listdir(tmp_path)) == NAMES
    for name in NAMES:
        assert "fetch-feeds" in " ".join(words(str(tmp_path / name)))
