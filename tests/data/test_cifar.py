from __future__ import annotations

import hashlib
import io
import pathlib
import pickle
import tarfile
import urllib.request

import numpy as np
import pytest
import torch
import torchvision

from bayesrob.data import cifar, load
from bayesrob.errors import InputError, MissingDataError

FOLDER = "cifar-10-batches-py"


def read_by_hand(path):
    with path.open("rb") as file:
        entry = pickle.load(file, encoding="latin1")
    return np.asarray(entry["data"]), np.asarray(entry["labels"])


def test_real_images_are_the_pickled_bytes_divided_by_255(real_data):
    pixels, labels = read_by_hand(real_data(f"{FOLDER}/data_batch_1"))
    test_pixels, test_labels = read_by_hand(real_data(f"{FOLDER}/test_batch"))
    data = load("cifar10", n_train=5, n_test=5, seed=2)
    assert (data.shape, data.bounds, data.num_classes) == ((3, 32, 32), (0.0, 1.0), 10)
    both = ((data.x_train, data.y_train, pixels, labels), (data.x_test, data.y_test, test_pixels, test_labels))
    for x, y, all_pixels, all_labels in both:
        for image, label in zip(x, y, strict=True):
            positions = np.flatnonzero(((image.flatten().numpy() * 255).round() == all_pixels).all(axis=1))
            assert len(positions) == 1
            assert all_labels[positions[0]] == label
            expected = all_pixels[positions[0]].reshape(3, 32, 32).astype(np.float32) / np.float32(255)
            np.testing.assert_array_equal(image.numpy(), expected)


def test_real_partial_set_serves_what_it_holds(real_data, tmp_path, monkeypatch):
    source = real_data(FOLDER)
    folder = tmp_path / FOLDER
    folder.mkdir()
    for name in ("data_batch_1", "test_batch"):
        (folder / name).symlink_to(source / name)
    monkeypatch.setenv("BAYESROB_DATA", str(tmp_path))
    data = load("cifar10", n_train=10_000)
    assert len(data.x_test) == 10_000
    assert torch.bincount(data.y_train).tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert torch.bincount(data.y_test).tolist() == [1000] * 10
    assert torch.equal(load("cifar10", n_train=9, n_test=1).x_train, data.x_train[:9])
    balanced = load("cifar10", n_train=9370, n_test=15, balanced=True)
    assert torch.bincount(balanced.y_train).tolist() == [937] * 10
    with pytest.raises(MissingDataError, match=r"data_batch_2 missing.*suffice for n_train of up to 10000\. On a machine"):
        load("cifar10", n_train=10_001, n_test=1)
    with pytest.raises(MissingDataError, match="data_batch_2 missing"):
        load("cifar10", n_train=10_000, n_test=1, balanced=True)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_refuses_more_than_there_are(name, empty_root):
    with pytest.raises(InputError, match=r"n_train is 50001.*>= 1 and <= 50000"):
        load(name, n_train=50_001)
    with pytest.raises(InputError, match=r"n_test is 10001.*>= 1 and <= 10000"):
        load(name, n_test=10_001)


@pytest.mark.parametrize(
    ("name", "kind", "missing"),
    [
        ("cifar10", "CIFAR10", f"{FOLDER}/data_batch_1, {FOLDER}/data_batch_2 missing"),
        ("cifar100", "CIFAR100", "cifar-100-python/train missing"),
    ],
)
def test_missing_files_without_a_network(name, kind, missing, empty_root):
    with pytest.raises(MissingDataError) as caught:
        load(name, n_train=20_000, n_test=10)
    message = str(caught.value)
    assert missing in message
    assert "no network in tests" in message
    assert f"torchvision.datasets.{kind}({str(empty_root)!r}, download=True)" in message
    assert "suffice for n_train" not in message  # nothing is there


