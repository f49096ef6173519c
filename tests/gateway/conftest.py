import asyncio

import uvloop

ON_BOTH_LOOPS = ("test_connections.py", "test_odd_replicas.py")
"""The server runs on uvloop where there is one."""


def pytest_asyncio_loop_factories(config, item):
    plain = {"asyncio": asyncio.new_event_loop}
    return plain | {"uvloop": uvloop.new_event_loop} if item.path.name in ON_BOTH_LOOPS else plain
