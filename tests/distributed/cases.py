"""The runs of `test_parity.py`: each game, its data, its optimizer, and how it is divided."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bigan.config import Run, parse
from bigan.files import save

BATCH = 8
ROUNDS = 20
SGD_0 = {"kind": "sgd", "lr": 0.05}
SGD_5 = {"kind": "sgd", "lr": 0.01, "momentum": 0.5}
SLOW = {"kind": "sgd", "lr": 0.005}  # a penalty of weight 10 diverges at higher rates, and doubles every rounding on its way
SLOW_9 = {"kind": "sgd", "lr": 0.001, "momentum": 0.9}
ADAM = {"kind": "adam", "lr": 0.01}


def network(**settings: Any) -> dict[str, Any]:
    return {"kind": "dcgan", "width": 4, **settings}


def gan(norm: str = "batch", weight: float = 4.0, every: int = 4) -> dict[str, Any]:
    """R1, and batch norm in the generator unless told otherwise."""
    return {
        "kind": "gan",
        "generator": network(latent=4, norm=norm),
        "critic": network(),
        "penalties": [{"kind": "r1", "weight": weight, "every": every}],
    }


# The folded upsampling of the others doubles roundings faster: its momenta, at values above 8, end a bit or two apart.
CLASSIC = network(latent=4, upsample="transposed")
WGAN_GP = {"kind": "wgan_gp", "generator": CLASSIC, "critic": network(), "critic_steps": 2}

RELATIVE = {
    "kind": "gan",
    "generator": network(latent=4, upsample="transposed"),
    "critic": network(),
    "objective": {"kind": "non_saturating", "pairing": "relativistic_average"},
}
PACKED = {"objective": {"kind": "wasserstein"}, "penalties": [{"kind": "gradient_penalty"}], "pack": 2}
F_GAN = {"objective": {"kind": "f_divergence", "divergence": "kl"}}
UNROLLED = {"objective": {"kind": "minimax"}, "unroll": {"steps": 2, "lr": 0.05}}
MINIBATCH = {"critic": {"kind": "mlp", "width": 8, "depth": 2, "minibatch": {"kernels": 3, "dims": 2, "group": 4}}}
SPECTRAL = {"critic": {"kind": "mlp", "width": 8, "depth": 2, "spectral_norm": True}, "objective": {"kind": "hinge"}}


def toy(**changes: Any) -> dict[str, Any]:
    """The game of two perceptrons."""
    generator, critic = ({"kind": "mlp", "width": 8, "depth": 2} for _ in range(2))
    return {"kind": "gan", "generator": {**generator, "latent": 2}, "critic": critic, **changes}


ENERGY = {"kind": "energy", "critic": {"kind": "mlp", "width": 8}, "buffer": 16, "steps": 3, "step_size": 0.1, "span": 3}
CAPTIONED = {
    "kind": "cgan", "condition": {"kind": "caption", "width": 4, "length": 8}, "how": "concatenation", "mismatch": True,
    "features": 4, "generator": network(latent=4, norm="none"), "critic": network(),
    "penalties": [{"kind": "gradient_penalty", "weight": 1.0}],
}  # fmt: skip
EDITS = {
    "kind": "edits",
    "game": {"kind": "cgan", "generator": CLASSIC, "critic": network(), "features": 4},
    "encoder": network(norm="batch"),
}
IRGAN = {"kind": "irgan", "spread": 0.5, "draws": 6, "pretrain_kimg": 5 * BATCH / 1000, "phase_kimg": [4 * BATCH / 1000] * 2}
VAE = {"kind": "vae", "encoder": network(), "decoder": CLASSIC, "likelihood": {"kind": "categorical", "levels": 4}}
PIX2PIX = {
    "kind": "pix2pix",
    "generator": {"kind": "unet", "width": 4},
    "critic": {"kind": "patch", "width": 4, "layers": 2},
    "l1": 1,
}
# Without norms: instance norm divides by what an untrained image hardly varies, and 20 rounds make 1e-3 of a rounding.
CYCLEGAN = {
    "kind": "cyclegan",
    "translator": {"kind": "unet", "width": 4, "norm": "none"},
    "critic": {"kind": "patch", "width": 4, "layers": 2, "norm": "none"},
    "cycle": 1,
    "pool": 12,
}
STARGAN = {
    "kind": "stargan",
    "generator": {"kind": "resnet", "width": 4, "blocks": 1, "norm": "none"},
    "critic": {"kind": "patch", "width": 4, "layers": 2, "norm": "none"},
    "critic_steps": 2,
    "reconstruct": 1,
}
INFOGAN = {"kind": "infogan", "generator": CLASSIC, "critic": network(norm="batch"), "categories": [3, 2], "features": 8}
PERCEPTRONS = {
    "generator": {"kind": "mlp", "latent": 2, "width": 8, "depth": 2},
    "critic": {"kind": "mlp", "width": 8, "depth": 2},
    "features": 8,
}
BIGAN = {
    **PERCEPTRONS,
    "kind": "bigan",
    "encoder": {"kind": "mlp", "width": 8, "depth": 2},
    "penalties": [{"kind": "r1", "every": 4}, {"kind": "r2"}],
    "reconstruction": 1.0,
}
SEMI = {**PERCEPTRONS, "kind": "semi"}

# name → game, optimizer, ZeRO stage, samples of a micro-batch on two ranks
CASES: Mapping[str, tuple[dict[str, Any], dict[str, Any], int, int | None]] = {
    "gan R1, ZeRO 0": (gan(), SGD_0, 0, None),
    "gan R1, ZeRO 1": (gan(), SGD_0, 1, None),
    "wgan_gp, ZeRO 0": (WGAN_GP, SLOW, 0, None),
    "wgan_gp, ZeRO 1": (WGAN_GP, SLOW_9, 1, None),
    "micro-batches, ZeRO 0": (gan(norm="none"), SGD_0, 0, 2),
    "micro-batches, ZeRO 1": (gan(norm="none"), SGD_5, 1, 1),
    "coupled, ZeRO 0": (RELATIVE, SGD_0, 0, None),
    "coupled, ZeRO 2": (RELATIVE, SGD_0, 2, None),
    "PacGAN with a penalty, ZeRO 1": (toy(**PACKED), SLOW, 1, None),
    "f-GAN, ZeRO 0": (toy(**F_GAN), SLOW, 0, 2),
    "unrolled, ZeRO 1": (toy(**UNROLLED), SGD_0, 1, None),
    "minibatch discrimination, ZeRO 0": (toy(**MINIBATCH), SGD_0, 0, None),
    "spectral norm, micro-batches, ZeRO 1": (toy(**SPECTRAL), SGD_0, 1, 2),
    "energy, ZeRO 0": (ENERGY, SLOW, 0, 2),
    "VAE, ZeRO 1": (VAE, {"kind": "sgd", "lr": 1.0e-4}, 1, None),
    "pix2pix, ZeRO 0": (PIX2PIX, SLOW, 0, 2),
    "CycleGAN, ZeRO 1": (CYCLEGAN, SLOW, 1, 2),
    "StarGAN, ZeRO 0": (STARGAN, SLOW, 0, 2),
    "captions, micro-batches, ZeRO 0": (CAPTIONED, SLOW, 0, 2),
    "edits, ZeRO 0": (EDITS, SLOW, 0, None),
    "InfoGAN, ZeRO 1": (INFOGAN, SLOW, 1, None),
    "BiGAN, micro-batches, ZeRO 0": (BIGAN, SLOW, 0, 2),
    "feature matching, ZeRO 1": (SEMI, SLOW, 1, None),
    "IRGAN, ZeRO 0": (IRGAN, SGD_0, 0, 2),
    "begun here, ZeRO 0": (gan(), SGD_5, 0, None),
    "begun here, ZeRO 1": (WGAN_GP, SLOW_9, 1, None),
}
BEGUN = [name for name in CASES if name.startswith("begun")]


def settings(out: Path, digits: Path, name: str, ranks: int, **changes: Any) -> Run:
    """The run of a case."""
    game, optimizer, stage, micro_batch = CASES.get(name, (gan(), ADAM, 0, None))
    raw = {
        "name": name.replace(", ", " "),
        "folder": str(out),
        "data": data_of(game, out, digits),
        "game": game,
        "batch": BATCH,
        "length_kimg": 1,
        "optimizer": optimizer,
        "zero_stage": stage,
        "micro_batch": micro_batch if ranks > 1 else None,
    }
    return parse(raw | changes, out / "case.yaml")


def data_of(game: dict[str, Any], out: Path, digits: Path) -> dict[str, Any]:
    """The streams that a case plays on."""
    shards: dict[str, Any] = {"path": str(digits)}
    match game["kind"]:
        case "pix2pix":
            return {"real": {"kind": "derived", "of": shards, "map": {"kind": "hole", "size": 5}}}
        case "cyclegan":
            return {"real": shards, "source": shards}
        case "edits":
            return {"real": {"kind": "captioned_digits", "size": 16}}
        case "semi":
            return {"real": shards, "labelled": shards}
        case "irgan":
            lines = [f"{user} {item} {(user * 3 + item * 5) % 7}" for user in range(11) for item in range(15)]
            save(path := out / "ratings.txt", "\n".join(lines).encode())
            return {"real": {"kind": "ratings", "path": str(path)}}
    if "'mlp'" in str(game):
        return {"real": {"kind": "ring"}}
    return {"real": {"kind": "captioned_digits", "size": 16} if "'caption'" in str(game) else shards}
