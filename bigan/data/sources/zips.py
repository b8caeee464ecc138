"""A zip of images; nothing is unpacked to disk."""

import io
import os
import struct
import zipfile
from functools import partial
from pathlib import Path, PurePosixPath

from PIL import Image

from bigan.data.sources.base import Source, checked_size, counts, is_image, leads_out, one_line, open_image
from bigan.data.sources.opened import PerProcess
from bigan.data.sources.tree import Listing, tree

_opened = PerProcess(zipfile.ZipFile)


def open_zip(path: Path) -> Source:
    """A zip of images, read as a folder is; ValueError where it is damaged, encrypted, hostile or has none."""
    return tree(path, "zip", list_zip(path))


def list_zip(path: Path) -> Listing:
    """The images of a zip; ValueError where it is damaged, encrypted or hostile."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, IndexError, struct.error) as error:
        raise ValueError(f"{path}: cannot be read as a zip ({one_line(error)})") from error
    hostile = next((info.filename for info in infos if leads_out(info.filename)), None)
    if hostile is not None:
        raise ValueError(f"{path}: member {hostile!r} leads out of the zip; make the zip anew")
    members = {info.filename: info for info in infos if counts(info.filename)}
    if len(members) != sum(counts(info.filename) for info in infos):
        raise ValueError(f"{path}: has two members of one name; make the zip anew")
    files = sorted(members, key=PurePosixPath)
    names = [name for name in files if is_image(name)]
    if any(members[name].flag_bits & 1 for name in names):
        raise ValueError(f"{path}: is encrypted; unpack it and give the folder")
    sums = [f"{members[name].file_size} {members[name].CRC}" for name in names]
    absolute = os.path.abspath(path)  # one object for all: it is pickled once
    loads = [partial(_zip_image, absolute, name) for name in names]
    return Listing(names, sums, loads, [name for name in files if not is_image(name)])


def _zip_image(path: str, name: str) -> Image.Image:
    archive = _opened(path)
    checked_size(archive.getinfo(name).file_size)
    return open_image(io.BytesIO(archive.read(name)))
