"""Resolves the references of a schema: JSON pointers, anchors and nested `$id`s, all inside the schema itself."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

_DATA = ("const", "enum", "default", "example", "examples")
"""Keywords whose values are no schemas, whatever they look like."""


class References:
    """Raises RecursionError for a schema nested beyond all reason."""

    def __init__(self, root: Any) -> None:
        self._resources: dict[str, Any] = {"": root}
        self._anchors: dict[tuple[str, str], Any] = {}
        self._bases: dict[int, str] = {}
        self._index(root, "")

    def target(self, reference: str, origin: dict[str, Any]) -> Any:
        """The schema that a reference in `origin` means. Raises LookupError when there is none."""
        base = self._bases.get(id(origin), "")
        try:
            address = base + reference if reference.startswith("#") else urljoin(base, reference)
            resource, fragment = urldefrag(address)
        except ValueError as error:
            raise LookupError(reference) from error
        if resource not in self._resources:
            raise LookupError(reference)
        if not fragment or fragment.startswith("/"):
            return _at(self._resources[resource], unquote(fragment))
        return self._anchors[resource, fragment]

    def _index(self, node: Any, base: str) -> None:
        if isinstance(node, dict):
            name = node.get("$id", node.get("id"))
            if isinstance(name, str) and name.startswith("#"):  # how drafts 4 to 7 write an anchor
                self._anchors.setdefault((base, name[1:]), node)
            elif isinstance(name, str):
                base = _joined(base, name)
                self._resources.setdefault(base, node)
            self._bases[id(node)] = base
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(anchor := node.get(key), str):
                    self._anchors.setdefault((base, anchor), node)
        for child in _children(node):
            self._index(child, base)


def _joined(base: str, name: str) -> str:
    try:
        return urldefrag(urljoin(base, name))[0]
    except ValueError:
        return base


def _children(node: Any) -> Iterator[Any]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key not in _DATA or isinstance(value, dict):
                yield value
    elif isinstance(node, list):
        yield from node


def _at(node: Any, pointer: str) -> Any:
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(key)] if isinstance(node, list) else node[key]
        except (LookupError, TypeError, ValueError) as error:
            raise LookupError(pointer) from error
    return node
