"""`python pack_and_die.py SOURCE OUT AT WORKERS SETTINGS`: a packing that is killed once AT images are done."""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from functools import partial

from PIL import Image

from bigan.data.fit import Encoding
from bigan.data.pack import pack
from bigan.data.plan import Plan
from bigan.data.sources import open_source
from bigan.data.sources.base import Load


def held(load: Load) -> Image.Image:
    """An image that takes for ever, so that the packing cannot end before it is killed."""
    time.sleep(1000)
    return load()


def progress(done: int, _total: int) -> None:
    if done >= int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    source = open_source(sys.argv[1])
    plan = Plan(
        source=source, encoding=Encoding(size=(1, 1), channels=1), samples_per_shard=1, keep_order=False, part=(0, 1)
    )  # fmt: skip
    last = plan.dealt()[-1]
    items = [item._replace(load=partial(held, item.load)) if row == last else item for row, item in enumerate(source)]
    settings = json.loads(sys.argv[5])
    pack(replace(source, items=items), sys.argv[2], **settings, workers=int(sys.argv[4]), progress=progress)
