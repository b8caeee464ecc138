"""What a rank knows a lost one by."""

import pytest

from bigan.distributed.group import lost_contact

CLOSED = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1234"
TIMED = "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation"
MESH = "Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:144] no error"


@pytest.mark.parametrize("text", [CLOSED, TIMED, MESH])
def test_gloo_lost_contact(text: str) -> None:
    after = ValueError("the round failed")
    after.__cause__ = RuntimeError(text)
    assert lost_contact(RuntimeError(text))
    assert lost_contact(after)
    assert not lost_contact(ValueError(text))


@pytest.mark.parametrize(
    "text",
    ["/data/igloo/real.bin: cannot be opened", "gloo: backend asked for", "nccl or gloo is needed", "x: " + CLOSED],
)
def test_a_text_that_names_gloo_is_not_from_it(text: str) -> None:
    assert not lost_contact(RuntimeError(text))
