"""Files that hold prompts, credentials and secrets are for their owner only."""

import logging
import stat
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

PRIVATE_FOLDER: Final = 0o700
PRIVATE_FILE: Final = 0o600
_OTHERS: Final = 0o077


def make_private(path: Path) -> None:
    """Take away from other users of the machine what they may do with a file or folder; nothing when there is none.

    What belongs to somebody else cannot be changed: then the log says so.
    """
    try:
        mode = path.stat().st_mode
        if mode & _OTHERS:
            path.chmod(PRIVATE_FOLDER if stat.S_ISDIR(mode) else PRIVATE_FILE)
    except FileNotFoundError:
        return
    except PermissionError:
        logger.warning("%s may be open to other users of this machine, and belongs to one of them", path)
