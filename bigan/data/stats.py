"""What a packed set holds, in figures."""

from collections.abc import Iterator

import numpy as np

from bigan.data.stream import Shards

MOST = 10_000  # samples that are decoded for the figures, an even part of the set's order
_CHUNK = 250


def stats(folder: str) -> list[str]:
    """Lines for a person: shards, bytes, fields; shares of the classes; moments of the channels, the attributes, the captions.

    Figures of the content are those of the first MOST samples of the stream's order, which is a random part.

    Raises:
        ValueError: if the folder cannot be read, or holds more bad samples than usual.
    """
    with Shards(path=folder).open(seed=0) as stream:
        spec, entries = stream.spec, stream.entries
        count = min(spec.samples, MOST)
        size = sum(entry.bytes for entry in entries)
        lines = [
            f"{spec.samples} samples in {len(entries)} shards, {size / 1e9:.3f} GB, {size / spec.samples / 1e3:.1f} kB a sample"
        ]
        gathered: dict[str, list[np.ndarray]] = {}
        for start in range(0, count, _CHUNK):
            for name, values in stream.read(start, min(_CHUNK, count - start)).fields.items():
                gathered.setdefault(name, []).append(_reduced(name in spec.image_shapes, values.numpy()))
    if count < spec.samples:
        lines.append(f"of {count} of them:")
    for name, parts in gathered.items():
        values = np.concatenate(parts)
        if name in spec.image_shapes:
            lines += _channels(name, spec.image_shapes[name], values)
        elif name == "labels":
            lines += [f"class {label}: {share:.2%}" for label, share in _shares(values, spec.classes)]
        elif name == "attributes":
            lines += [
                f"attribute {label}: mean {mean:.3f}" for label, mean in zip(spec.attributes, values.mean(0), strict=True)
            ]
        elif name == "captions":
            lengths = (values != 0).sum(1)
            lines.append(f"captions: {lengths.mean():.0f} bytes on average, at most {spec.caption_bytes}")
        else:
            lines.append(f"{name}: {values.dtype} {list(values.shape[1:])}, mean {values.mean():.3f}")
    return lines


def _reduced(image: bool, values: np.ndarray) -> np.ndarray:
    """Of images the sums and sums of squares a channel, [N, 2, C], since a set's pixels do not fit into memory."""
    if not image:
        return values
    wide = values.astype(np.float64) / 255
    return np.stack([wide.mean((2, 3)), (wide**2).mean((2, 3))], axis=1)


def _channels(name: str, shape: tuple[int, int, int], moments: np.ndarray) -> Iterator[str]:
    mean, square = moments.mean(0)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    yield (
        f"{name}: {list(shape)}, mean {', '.join(f'{value:.3f}' for value in mean)}, "
        f"deviation {', '.join(f'{value:.3f}' for value in deviation)} (of 0 … 1, a channel)"
    )


def _shares(labels: np.ndarray, classes: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    counts = np.bincount(labels, minlength=len(classes))
    for label, count in zip(classes, counts, strict=True):
        yield label, count / len(labels)
