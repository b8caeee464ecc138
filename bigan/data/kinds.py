"""The kinds of data that a config can name."""

from typing import Annotated

from bigan.data.stacked import StackedDigits
from bigan.data.stream import Shards
from bigan.data.streamed import Webdataset
from bigan.data.toy import Grid, Lines, Mixture, Ring, SwissRoll
from bigan.settings import BY_KIND

Data = Annotated[Shards | Webdataset | Ring | Grid | SwissRoll | Lines | Mixture | StackedDigits, BY_KIND]
