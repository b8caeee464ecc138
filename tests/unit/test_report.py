"""What a run shows: pictures pixel by pixel, and an event log that a resumed run goes on with."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from bigan.report.events import EventLog
from bigan.report.grid import beside_source, save_grid
from bigan.report.progress import ProgressLine, progress_line

from ..disk import full_disk


def rounds(path: Path) -> list[int]:
    return [json.loads(line)["round"] for line in path.read_text().splitlines()]


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def values(count: int, channels: int, height: int = 2, width: int = 3) -> torch.Tensor:
    """Images whose 8-bit values are 10, 11, 12, … in the order of memory."""
    numbers = torch.arange(count * channels * height * width) + 10
    return (numbers / 127.5 - 1).view(count, channels, height, width)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_shows_every_pixel_where_it_belongs(tmp_path: Path, channels: int) -> None:
    images = values(5, channels)
    save_grid(images, tmp_path / "grid.png", columns=3)
    sheet = picture(tmp_path / "grid.png")
    assert sheet.shape == ((2 + 2) * 2 + 2, (3 + 2) * 3 + 2, 3)[: 2 if channels == 1 else 3]
    expected = np.zeros((10, 17, channels), dtype=np.uint8)
    for number in range(5):
        top, left = 2 + (number // 3) * 4, 2 + (number % 3) * 5
        block = np.arange(channels * 6).reshape(channels, 2, 3) + 10 + number * channels * 6
        expected[top : top + 2, left : left + 3] = block.transpose(1, 2, 0)
    assert np.array_equal(sheet.reshape(expected.shape), expected)


@pytest.mark.parametrize(("count", "shape"), [(4, (10, 12)), (5, (10, 17)), (9, (14, 17))])
def test_a_grid_is_nearly_square(tmp_path: Path, count: int, shape: tuple[int, int]) -> None:
    save_grid(values(count, 1), tmp_path / "grid.png")
    assert picture(tmp_path / "grid.png").shape == shape


def test_one_image_is_a_picture_too(tmp_path: Path) -> None:
    for channels in (1, 3):
        save_grid(values(1, channels), tmp_path / "grid.png")
        assert (picture(tmp_path / "grid.png") == 10).sum() == 1


def test_values_are_rounded_and_clamped_and_any_float_will_do(tmp_path: Path) -> None:
    images = torch.tensor([-2.0, -1.0, 0.0, 0.0039, 0.9999, 1.0, 3.0, -0.5]).view(1, 1, 1, 8)
    for dtype in (torch.float32, torch.float64):
        save_grid(images.to(dtype), tmp_path / "grid.png", columns=1)
        assert [v for v in picture(tmp_path / "grid.png").flatten().tolist() if v] == [128, 128, 255, 255, 255, 64]
    nhwc = values(4, 3).to(memory_format=torch.channels_last)
    save_grid(nhwc, tmp_path / "a.png")
    save_grid(nhwc.contiguous(), tmp_path / "b.png")
    assert np.array_equal(picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))


def test_a_source_stands_beside_its_image_where_it_is_one() -> None:
    images = values(2, 3, 4, 6)
    assert beside_source({"images": images}) is images
    assert beside_source({"images": images, "source": torch.arange(2)}) is images
    assert beside_source({"images": images, "source": torch.zeros(2, 17, 4, 6)}) is images  # a map of joints
    assert beside_source({"images": images, "source": torch.zeros(2, 2, 4, 6)}) is images
    assert beside_source({"images": images, "source": images[:1]}) is images
    height, width = images.shape[2:]
    both = beside_source({"images": images, "source": images[:, :1, ::2, ::2]})
    assert both.shape == (2, 3, height, 2 * width)
    assert torch.equal(both[..., width:], images)
    assert torch.equal(both[:, 2, :, :width], images[:, 0, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_a_picture_is_not_changed_by_being_written(tmp_path: Path) -> None:
    images = values(4, 1)
    before = images.clone()
    save_grid(images, tmp_path / "grid.png")
    assert torch.equal(images, before)


def test_events_are_lines_of_json(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, 0, lambda: None)
    log.write({"round": 3, "critic/loss": 1 / 3, "kimg": 25000.064})
    log.write({"round": 6})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"round": 3, "critic/loss": 0.333333333, "kimg": 25000.064},
        {"round": 6},
    ]
    assert path.read_text().endswith("\n")


@pytest.mark.parametrize(("at", "kept"), [(0, []), (9, [5]), (10, [5, 10]), (12, [5, 10]), (99, [5, 10, 15])])
def test_rounds_that_are_played_again_are_dropped(tmp_path: Path, at: int, kept: list[int]) -> None:
    path = tmp_path / "events.jsonl"
    for round in (5, 10, 15):
        EventLog(path, round, lambda: None).write({"round": round})
    log = EventLog(path, at, lambda: None)
    assert rounds(path) == kept
    log.write({"round": at + 1})
    assert rounds(path) == [*kept, at + 1]


@pytest.mark.parametrize(
    "tail", ['{"round": 4, "kim', '{"round"', "{", "\x00\x00\x00", "4", "null", '{"kimg": 1}', '{"round": null}']
)
def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"round": 1}\n{"round": 2}\n' + tail)
    EventLog(path, 100, lambda: None).write({"round": 101})
    assert rounds(path) == [1, 2, 101]


def test_a_log_of_bytes_that_are_no_text_does_not_stop_a_run(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"round": 1}\n\xff\xfe\x80')
    EventLog(path, 100, lambda: None).write({"round": 2})
    assert rounds(path) == [1, 2]


def test_a_full_disk_costs_no_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path, 0, lambda: None)
    assert log.write({"round": 1}) == ""
    whole = path.read_bytes()
    with full_disk(len(whole) + 5):
        for round in (2, 3):
            assert "events.jsonl: cannot be written (File too large)" in log.write({"round": round})
            assert path.read_bytes() == whole
    assert log.write({"round": 4}) == ""
    assert rounds(path) == [1, 2, 3, 4]


def test_a_log_that_cannot_be_cut_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = b"".join(b'{"round": %d}\n' % round for round in range(100))
    path.write_bytes(whole)
    with full_disk(50), pytest.raises(OSError, match="File too large"):
        EventLog(path, 50, lambda: None)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_that_is_another_processs_is_let_alone(tmp_path: Path) -> None:
    def fenced() -> None:
        raise RuntimeError("fenced")

    path = tmp_path / "events.jsonl"
    path.write_text('{"round": 1}\n{"round": 2}\n')
    with pytest.raises(RuntimeError, match="fenced"):
        EventLog(path, 1, fenced)
    with pytest.raises(RuntimeError, match="fenced"):
        EventLog(path, 2, fenced).write({"round": 3})
    assert rounds(path) == [1, 2]


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    EventLog(tmp_path / "events.jsonl", 0, lambda: None).write({"round": 1, "nan": float("nan"), "inf": float("inf")})
    assert (tmp_path / "events.jsonl").read_text() == '{"round": 1, "nan": null, "inf": null}\n'


def test_a_small_statistic_is_not_rounded_away(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventLog(path, 0, lambda: None).write({"round": 1, "generator/step": 3.25e-9})
    assert json.loads(path.read_text())["generator/step"] == 3.25e-9


def test_a_tick_is_a_line(tmp_path: Path) -> None:
    text = io.StringIO()
    console = Console(file=text, width=20)
    line = ProgressLine(console, bar := Progress(console=console, disable=True), bar.add_task("t", total=1))
    stats = {"images/s": 12.34, "s/kimg": 5.0, "loader_wait": 0.25, "critic/[r1]": 0.5, "modes": 3.0}
    line.tick(1.5, stats)
    line.say("[bold] is no markup")
    assert text.getvalue().splitlines() == [
        "    1.50 kimg     12.3 images/s    5.00 s/kimg  25.0% waiting  critic/[r1] 0.500  modes 3.000",
        "[bold] is no markup",
    ]


def test_a_quiet_line_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_line(2.0, 1.0, quiet=True) as line:
        line.advance(1.5)
        line.say("hidden")
    with progress_line(2.0, 1.0, quiet=False) as line:
        line.say("shown")
    assert capsys.readouterr().out.split() == ["shown"]
