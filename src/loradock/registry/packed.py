"""The packed form of an adapter, beside its files."""

import logging
from pathlib import Path

from loradock.checkpoints.packed import is_packed, write_packed

log = logging.getLogger(__name__)


def keep_packed(folder: Path) -> None:
    """Make it unless it is there. Without it attaching takes longer, and nothing else."""
    try:
        if not is_packed(folder):
            write_packed(folder)
    except OSError as error:
        log.warning("an adapter could not be packed, attaching it will take longer: %s", error)
