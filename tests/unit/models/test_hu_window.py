"""HU into a network's range and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models import HuWindow


@pytest.mark.parametrize("window", [HuWindow(), HuWindow(-1000, 1000, 0, 1), HuWindow(-100, 900)])
def test_every_hounsfield_unit_of_the_window_comes_back(window) -> None:
    hu = np.arange(int(window.low), int(window.high) + 1, dtype=np.int16)
    back = window.decode(window.encode(hu))
    assert back.dtype == np.float32
    np.testing.assert_array_equal(np.rint(back), hu)


def test_the_ends_of_the_window_are_the_ends_of_the_range() -> None:
    window = HuWindow(-1000, 1000)
    encoded = window.encode(np.array([-1024, -1000, 0, 500, 1000, 3071], np.int16))
    np.testing.assert_allclose(encoded, [-1, -1, 0, 0.5, 1, 1], atol=1e-7)
    assert window.width == 2000
    decoded = window.decode(np.array([-1.5, 0.0, 1.5], np.float32))
    np.testing.assert_allclose(decoded, [-1000, 0, 1000], atol=1e-3)


def test_arrays_and_tensors_are_treated_alike() -> None:
    window = HuWindow(-200, 300)
    hu = np.linspace(-400, 500, 50, dtype=np.float32)
    np.testing.assert_array_equal(window.encode(torch.from_numpy(hu)).numpy(), window.encode(hu))
    assert window.encode(torch.tensor([3], dtype=torch.int16)).dtype == torch.float32
    assert window.encode(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_gradients_pass_inside_the_window() -> None:
    values = torch.tensor([-0.5, 0.5, 2.0], requires_grad=True)
    HuWindow(-1000, 1000).decode(values).sum().backward()
    np.testing.assert_allclose(values.grad, [1000, 1000, 0])


def test_a_window_is_kept_in_a_card() -> None:
    window = HuWindow(-150, 850, 0, 1)
    assert HuWindow.from_dict(window.to_dict() | {"spacing_mm": [1, 1, 1]}) == window
    assert HuWindow.from_dict({"hu_window": [-150, 850]}) == HuWindow(-150, 850)


@pytest.mark.parametrize(
    "make",
    [
        lambda: HuWindow(100, 100),
        lambda: HuWindow(float("nan"), 100),
        lambda: HuWindow(-5000, 100),
        lambda: HuWindow(-100, 100, 1, 1),
        lambda: HuWindow("low", 100),
        lambda: HuWindow.from_dict({}),
        lambda: HuWindow.from_dict({"hu_window": 3}),
        lambda: HuWindow.from_dict({"hu_window": [1, 2, 3]}),
        lambda: HuWindow.from_dict({"hu_window": [5, -5]}),
        lambda: HuWindow.from_dict({"hu_window": [-5, 5], "network_range": None}),
    ],
)
def test_windows_that_cannot_be_used_are_refused(make) -> None:
    with pytest.raises(InvalidInputError, match="window"):
        make()
