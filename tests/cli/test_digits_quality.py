"""The promise of `make train`: its config, at its full length, draws digits that a stranger's classifier reads."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from bigan.cli import main

ROOT = Path(__file__).parents[2]


def bigan(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["bigan", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert exit_.value.code == 0


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.soak), pytest.param(2, marks=pytest.mark.soak)])
def test_the_default_run_draws_all_ten_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    bigan(monkeypatch, "pack", "digits", str(tmp_path / "digits"), "--size", "32")
    places = (f"folder={tmp_path}", f"data.real.path={tmp_path}/digits", f"seed={seed}")
    bigan(monkeypatch, "train", str(ROOT / "configs/digits.yaml"), *places)
    run = tmp_path / "digits-dcgan"
    bigan(monkeypatch, "sample", str(run), "--count", "1000", "--out", str(tmp_path / "samples.npz"))
    bigan(monkeypatch, "evaluate", str(run))

    images = np.load(tmp_path / "samples.npz")["images"][..., 0].astype(float)
    assert images.shape == (1000, 32, 32)
    small = images.reshape(1000, 8, 4, 8, 4).mean((2, 4)) * (16 / 255)
    judge = SVC(kernel="rbf", gamma="scale", C=10.0).fit(*load_digits(return_X_y=True))
    shares = np.bincount(judge.predict(small.reshape(1000, 64)), minlength=10) / 1000
    card = json.loads((run / "evaluation.json").read_text())
    print(f"shares {shares}, precision {card['fake']['precision']:.3f}, recall {card['fake']['recall']:.3f}")
    assert shares.min() >= 0.03
    assert card["fake"]["precision"] >= 0.6
    assert card["fake"]["recall"] >= 0.3
