from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from bayesrob import weights
from bayesrob.errors import CheckpointError

TENSORS = {
    "draws/a": torch.arange(12.0).reshape(3, 4),
    "draws/b": torch.tensor([[1.5], [float("nan")], [float("-inf")]], dtype=torch.float64),
    "stats/divergent": torch.tensor([True, False]),
    "buffers/count": torch.tensor(7),
}
DESCRIPTION = {"kind": "held", "bounds": [0.0, 1.0], "info": {"method": "HMC", "seed": 3, "nothing": None}}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return weights.write(tmp_path / "run" / "posterior", TENSORS, DESCRIPTION)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()


def test_round_trip(saved):
    tensors, description = weights.read(saved)
    assert tensors.keys() == TENSORS.keys()
    assert all(same_bits(tensors[name], TENSORS[name]) for name in TENSORS)
    assert {name: description[name] for name in DESCRIPTION} == DESCRIPTION
    assert description["format"] == weights.FORMAT
    assert sorted(file.name for file in saved.iterdir()) == ["predictive.json", "weights.safetensors"]
    assert list(saved.parent.iterdir()) == [saved]


def test_views_of_one_storage_are_written(tmp_path):
    whole = torch.arange(10.0).reshape(1, 10)
    first, second = whole.split([4, 6], dim=-1)
    tensors, _ = weights.read(weights.write(tmp_path / "p", {"a": first, "b": second.requires_grad_()}, {}))
    assert torch.equal(tensors["a"], whole[:, :4])
    assert torch.equal(tensors["b"], whole[:, 4:])


def test_a_checkpoint_is_replaced(saved):
    weights.write(saved, {"c": torch.ones(1)}, {"kind": "other"})
    tensors, description = weights.read(saved)
    assert list(tensors) == ["c"]
    assert description["kind"] == "other"


def test_an_empty_folder_is_used(tmp_path):
    weights.write(tmp_path, TENSORS, DESCRIPTION)
    assert weights.read(tmp_path)[1]["kind"] == "held"


def test_a_failed_write_keeps_the_old_checkpoint_and_leaves_nothing_behind(saved):
    with pytest.raises(TypeError, match="JSON"):
        weights.write(saved, {"c": torch.ones(1)}, {"info": object()})
    assert weights.read(saved)[0].keys() == TENSORS.keys()
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("also_a_checkpoint", [False, True])
def test_a_folder_with_files_of_the_users_is_never_overwritten(tmp_path, also_a_checkpoint):
    folder = tmp_path / "mine"
    if also_a_checkpoint:
        weights.write(folder, TENSORS, DESCRIPTION)
    folder.mkdir(exist_ok=True)
    (folder / "notes.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="Choose another path"):
        weights.write(folder, TENSORS, DESCRIPTION)
    assert (folder / "notes.txt").read_text() == "precious"


def test_a_file_is_never_overwritten(tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(CheckpointError, match="would overwrite"):
        weights.write(tmp_path / "mine", TENSORS, DESCRIPTION)
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.parametrize("name", ["predictive.json", "weights.safetensors"])
def test_missing_file(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} does not exist"):
        weights.read(saved)


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        weights.read(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "{}", '{"format": 1}', "\x00"])
def test_damaged_description(saved, text):
    (saved / "predictive.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights.read(saved)


def test_newer_format(saved):
    document = json.loads((saved / "predictive.json").read_text())
    (saved / "predictive.json").write_text(json.dumps(document | {"format": weights.FORMAT + 1}))
    with pytest.raises(CheckpointError, match="Update bayesrob"):
        weights.read(saved)


@pytest.mark.parametrize("damage", [lambda old: old[:-1], lambda old: old[:-1] + bytes([old[-1] ^ 1]), lambda old: b""])
def test_damaged_tensors(saved, damage):
    file = saved / "weights.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match="SHA-256"):
        weights.read(saved)


class Malicious:
    def __init__(self, victim: Path):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def test_reading_never_unpickles(saved, tmp_path):
    """Not even when the digest vouches for the pickle."""
    victim = tmp_path / "executed"
    payload = pickle.dumps(Malicious(victim))
    document = json.loads((saved / "predictive.json").read_text())
    (saved / "weights.safetensors").write_bytes(payload)
    with pytest.raises(CheckpointError, match="SHA-256"):
        weights.read(saved)
    document["sha256"] = weights.hashlib.sha256(payload).hexdigest()
    del document["description_sha256"]
    document["description_sha256"] = weights._signature(document)
    (saved / "predictive.json").write_text(json.dumps(document))
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights.read(saved)
    (saved / "predictive.json").write_bytes(payload)
    with pytest.raises(CheckpointError, match="cannot be read"):
        weights.read(saved)
    assert not victim.exists()
    pickle.loads(payload)
    assert victim.exists()  # the payload was live
