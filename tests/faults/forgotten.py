"""`bigan …` on a file system without locks, with a short patience, as a job on another machine would see the run folder."""

import fcntl
import sys
from typing import NoReturn

from bigan.cli import main
from bigan.distributed import lease


def refuse(*_: object) -> NoReturn:
    raise OSError(37, "No locks available")


if __name__ == "__main__":
    fcntl.flock = refuse
    lease.RENEWAL_S, lease.PATIENCE_S, lease.SETTLING_S = 0.2, 3.0, 0.1
    sys.exit(main())
