"""The longest that a stop may take."""

import faulthandler
import logging
import os
import sys
import threading

_log = logging.getLogger(__name__)


def end_within(seconds: float) -> None:
    """However it goes, this process is gone after that time: a disk that does not answer holds up what cannot be
    cancelled. Replicas that are left are found by the next start."""
    timer = threading.Timer(seconds, _give_up, [seconds])
    timer.daemon = True  # a stop that ends by itself does not wait for it
    timer.start()


def _give_up(seconds: float) -> None:
    _log.error("the server has not stopped within %.0f s and is ended now; what its threads were at:", seconds)
    faulthandler.dump_traceback(sys.stderr)
    os._exit(1)
