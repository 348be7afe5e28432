"""Settings hold for bayesrob's own products, and for nothing else: every entry point."""

from __future__ import annotations

import json

import pytest
import torch

import bayesrob as br
from bayesrob.numerics import route
from bayesrob.numerics.routes import MATMUL
from tests.numerics.routes.watching import FASTER, WIDTH, Spy, large, settings

pytestmark = pytest.mark.skipif(MATMUL is None, reason="torch before 2.9 has one route")


COMPILE = f"""
import torch
import bayesrob as br
post = br.predictive.from_modules([br.nets.mlp(100, ({WIDTH + 1},), 3).eval()])
x = torch.rand(5, 100)
expected = post(x)
torch.testing.assert_close(torch.compile(post, backend="eager", fullgraph=True)(x), expected)
"""


ENTRIES = {
    "logits": lambda post, x, y: post.logits(x),
    "forward": lambda post, x, y: post(x),
    "input_gradient": lambda post, x, y: post.input_gradient(x, y),
    "with its error": lambda post, x, y: post.input_gradient(x, y, standard_error=True),
    "predictive loss": lambda post, x, y: post.input_gradient(x, y, "predictive_loss"),
    "draw_gradients": lambda post, x, y: post.draw_gradients(x, y),
    "objective_value": lambda post, x, y: post.objective_value(x, y),
    "attack": lambda post, x, y: br.attacks.PGD(steps=2)(post, x, y),
    "evaluate": lambda post, x, y: br.evaluate(post, br.data.from_arrays(x, y, x, y, bounds=(0, 1), num_classes=3)),
}
each_entry = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)


class TestEntryPoints:
    @each_entry
    def test_take_the_route_and_restore(self, entry, watched, seen, dataset):
        watched.chunk(dataset.x_test)  # which looks at one output
        seen.clear()
        entry(watched, dataset.x_test, dataset.y_test)
        assert {setting for _, setting in seen} == {"bf16"}
        assert settings() == ["none"] * 4

    @each_entry
    def test_restore_after_an_exception(self, entry, watched, dataset):
        watched.chunk(dataset.x_test)
        for module in watched.modules_:
            module.fails = True
        with pytest.raises(RuntimeError, match="on purpose"):
            entry(watched, dataset.x_test, dataset.y_test)
        assert settings() == ["none"] * 4

    @each_entry
    def test_restore_threads_and_gradient_mode(self, entry, watched, dataset):
        threads = torch.get_num_threads()
        for fails in (False, True):
            for module in watched.modules_:
                module.fails = fails
            for mode in (True, False):
                with torch.set_grad_enabled(mode):
                    try:
                        entry(watched, dataset.x_test, dataset.y_test)
                    except RuntimeError:
                        assert fails
                    assert (torch.is_grad_enabled(), torch.get_num_threads()) == (mode, threads)

    @each_entry
    @pytest.mark.parametrize("setting", ["bf16", "tf32"])
    def test_plain_is_full_precision_whatever_the_user_set(self, entry, setting, watched, seen, dataset):
        watched.chunk(dataset.x_test)
        seen.clear()
        MATMUL.fp32_precision = setting
        try:
            with route("plain"):
                entry(watched, dataset.x_test, dataset.y_test)
            assert {found for _, found in seen} == {"ieee"}
            assert MATMUL.fp32_precision == setting
        finally:
            MATMUL.fp32_precision = "none"

    def test_an_attack_with_products_of_its_own(self, watched, dataset):
        found = []

        class Own(br.attacks.Attack):
            def perturb(self, victim, x, generator):
                found.append(MATMUL.fp32_precision)
                return x

        Own()(watched, dataset.x_test, dataset.y_test)
        assert found == ["bf16"]

    def test_fit(self, seen, dataset):
        net = Spy(seen)
        post = br.inference.SGD(epochs=1).fit(net, dataset)
        assert {("forward", "bf16"), ("backward", "bf16")} <= set(seen)
        assert settings() == ["none"] * 4
        assert post.info["numerics"] == {
            "route": "onednn",
            "asked": "auto",
            "threads": torch.get_num_threads(),
            "errors": FASTER.errors,
            "speedups": FASTER.speedups,
        }
        assert json.loads(json.dumps(post.info["numerics"])) == post.info["numerics"]

    def test_a_fit_that_fails(self, dataset, monkeypatch):
        def fails(*arguments):
            assert MATMUL.fp32_precision == "bf16"
            raise RuntimeError("on purpose")

        monkeypatch.setattr(br.inference.SGD, "_run", fails)
        with pytest.raises(RuntimeError, match="on purpose"):
            br.inference.SGD(epochs=1).fit(large(), dataset)

    def test_a_backward_pass_of_the_users_own_is_in_the_users_setting(self, watched, seen, dataset):
        outputs = watched.logits(dataset.x_test.clone().requires_grad_())
        seen.clear()
        outputs.sum().backward()
        assert {setting for _, setting in seen} == {"none"}
