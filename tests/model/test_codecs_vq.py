"""The quantised codec: latents before the codebook, volumes after it."""

from __future__ import annotations

import math

import pytest
import torch

from napari_cxr3d.errors import InvalidInputError
from napari_cxr3d.models.codecs import VQ_PRESETS, KLCodec, VQCodec
from napari_cxr3d.models.codecs.vq import Codebook
from napari_cxr3d.models.network import build_network, outline_network


@pytest.fixture(scope="module")
def tiny() -> VQCodec:
    torch.manual_seed(0)
    codec = build_network(VQ_PRESETS["tiny"]).eval()
    assert isinstance(codec, VQCodec)
    codec.set_scale(2.5)
    return codec


def volumes(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def test_encoding_does_not_quantise_and_decoding_does(tiny) -> None:
    x = volumes(2, 1, 8, 12, 16)
    z = tiny.encode(x)
    assert z.shape[1:] == tiny.latent_shape((8, 12, 16)) == (4, 2, 3, 4)
    mean, sigma = tiny.posterior(x)
    torch.testing.assert_close(z, 2.5 * mean)
    assert not sigma.any()
    codes, numbers = tiny.nearest(mean)
    assert not torch.allclose(codes, mean)
    assert torch.equal(numbers, tiny.tokens(x))
    # Whatever lies nearest to the same codes decodes to the same volume.
    torch.testing.assert_close(tiny.decode(2.5 * codes), tiny.decode(z), rtol=0, atol=1e-5)
    torch.testing.assert_close(tiny.decode_tokens(numbers), tiny.decode(z), rtol=0, atol=1e-5)
    torch.testing.assert_close(tiny.sample(x), z)


def test_the_nearest_code_is_the_nearest(monkeypatch) -> None:
    book = Codebook(17, 3)
    z = torch.randn(2, 3, 4, 5, 6)
    found = book.nearest(z)
    distances = torch.cdist(z.movedim(1, -1).reshape(-1, 3), book.codes)
    assert torch.equal(found.numbers.flatten(), distances.argmin(1))
    assert torch.equal(found.codes[1, :, 2, 3, 4], book.codes[found.numbers[1, 2, 3, 4]])
    monkeypatch.setattr("napari_cxr3d.models.codecs.vq._AT_ONCE", 50)  # in many parts
    assert torch.equal(book.nearest(z).numbers, found.numbers)


def test_gradients_pass_the_quantisation(tiny) -> None:
    tiny.zero_grad()
    x = volumes(1, 1, 8, 8, 8)
    (tiny(x).reconstruction - x).abs().mean().backward()
    still = [n for n, p in tiny.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    z = torch.randn(1, 4, 2, 2, 2, requires_grad=True)
    tiny.decode(z).square().mean().backward()
    assert float(z.grad.abs().max()) > 0


def test_the_codebook_finds_the_clusters_of_what_it_is_shown() -> None:
    torch.manual_seed(0)
    centers = 10 * torch.randn(6, 3)
    book = Codebook(12, 3)
    for _ in range(60):
        labels = torch.randint(6, (256,))
        book.update(
            (centers[labels] + 0.05 * torch.randn(256, 3))[:, :, None], momentum=0.8, rare=0.1
        )
    nearest = torch.cdist(centers, book.codes).min(1).values
    assert float(nearest.max()) < 0.1
    assert torch.isfinite(book.codes).all()


def test_a_code_that_nothing_chooses_begins_anew_at_a_latent() -> None:
    torch.manual_seed(0)
    book = Codebook(8, 2)
    z = torch.randn(1, 2, 512)
    book.update(z, momentum=0.5, rare=0.05)
    book.codes[3] = 1e6  # far from everything
    book.sums[3], book.uses[3] = 1e6, 1e-9
    book.update(z, momentum=0.5, rare=0.05)
    assert float(torch.cdist(book.codes[3:4], z[0].T).min()) < 1e-5
    for _ in range(30):
        book.update(z, momentum=0.5, rare=0.05)
    assert len(book.nearest(z).numbers.unique()) == 8


def test_what_is_random_in_an_update_is_the_same_every_time() -> None:
    z = torch.randn(1, 2, 64)
    books = []
    for seed in (0, 1):
        book = Codebook(8, 2)
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        book.codes.copy_(torch.arange(16.0).view(8, 2))
        book.update(z, momentum=0.5, rare=0.05)
        book.update(z, momentum=0.5, rare=0.05)
        assert torch.equal(torch.get_rng_state(), before)
        books.append(book)
    assert torch.equal(books[0].codes, books[1].codes)


def test_it_holds_as_many_weights_as_the_codec_beside_it() -> None:
    counts = {
        name: sum(p.numel() for p in outline_network(preset).parameters())
        for name, preset in VQ_PRESETS.items()
    }
    assert counts == {"tiny": 87_765, "demo": 2_929_037, "paper": 21_000_281}
    sizes = {name: len(outline_network(p).codebook.codes) for name, p in VQ_PRESETS.items()}
    assert sizes == {"tiny": 256, "demo": 2048, "paper": 16384}


def test_the_bits_are_those_of_the_numbers(tiny) -> None:
    assert tiny.bits_per_voxel == pytest.approx(8 / 64)
    numbers = tiny.tokens(volumes(1, 1, 8, 8, 8))
    assert numbers.shape == (1, 2, 2, 2)
    assert int(numbers.max()) < 256 == 2 ** math.log2(256)


def test_checkpointing_changes_memory_and_nothing_else(tiny) -> None:
    other = build_network(VQ_PRESETS["tiny"] | {"use_checkpoint": True})
    other.load_state_dict(tiny.state_dict())
    x = volumes(1, 1, 8, 8, 8)
    torch.testing.assert_close(other(x).reconstruction, tiny(x).reconstruction)


def test_sizes_that_make_no_codec_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="codebook of 1 codes"):
        VQCodec(n_codes=1)
    with pytest.raises(InvalidInputError, match="cannot be built"):
        VQCodec(channels=[])
    assert not hasattr(KLCodec(channels=[8], norm_num_groups=8), "codebook")


def test_a_quantised_codec_survives_its_bundle(tiny, codec_card, tmp_path) -> None:
    from napari_cxr3d.models import open_bundle, write_bundle

    path = write_bundle(
        tmp_path / "c.zip",
        network=VQ_PRESETS["tiny"],
        state=tiny.state_dict(),
        card=codec_card("vq-codec-tiny"),
        dtype="float32",
    )
    x = volumes(1, 1, 8, 8, 8)
    assert torch.equal(open_bundle(path).network().tokens(x), tiny.tokens(x))
