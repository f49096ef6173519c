"""The built-in engine with a compute thread that stops for good at a prompt that begins with a certain token."""

import threading

from loradock.engine.process import main
from loradock.engine.scheduling import scheduler

TOKEN = 4242
_add = scheduler.Scheduler.add


def _add_or_stop(self, sequences):
    if any(sequence.prompt[0] == TOKEN for sequence in sequences):
        threading.Event().wait()
    return _add(self, sequences)


if __name__ == "__main__":
    scheduler.Scheduler.add = _add_or_stop
    main.main()
