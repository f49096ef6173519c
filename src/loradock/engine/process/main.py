"""`loradock engine`: one base model, its adapters, the replica protocol."""

import gc
import logging
import os
import sys

from loradock.engine.process.announce import announce
from loradock.engine.process.options import read_options
from loradock.types.errors import LoradockError

log = logging.getLogger("loradock.engine")


def main(arguments: list[str] | None = None) -> None:
    """Runs until SIGTERM. On a fatal error the last line logged is the reason, and the exit code 1."""
    options = read_options(arguments)
    # Before the slow imports: whoever started this process must be able to find it from the first moment.
    announce(options.announce)
    # Hardly anything of a start is garbage, and looking for it takes a tenth of the time.
    gc.disable()
    # NumPy's own threads would stay in the way of those that compute.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    from loradock.engine.process.process import run

    try:
        run(options)
    except (LoradockError, OSError) as error:
        # It is shown to whoever made the endpoint, to whom the server's folders mean nothing.
        reason = str(error).replace(f"{options.model.parent}/", "")
        _fatal(f"cannot load {options.model.name}: {reason}" if isinstance(error, LoradockError) else reason)
    except MemoryError:
        _fatal(f"cannot load {options.model.name}: it does not fit this machine's memory")
    except Exception as error:
        log.exception("the engine failed")
        _fatal(f"the engine failed: {type(error).__name__}: {error}")


def _fatal(reason: str) -> None:
    log.error(" ".join(reason.split()))
    sys.exit(1)
