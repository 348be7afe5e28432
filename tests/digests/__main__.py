"""SHA-256 digests of public results at fixed seeds: what a change of structure must leave alone.

Run it before a change and after it, on the same machine, and compare:

    python -m tests.digests before.json
    python -m tests.digests after.json --compare before.json

It is no test, because digests hold for one machine and one version of torch (here with one thread).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import warnings
from pathlib import Path

import torch

from tests.digests.attacked import attacked, evaluated, swept
from tests.digests.fits import fits, keys, more_fits

GROUPS = {"fits": fits, "more": more_fits, "attacks": attacked, "evaluation": evaluated, "sweeps": swept, "settings": keys}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--compare", type=Path, help="digests of before")
    parser.add_argument("--only", nargs="*", choices=list(GROUPS), default=list(GROUPS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    for group in arguments.only:
        for name, compute in GROUPS[group]():
            try:
                with warnings.catch_warnings(), contextlib.redirect_stderr(None):
                    warnings.simplefilter("ignore")
                    found[name] = compute()
            except Exception as error:  # a result too, and one that may change
                found[name] = f"{type(error).__name__}: {error}"
    arguments.out.write_text(json.dumps(found, indent=1))
    print(len(found), "results,", sum(":" in value for value in found.values()), "errors")
    if arguments.compare is None:
        return 0
    before = json.loads(arguments.compare.read_text())
    changed = sorted(name for name in found if before.get(name) != found[name])
    print(*changed, f"{len(found) - len(changed)} of {len(found)} are the same.", sep="\n")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
