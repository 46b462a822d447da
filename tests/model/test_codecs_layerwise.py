"""Learned codecs in tiles: what comes out is what comes out at once, with less memory."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from napari_cxr3d.errors import Cancelled, InvalidInputError
from napari_cxr3d.models.codecs import PRESETS, VQ_PRESETS, Codec
from napari_cxr3d.models.codecs.layerwise import Step, run_layerwise, steps_of_blocks
from napari_cxr3d.models.network import build_network
from napari_cxr3d.progress import CancelToken


def codec_of(preset: dict[str, Any]) -> Codec:
    """A codec whose normalisations do something: other than 1 and 0."""
    torch.manual_seed(0)
    codec = build_network(preset).eval()
    assert isinstance(codec, Codec)
    with torch.no_grad():
        for name, parameter in codec.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
            assert parameter.isfinite().all(), name
    codec.set_scale(2.5)
    return codec


def volumes(*shape: int) -> torch.Tensor:
    """Two halves that differ much: a tile's own statistics are far from the volume's."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    x[..., shape[-1] // 2 :] = 0.1 * x[..., shape[-1] // 2 :] + 2
    return x


@pytest.mark.parametrize(
    "changes",
    [{}, {"enlarging": "trilinear"}, {"enlarging": "transposed", "num_res_blocks": [1, 2, 1]}],
    ids=["nearest", "trilinear", "transposed"],
)
def test_tiles_of_a_learned_codec_give_what_it_gives_at_once(changes) -> None:
    codec = codec_of(PRESETS["tiny"] | changes)
    x = volumes(2, 1, 20, 12, 16)
    with torch.no_grad():
        z, y = codec.encode(x), codec.decode(codec.encode(x))
        # No easy promise: the same tiles, each with its own statistics, are far off.
        apart = torch.cat([codec.decode(part) for part in z.split(2, dim=-1)], dim=-1)
    assert float((apart - y).abs().max()) > 0.1 * float(y.max() - y.min())
    for tile in (2, 3):
        torch.testing.assert_close(codec.tiled_encode(x, tile=tile), z, rtol=0, atol=1e-4)
        torch.testing.assert_close(codec.tiled_decode(z, tile=tile), y, rtol=0, atol=1e-4)


def test_a_quantised_codec_in_tiles_is_the_same_too() -> None:
    codec = codec_of(VQ_PRESETS["tiny"])
    x = volumes(1, 1, 16, 16, 24)
    with torch.no_grad():
        z, y = codec.encode(x), codec.decode(codec.encode(x))
    torch.testing.assert_close(codec.tiled_encode(x, tile=2), z, rtol=0, atol=1e-4)
    torch.testing.assert_close(codec.tiled_decode(z, tile=2), y, rtol=0, atol=1e-4)


class Living(TorchDispatchMode):
    """The most bytes that live in tensors at a time, of those made meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: dict[int, Any] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, tuple | list) else (out,):
            if isinstance(made, torch.Tensor):
                self._count(made.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return
        self.known[key] = weakref.ref(storage, lambda _: self._gone(key, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _gone(self, key: int, size: int) -> None:
        self.known.pop(key, None)
        self.now -= size


def test_decoding_in_tiles_takes_a_third_of_the_memory_or_less() -> None:
    codec = codec_of(PRESETS["tiny"])
    z = torch.randn(1, 4, 8, 8, 8)
    with torch.no_grad(), Living() as at_once:
        codec.decode(z)
    with torch.no_grad(), Living() as tiled:
        codec.tiled_decode(z, tile=2)
    assert at_once.now == 0  # nothing was left over that should have been counted as gone
    assert at_once.peak >= 2 * 16 * 32**3 * 4  # an enlarged activation and what is made of it
    assert tiled.peak <= at_once.peak / 3


def test_it_tells_its_progress_and_stops_when_asked() -> None:
    codec = codec_of(PRESETS["tiny"])
    z = torch.randn(1, 4, 4, 2, 2)
    token, seen = CancelToken(), []
    codec.tiled_decode(z, tile=2, progress=lambda p: seen.append((p.done, p.total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert {total for _, total in seen} == {len(seen)}

    def stop(progress: Any) -> None:
        if progress.done == 3:
            token.cancel()

    with pytest.raises(Cancelled):
        codec.tiled_decode(z, tile=2, progress=stop, cancel=token)
    with pytest.raises(InvalidInputError, match="1 or more"):
        codec.tiled_decode(z, tile=0)


def test_the_result_lies_where_it_is_wanted_in_the_type_of_the_network() -> None:
    codec = codec_of(PRESETS["tiny"])
    z = torch.randn(1, 4, 4, 4, 4)
    half = codec_of(PRESETS["tiny"]).to(torch.bfloat16)
    found = half.tiled_decode(z.bfloat16(), tile=2, out_device="cpu")
    assert found.dtype == torch.bfloat16
    with torch.no_grad():
        expected = codec.decode(z)
        rounded = (half.decode(z.bfloat16()).float() - expected).abs().mean()
    assert float((found.float() - expected).abs().mean()) < 1.5 * float(rounded)


def test_statistics_hold_where_the_mean_is_large() -> None:
    norm = nn.GroupNorm(2, 4, eps=1e-6)
    x = 1000 + 0.1 * torch.randn(1, 4, 6, 6, 6)
    found = run_layerwise([Step(norm=norm)], x, (6, 6, 6), tile=2, device="cpu")
    expected = norm.double()(x.double()).detach()
    assert float((found - expected).abs().max()) < 2e-2  # what float32 holds of 1000 +- 0.1


def test_layers_that_see_everything_are_refused() -> None:
    from monai.networks.blocks import SpatialAttentionBlock

    with pytest.raises(
        InvalidInputError, match="SpatialAttentionBlock cannot be computed in tiles"
    ):
        steps_of_blocks([SpatialAttentionBlock(3, 4, norm_num_groups=2)])
