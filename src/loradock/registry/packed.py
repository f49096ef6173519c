"""The packed form of an adapter, beside its files."""

import logging
from pathlib import Path

from loradock.checkpoints.adapters.inspection import read_files, understand
from loradock.checkpoints.adapters.packed import is_packed, write_packed
from loradock.types.errors import AdapterRefused

log = logging.getLogger(__name__)


def keep_packed(folder: Path) -> None:
    """Make it unless it is there. Without it attaching takes longer, and nothing else: neither a full disk nor a model
    that is deleted meanwhile shall end an upload that was accepted. One with whole tables waits for its base model."""
    try:
        if not is_packed(folder) and not understand(read_files(folder), None).tables:
            write_packed(folder)
    except (OSError, AdapterRefused) as error:
        log.warning("an adapter could not be packed, attaching it will take longer: %s", error)
