"""Arguments of a call become JSON and arrays, and come back."""

from __future__ import annotations

import json
import math

import pytest

from loopos.errors import CheckpointError

pytestmark = pytest.mark.reference
torch = pytest.importorskip("torch")

from loopos.watch.encoding import DTYPES, Encoder, decode  # noqa: E402


def there_and_back(value):
    arrays = {}
    encode = Encoder(arrays, "x")
    text = json.dumps(encode(value))
    return decode(json.loads(text), arrays), encode.whole


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_tensors(dtype):
    tensor = (torch.arange(24).reshape(2, 3, 4) % 2).to(dtype)
    for given in (tensor, tensor.transpose(0, 2), tensor[:, 1:, ::2], tensor[0, 0, 0], tensor[:0]):
        back, whole = there_and_back(given)
        assert whole
        assert back.dtype == dtype
        assert torch.equal(back, given)
    assert there_and_back(tensor.mT)[0].stride() == tensor.mT.stride()


def test_the_rest():
    given = {"a": [1, 2.5, None, "x", True], "b": (torch.float16, torch.strided), "c": {"d": math.inf}}
    back, whole = there_and_back(given)
    assert back == given
    assert whole
    assert there_and_back(torch.device("cuda:3"))[0] == torch.device("cpu")


def test_what_cannot_be_kept_is_said_and_not_invented():
    arrays = {}
    encode = Encoder(arrays, "x")
    told = encode([object()])
    assert not encode.whole
    with pytest.raises(CheckpointError, match="object"):
        decode(told, arrays)


@pytest.mark.parametrize(
    "told",
    [
        {"torch": "load", "of": "function"},
        {"torch": "nn.Linear", "of": "type"},
        {"torch": "float32", "of": "device2"},
        {"unknown": "x"},
        [1],
        {},
    ],
)
def test_a_file_gets_nothing_else_out_of_pytorch(told):
    with pytest.raises(CheckpointError):
        decode(told, {})
