from __future__ import annotations

import gzip
import hashlib
import io
import struct
import urllib.request

import numpy as np
import pytest
import torch
import torchvision

from bayesrob.data import load, mnist
from bayesrob.errors import InputError, MissingDataError

SETS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


@pytest.fixture(params=sorted(SETS))
def raw(request, real_data):
    """Name of a set, and its images and labels read by hand from the idx files."""
    folder = real_data(f"{SETS[request.param]}/raw")
    by_hand = {}
    for part, stem in (("train", "train"), ("test", "t10k")):
        pixels = np.frombuffer((folder / f"{stem}-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
        labels = np.frombuffer((folder / f"{stem}-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
        by_hand[part] = pixels.reshape(-1, 28, 28), labels
    return request.param, by_hand


def where(image, images):
    """Indices of the images that are, byte for byte, `image`."""
    return np.flatnonzero((images == image).all(axis=(1, 2)))


def test_images_and_labels_are_the_files_own(raw):
    name, by_hand = raw
    data = load(name, n_train=4, n_test=4, seed=7)
    assert data.shape == (1, 28, 28)
    assert (data.bounds, data.num_classes) == ((0.0, 1.0), 10)
    for part, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        images, labels = by_hand[part]
        for image, label in zip(x, y, strict=True):
            positions = where((image[0].numpy() * 255).round().astype(np.uint8), images)
            assert len(positions) == 1
            assert labels[positions[0]] == label
            np.testing.assert_array_equal(image[0].numpy(), images[positions[0]].astype(np.float32) / np.float32(255))


def test_whole_set_is_every_image_once(raw):
    name, by_hand = raw
    data = load(name)
    for part, x, y in (("train", data.x_train, data.y_train), ("test", data.x_test, data.y_test)):
        images, labels = by_hand[part]
        assert len(x) == len(images) == {"train": 60_000, "test": 10_000}[part]
        np.testing.assert_array_equal(torch.bincount(y).numpy(), np.bincount(labels))
        sums = (x * 255).round().long().sum(dim=(1, 2, 3)) * 10 + y
        expected = images.sum(axis=(1, 2), dtype=np.int64) * 10 + labels
        np.testing.assert_array_equal(np.sort(sums.numpy()), np.sort(expected))


@pytest.mark.parametrize("balanced", [False, True])
def test_same_seed_same_bits_and_prefixes(real_data, balanced):
    real_data("MNIST/raw")
    large, small, other = (
        load("mnist", n_train=count, n_test=count // 2, seed=seed, balanced=balanced)
        for count, seed in ((300, 1), (123, 1), (300, 2))
    )
    assert torch.equal(small.x_train, large.x_train[:123])
    assert torch.equal(small.y_test, large.y_test[:61])
    assert not torch.equal(large.x_train, other.x_train)


def test_balanced_counts(real_data):
    real_data("MNIST/raw")
    data = load("mnist", n_train=1234, n_test=8920, balanced=True)
    assert sorted(torch.bincount(data.y_train).tolist()) == [123] * 6 + [124] * 4
    assert torch.bincount(data.y_test).tolist() == [892] * 10
    with pytest.raises(InputError, match=r"balanced n_train=60000 needs 6000.*class 5 has only 5421.*at most 54210"):
        load("mnist", balanced=True)


@pytest.mark.parametrize("name", sorted(SETS))
def test_refuses_more_than_there_are(name, empty_root):
    with pytest.raises(InputError, match=r"n_train is 60001.*>= 1 and <= 60000"):
        load(name, n_train=60_001)
    with pytest.raises(InputError, match=r"n_test is 10001.*>= 1 and <= 10000"):
        load(name, n_test=10_001)


@pytest.mark.parametrize("name", sorted(SETS))
def test_missing_files_without_a_network(name, empty_root):
    with pytest.raises(MissingDataError) as caught:
        load(name, n_train=10, n_test=10)
    message = str(caught.value)
    assert f"{SETS[name]}/raw/train-images-idx3-ubyte, {SETS[name]}/raw/train-labels-idx1-ubyte" in message
    assert "no network in tests" in message
    assert str(empty_root) in message
    assert f"torchvision.datasets.{SETS[name]}({str(empty_root)!r}, download=True)" in message
    assert "BAYESROB_DATA" in message


def idx(array):
    """The bytes of an idx file that holds `array` of uint8."""
    return struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def forged(empty_root, monkeypatch):
    """A forged MNIST of 40 training and 20 test images: the content of its files by their name."""
    monkeypatch.setattr(mnist, "_TRAIN", 40)
    monkeypatch.setattr(mnist, "_TEST", 20)
    random = np.random.default_rng(0)
    files = {}
    for stem, count in (("train", 40), ("t10k", 20)):
        files[f"{stem}-images-idx3-ubyte"] = idx(random.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        files[f"{stem}-labels-idx1-ubyte"] = idx((np.arange(count) % 10).astype(np.uint8))
    return files


def test_missing_files_are_downloaded(forged, empty_root, monkeypatch):
    archives = {f"{name}.gz": gzip.compress(content) for name, content in forged.items()}
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)
    requests = []

    class Response(io.BytesIO):
        def __init__(self, request, **options):
            self.url = request.full_url
            requests.append(self.url)
            super().__init__(archives[self.url.rsplit("/", 1)[1]])
            self.length = len(self.getvalue())

    monkeypatch.setattr(urllib.request, "urlopen", Response)
    data = load("mnist", n_train=40, n_test=20)
    assert torch.bincount(data.y_train).tolist() == [4] * 10
    downloaded = len(requests)
    assert downloaded > 0
    assert torch.equal(load("mnist", n_train=7, n_test=20).x_train, data.x_train[:7])
    assert len(requests) == downloaded  # the second time nothing was fetched


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3-ubyte", lambda content: content[:5000], "train files of MNIST.*damaged: reading failed"),
        ("t10k-labels-idx1-ubyte", lambda content: b"", "test files of MNIST.*damaged: reading failed"),
        (
            "train-labels-idx1-ubyte",
            lambda content: idx(np.zeros(39, np.uint8)),
            "damaged: 40 images and 39 labels instead of 40.*Delete",
        ),
    ],
)
def test_damaged_files(forged, empty_root, name, change, message):
    raw = empty_root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file_name, content in (forged | {name: change(forged[name])}).items():
        (raw / file_name).write_bytes(content)
    with pytest.raises(MissingDataError, match=message):
        load("mnist", n_train=4, n_test=4)
