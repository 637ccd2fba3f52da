"""The reference for people: whole, harmless, and from nowhere else."""

from html.parser import HTMLParser

from gateway import reference
from gateway.app import create_app
from gateway.settings import GatewaySettings


class Read(HTMLParser):
    """What a browser would make of the page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        self.ids.add(found.get("id") or "")
        self.links |= {value for name, value in attrs if name in ("href", "src") and value}


def test_every_operation_and_every_type_has_its_place_and_every_link_leads_somewhere() -> None:
    document = create_app(GatewaySettings()).openapi()

    read = Read(reference.page(document))

    operations = {each["operationId"] for methods in document["paths"].values() for each in methods.values()}
    assert operations | set(document["components"]["schemas"]) <= read.ids
    assert {link for link in read.links if link.startswith("#")} <= {f"#{name}" for name in read.ids}


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs() -> None:
    read = Read(reference.page(create_app(GatewaySettings()).openapi()))

    assert {link for link in read.links if not link.startswith("#")} == {"openapi.json"}
    assert not read.tags & {"script", "iframe", "img", "link", "object"}


def test_words_of_the_document_are_shown_and_not_run() -> None:
    document = {
        "info": {"title": "<script>", "version": "1"},
        "paths": {"/<b>": {"get": {"tags": ["<i>"], "operationId": '">', "description": "<u>", "responses": {}}}},
        "components": {"schemas": {}},
    }

    assert not Read(reference.page(document)).tags & {"script", "b", "i", "u"}
