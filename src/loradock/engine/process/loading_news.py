"""What is done with the model during a start, for those who ask meanwhile how the engine is."""

import logging

from loradock.engine.http.server import EngineServer

_MODELS = "loradock.engine.models"
"""The loggers of what may take minutes: packing a model for the first time."""


def tell_of_loading(server: EngineServer) -> None:
    """Have the server say what is logged about the model."""
    logging.getLogger(_MODELS).addHandler(_News(server))


class _News(logging.Handler):
    def __init__(self, server: EngineServer) -> None:
        super().__init__()
        self._server = server

    def emit(self, record: logging.LogRecord) -> None:
        self._server.loading = record.getMessage()
