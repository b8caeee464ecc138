"""The kinds of data that a config can name."""

from typing import Annotated

from bigan.data.digits import CaptionedDigits, ColouredDigits
from bigan.data.stacked import StackedDigits
from bigan.data.stream import Shards
from bigan.data.streamed import Webdataset
from bigan.data.toy import Grid, Lines, Mixture, Ring, SwissRoll
from bigan.settings import BY_KIND

Toys = Ring | Grid | SwissRoll | Lines | Mixture
DrawnDigits = StackedDigits | ColouredDigits | CaptionedDigits
Data = Annotated[Shards | Webdataset | Toys | DrawnDigits, BY_KIND]
