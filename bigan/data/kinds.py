"""The kinds of data that a config can name."""

from typing import Annotated

from bigan.data.derived import Derived
from bigan.data.digits import CaptionedDigits, ColouredDigits
from bigan.data.ratings import Ratings
from bigan.data.stacked import StackedDigits
from bigan.data.stream import Shards
from bigan.data.streamed import Webdataset
from bigan.data.toy import Grid, Lines, Mixture, Ring, SwissRoll
from bigan.settings import BY_KIND

Toys = Ring | Grid | SwissRoll | Lines | Mixture
DrawnDigits = StackedDigits | ColouredDigits | CaptionedDigits
Data = Annotated[Shards | Webdataset | Toys | DrawnDigits | Derived | Ratings, BY_KIND]
