"""`make bench`: the figures of docs/benchmarks.md, measured on this machine.

Ratios and differences are taken within one run, measurement by measurement in turn, since machines are noisy.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable

from tests.bench.approval import approval
from tests.bench.creation import creation
from tests.bench.demo import demo
from tests.bench.endpoint import endpoint
from tests.bench.endpoint_tests import endpoint_tests
from tests.bench.enforcing import enforcing
from tests.bench.execution import execution
from tests.bench.figures import Figure
from tests.bench.going_back import going_back
from tests.bench.install import install
from tests.bench.overhead import overhead
from tests.bench.preprocess import preprocess
from tests.bench.push import push
from tests.bench.ready import ready
from tests.bench.rebuild import rebuild
from tests.bench.registry import registry
from tests.bench.report import report
from tests.bench.seed import seed
from tests.bench.serving import serving

BENCHMARKS: dict[str, Callable[[], list[Figure]]] = {
    "install": install,
    "ready": ready,
    "registry": registry,
    "rebuild": rebuild,
    "overhead": overhead,
    "preprocess": preprocess,
    "execution": execution,
    "serving": serving,
    "endpoint": endpoint,
    "endpoint-tests": endpoint_tests,
    "approval": approval,
    "going-back": going_back,
    "enforcing": enforcing,
    "seed": seed,
    "creation": creation,
    "push": push,
    "demo": demo,
    "report": report,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    # Programs that may not keep their byte code compile everything at every start, which is not what is measured.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}", file=sys.stderr)
    figures = []
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name]()
    print("| figure | measured | wanted | |\n|---|---|---|---|")
    for figure in figures:
        print(figure.row())
    return 0 if all(figure.good for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
