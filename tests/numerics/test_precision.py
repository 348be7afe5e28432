from __future__ import annotations

import contextlib

import pytest
import torch

from bayesrob.errors import InputError, UnknownNameError
from bayesrob.numerics import PRECISIONS, fast_precision, low_dtype, low_products


def test_only_bf16_has_a_type_of_its_own():
    assert [low_dtype(name) for name in PRECISIONS] == [None, None, torch.bfloat16]
    with pytest.raises(UnknownNameError, match="Did you mean 'bf16'"):
        low_dtype("bf61")


@pytest.mark.parametrize("setting", ["none", "ieee", "tf32"])
def test_tf32_rules_in_the_block_alone_also_after_an_error(setting):
    """The setting can be made without a card."""
    matmul = torch.backends.cuda.matmul
    outside = matmul.fp32_precision
    try:
        matmul.fp32_precision = setting
        with contextlib.suppress(ZeroDivisionError), low_products("tf32", torch.device("cuda")):
            assert matmul.fp32_precision == "tf32"
            raise ZeroDivisionError
        assert matmul.fp32_precision == setting
        with low_products("full", torch.device("cuda")):
            assert matmul.fp32_precision == setting
    finally:
        matmul.fp32_precision = outside


@pytest.mark.parametrize("before", [False, True])
def test_tf32_beside_torchs_older_setting(before):
    matmul = torch.backends.cuda.matmul
    outside = matmul.fp32_precision
    try:
        matmul.allow_tf32 = before
        with low_products("tf32", torch.device("cuda")):
            assert matmul.fp32_precision == "tf32"
        assert matmul.allow_tf32 == before
    finally:
        matmul.allow_tf32 = False
        matmul.fp32_precision = outside


def test_a_setting_inherited_from_all_backends_is_inherited_again():
    matmul, everywhere = torch.backends.cuda.matmul, torch.backends
    try:
        everywhere.fp32_precision = "tf32"
        with low_products("tf32", torch.device("cuda")):
            pass
        everywhere.fp32_precision = "none"
        assert matmul.fp32_precision == "none"
    finally:
        everywhere.fp32_precision = "none"


def test_tf32_is_nothing_on_a_processor():
    with pytest.raises(InputError, match=r"precision='tf32' on cpu.*NVIDIA"), low_products("tf32", torch.device("cpu")):
        pass


def test_fast_precision_follows_the_machine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert fast_precision() == "full"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert fast_precision() == "bf16"
