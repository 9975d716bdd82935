"""``loopos.watch``: callable, and PyTorch is loaded by its use alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loopos

pytestmark = pytest.mark.reference


def test_import_loopos_loads_no_torch():
    code = "import sys, loopos; loopos.watch; assert 'torch' not in sys.modules, 'loaded'"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_a_sentence_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None; import loopos; loopos.watch(None, None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'loopos[torch]'" in done.stderr


def test_it_is_a_module_and_a_function():
    import loopos.watch as module

    assert module is loopos.watch
    assert callable(loopos.watch)


def test_each_model_of_a_gan_has_a_watch_of_its_own():
    """The maker's step that is refused leaves the critic's watch alone, which saw its call of the critic."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    maker, critic = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
    rules = [torch.optim.SGD(each.parameters(), 0.1) for each in (maker, critic)]
    x = torch.randn(3, 2)
    with (
        loopos.watch(maker, rules[0], policy="skip") as makers,
        loopos.watch(critic, rules[1], policy="skip") as critics,
    ):
        for noise in (x, x * float("nan"), x):
            makers.step(lambda noise=noise: -critic(maker(noise)).mean())
            critics.step(lambda: critic(x).mean())
    assert (makers.steps, makers.skipped, makers.births[0].tensor) == (3, 1, "input[0]")
    assert (critics.steps, critics.skipped, critics.births) == (3, 0, [])
