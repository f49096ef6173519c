"""An endpoint that was created is there, whatever becomes of telling the gateway at once."""

import asyncio

import pytest
from sqlalchemy.exc import OperationalError

from loradock.control.controller import Controller
from loradock.types.errors import DatabaseBusy


@pytest.mark.parametrize(
    "failure", [DatabaseBusy(), OperationalError("SELECT", None, Exception("disk I/O error")), asyncio.CancelledError()]
)
async def test_a_creation_does_not_fail_where_it_is_only_not_told(failure):
    controller = Controller.__new__(Controller)

    async def publish(_):
        raise failure

    controller._event_loop = asyncio.get_running_loop()
    controller._wake_and_publish = publish
    await asyncio.to_thread(controller.announce, "dep_1")
