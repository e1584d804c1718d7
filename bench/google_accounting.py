"""Google's dp-accounting on the compositions that `cohortium-bench dp` measures.

Prints one line of JSON: for each composition its epsilon and the processor seconds that it took, imports left out.
Usage: google_accounting.py COMPOSITION...   (schedule, ledger)
"""

import json
import sys
import time

import dp_accounting
from dp_accounting import pld

GRID = 1e-4
DELTA = 1e-5


def schedule():
    """Ten thousand steps of DP-SGD: q = 0.01, sigma = 1."""
    step = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
    return dp_accounting.SelfComposedDpEvent(step, 10_000)


def ledger():
    """A thousand different mechanisms: Laplace, Gaussian, sampled Gaussian, 334 + 333 + 333."""
    events = []
    for i in range(1000):
        kind, share = i % 3, i / 1000
        if kind == 0:
            events.append(dp_accounting.LaplaceDpEvent(100 + 100 * share))
        elif kind == 1:
            events.append(dp_accounting.GaussianDpEvent(100 + 100 * share))
        else:
            events.append(dp_accounting.PoissonSampledDpEvent(0.01 + 0.01 * share, dp_accounting.GaussianDpEvent(1 + share)))
    return dp_accounting.ComposedDpEvent(events)


def main():
    results = {}
    for name in sys.argv[1:]:
        event = {"schedule": schedule, "ledger": ledger}[name]()
        start = time.process_time()
        accountant = pld.PLDAccountant(value_discretization_interval=GRID)
        accountant.compose(event)
        epsilon = accountant.get_epsilon(DELTA)
        results[name] = {"epsilon": epsilon, "seconds": time.process_time() - start}
    print(json.dumps(results))


main()
