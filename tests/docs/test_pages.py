"""What the pages say is what the programs say."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, HOSTED, written

ROOT = DOCS.parent
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
ANEW = "write it anew: python -m tests.docs.pages"


INTERNAL = {"LORADOCK_ENGINE_SECRET", "LORADOCK_GPUS"}
"""Variables that the server sets for its own processes."""


def tables(page: str) -> list[str]:
    return re.findall(r"<!-- table: (\w+) -->", page)


def test_every_setting_is_on_its_page():
    page = (DOCS / "configuration.md").read_text()
    assert tables(page) == ["serve", "demo", "client", "engine"]
    assert written(page) == page, ANEW


def test_every_variable_is_on_its_page():
    page = (DOCS / "configuration.md").read_text()
    source = "".join(file.read_text() for file in (ROOT / "src").rglob("*.py"))
    read = set(re.findall(r'"((?:LORADOCK|HF)_[A-Z_]+)"', source)) - INTERNAL
    assert {name for name in read if f"`{name}`" not in page} == set()


def test_every_call_and_field_is_on_its_page(server):
    with server.client() as http:
        document = http.get("/openapi.json").json()
    page = (DOCS / "api.md").read_text()
    assert tables(page) == ["calls", "fields", "parameters"]
    assert written(page, document) == page, ANEW
    assert {f"`{call}`" in page for call in HOSTED} == {True}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        file = page if not name else page.parent / name
        assert file.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target
