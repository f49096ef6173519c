"""A multipart upload, read as it arrives: files go straight to their place, so that limits bite on the way."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.concurrency import run_in_threadpool

from loradock.registry.uploads.received import Received, Sink
from loradock.types.enums import ModelKind
from loradock.types.errors import BadRequest, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_FIELDS, _MAX_FIELD_BYTES, _MAX_HEADER_BYTES = 100, 1 << 16, 1 << 13


async def read_upload(content_type: str, body: AsyncIterator[bytes], received: Received) -> dict[str, str]:
    """The form's fields; its files, the parts with a file name, are in `received` then.

    Raises BadRequest for a broken form, TooLarge at the limits.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise BadRequest("the request body is not a multipart form: send multipart/form-data with a boundary")
    with ExitStack() as open_file:
        form = _Form(received, open_file)
        try:
            parser = MultipartParser(boundary, form.callbacks())
            async for chunk in body:
                await run_in_threadpool(parser.write, chunk)
            parser.finalize()
        except FormParserError as error:
            raise BadRequest(f"the request body is not a valid multipart form: {error}") from error
    if not form.ended:
        raise BadRequest("the request body is not a valid multipart form: it is cut off")
    return form.fields


class _Form:
    """Callbacks of the parser as it goes through the form."""

    def __init__(self, received: Received, open_file: ExitStack) -> None:
        self.fields: dict[str, str] = {}
        self.ended = False
        self._received = received
        self._open_file = open_file
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._field = ""
        self._text = bytearray()
        self._sink: Sink | None = None

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self.part_begin,
            "on_header_field": self.header_field,
            "on_header_value": self.header_value,
            "on_header_end": self.header_end,
            "on_headers_finished": self.headers_finished,
            "on_part_data": self.part_data,
            "on_part_end": self.part_end,
            "on_end": self.end,
        }

    def part_begin(self) -> None:
        self._disposition = b""
        self._sink = None
        self._text.clear()

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._check(self._header, _MAX_HEADER_BYTES)

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check(self._value, _MAX_HEADER_BYTES)

    def header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def headers_finished(self) -> None:
        options = parse_options_header(self._disposition)[1]
        if b"filename" in options:
            filename = options[b"filename"].decode("utf-8", "replace")
            self._sink = self._open_file.enter_context(self._received.open(filename))
        elif len(self.fields) >= _MAX_FIELDS:
            raise TooLarge(f"the form holds more than {_MAX_FIELDS} fields")
        self._field = options.get(b"name", b"").decode("utf-8", "replace")

    def part_data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(data[start:end])
            return
        self._text += data[start:end]
        self._check(self._text, _MAX_FIELD_BYTES)

    def part_end(self) -> None:
        if self._sink is not None:
            self._open_file.close()
            return
        self.fields[self._field] = self._text.decode("utf-8", "replace")
        if self._field == "model_type":
            self._received.expect(_kind(self.fields[self._field]))

    def end(self) -> None:
        self.ended = True

    def _check(self, text: bytearray, limit: int) -> None:
        if len(text) > limit:
            raise TooLarge(f"the form's field {self._field!r} is larger than {limit >> 10} KiB; send files as files")


def _kind(text: str) -> ModelKind:
    if text not in list(ModelKind):
        raise BadRequest(f"model_type is {text!r}: give adapter or model", param="model_type")
    return ModelKind(text)
