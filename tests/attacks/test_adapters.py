"""Without foolbox and ART: nothing needs them, and what would is told how to get them. The rest is in tests/interop."""

from __future__ import annotations

import subprocess
import sys

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("foolbox", "art"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocked())
import torch
import bayesrob as br
post = br.predictive.from_modules(torch.nn.Linear(3, 2).eval(), bounds=(0, 1), input_shape=(3,), num_classes=2)
x, y = torch.zeros(1, 3), torch.tensor([0])
adapters = br.attacks.adapters
for use in sys.argv[1:]:
    try:
        eval(use)
    except br.errors.InputError as error:
        print(error)
"""

USES = {
    "adapters.Foolbox(object(), 0.1)": "foolbox",
    "adapters.Foolbox(object())": "foolbox",
    "adapters.to_foolbox(post)": "foolbox",
    "adapters.ART(lambda classifier: None)(post, x, y)": "The Adversarial Robustness Toolbox",
    "adapters.to_art(post)": "The Adversarial Robustness Toolbox",
}


def test_a_missing_library_is_named_with_the_command_that_installs_it():
    done = subprocess.run([sys.executable, "-c", BLOCKED, *USES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    messages = done.stdout.strip().splitlines()
    assert len(messages) == len(USES)
    for message, name in zip(messages, USES.values(), strict=True):
        assert message.startswith(f"{name} cannot be imported: No module named")
        assert 'pip install "bayesrob[interop]"' in message