class Forgery:
    """A CIFAR of 5 files of 20 training images (or one of 100), and 20 test images, with MD5 sums to match."""

    def __init__(self, kind, key, num_classes, monkeypatch):
        random = np.random.default_rng(0)
        self.kind, self.files = kind, {}
        names = [name for name, _ in kind.train_list]
        for name in (*names, kind.test_list[0][0]):
            count = 100 // len(names) if name in names else 20
            # The first image carries the class 1 even where it would be class 0, so that files are not balanced.
            labels = [1, *(place % num_classes for place in range(1, count))]
            entry = {"data": random.integers(0, 256, (count, 3072), dtype=np.uint8), key: labels}
            self.files[name] = pickle.dumps(entry)
        for part in ("train_list", "test_list"):
            sums = [[name, self.md5(name)] for name, _ in getattr(kind, part)]
            monkeypatch.setattr(kind, part, sums)
        monkeypatch.setattr(cifar, "_TRAIN", 100)
        monkeypatch.setattr(cifar, "_TEST", 20)

    def md5(self, name):
        return hashlib.md5(self.files[name]).hexdigest()

    def write(self, folder, names=None):
        target = folder / self.kind.base_folder
        target.mkdir()
        for name in self.files if names is None else names:
            (target / name).write_bytes(self.files[name])
        return target

    def archive(self):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in self.files.items():
                member = tarfile.TarInfo(f"{self.kind.base_folder}/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()


@pytest.fixture
def forged10(monkeypatch):
    return Forgery(torchvision.datasets.CIFAR10, "labels", 10, monkeypatch)


@pytest.fixture
def forged100(monkeypatch):
    return Forgery(torchvision.datasets.CIFAR100, "fine_labels", 100, monkeypatch)


def pixels_of(forgery, name):
    return {image.tobytes() for image in pickle.loads(forgery.files[name])["data"]}


def test_subsets_take_the_files_in_their_order(forged10, empty_root):
    forged10.write(empty_root)
    data = load("cifar10", n_train=100, n_test=20)
    images = [(image * 255).round().to(torch.uint8).flatten().numpy().tobytes() for image in data.x_train]
    for position in range(5):
        assert set(images[20 * position : 20 * (position + 1)]) == pixels_of(forged10, f"data_batch_{position + 1}")
    assert {(image * 255).round().to(torch.uint8).flatten().numpy().tobytes() for image in data.x_test} == pixels_of(
        forged10, "test_batch"
    )


@pytest.mark.parametrize(("balanced", "most"), [(False, 100), (True, 50)])
def test_smaller_is_the_beginning_of_larger_across_files(forged10, empty_root, balanced, most):
    forged10.write(empty_root)
    large = load("cifar10", n_train=most, n_test=10, balanced=balanced)
    for count in (1, 10, 11, 20, 21, 39, 40, 41, most):
        small = load("cifar10", n_train=count, n_test=3, balanced=balanced)
        assert torch.equal(small.x_train, large.x_train[:count])
        assert torch.equal(small.y_train, large.y_train[:count])
        assert torch.equal(small.x_test, large.x_test[:3])
    assert not torch.equal(load("cifar10", n_train=most, n_test=10, seed=1).x_train, large.x_train)


def test_balanced_reads_one_file_more_if_need_be(forged10, empty_root):
    target = forged10.write(empty_root, ["data_batch_1", "data_batch_2", "test_batch"])
    data = load("cifar10", n_train=20, n_test=10, balanced=True)  # the first file holds class 0 only once
    assert torch.bincount(data.y_train).tolist() == [2] * 10
    (target / "data_batch_2").unlink()
    load("cifar10", n_train=20, n_test=10)
    with pytest.raises(MissingDataError, match="data_batch_2 missing"):
        load("cifar10", n_train=20, n_test=10, balanced=True)


def test_balanced_refuses_more_than_the_rarest_class_allows(forged10, empty_root):
    forged10.write(empty_root)
    with pytest.raises(InputError, match=r"balanced n_train=100 needs 10.*class 0 has only 5.*at most 50"):
        load("cifar10", n_train=100, n_test=10, balanced=True)


def test_cifar100_has_the_fine_labels(forged100, empty_root):
    forged100.write(empty_root)
    data = load("cifar100", n_train=100, n_test=20)
    assert data.num_classes == 100
    assert sorted(data.y_train.tolist()) == sorted([1, *range(1, 100)])


def test_only_the_files_needed_are_read(forged10, empty_root, monkeypatch):
    forged10.write(empty_root)
    read, original = [], pathlib.Path.read_bytes
    monkeypatch.setattr(pathlib.Path, "read_bytes", lambda path: (read.append(path.name), original(path))[1])
    load("cifar10", n_train=21, n_test=1)
    assert read == ["data_batch_1", "data_batch_2", "test_batch"]


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch"])
def test_a_wrong_file_is_refused_before_it_is_unpickled(forged10, empty_root, name):
    target = forged10.write(empty_root)
    trace = empty_root / "code_ran"

    class Attack:
        def __reduce__(self):
            return pathlib.Path.touch, (trace,)

    (target / name).write_bytes(pickle.dumps(Attack()))
    with pytest.raises(MissingDataError) as caught:
        load("cifar10", n_train=5, n_test=5)
    assert not trace.exists()
    message = str(caught.value)
    assert str(target / name) in message
    assert f"instead of {forged10.md5(name)}" in message
    assert "Delete it and run torchvision.datasets.CIFAR10(" in message


def test_a_truncated_file_is_refused(forged10, empty_root):
    target = forged10.write(empty_root)
    (target / "data_batch_1").write_bytes(forged10.files["data_batch_1"][:1000])
    with pytest.raises(MissingDataError, match="data_batch_1 is not the published file: 1000 bytes with MD5 sum"):
        load("cifar10", n_train=5, n_test=5)


def test_missing_files_are_downloaded(forged10, empty_root, monkeypatch):
    # torchvision reads the class names too, and checks them as it does everything.
    forged10.files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    meta = torchvision.datasets.CIFAR10.meta | {"md5": forged10.md5("batches.meta")}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)
    archive = forged10.archive()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", hashlib.md5(archive).hexdigest())

    class Response(io.BytesIO):
        def __init__(self, request, **options):
            super().__init__(archive)
            self.url, self.length = request.full_url, len(archive)

    monkeypatch.setattr(urllib.request, "urlopen", Response)
    data = load("cifar10", n_train=45, n_test=20)
    assert data.x_train.shape == (45, 3, 32, 32)
