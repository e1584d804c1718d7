#!/usr/bin/env python3
"""Reference values of privacy accounting, computed with Google's dp-accounting 0.6.0.

    pip install dp-accounting==0.6.0
    python3 tests/interop/accounting.py write    # computes every row anew (about ten minutes)
    python3 tests/interop/accounting.py compare  # computes every row anew and compares with the file
    python3 tests/interop/accounting.py check    # the same for as many rows as a minute allows, quick ones first

The file is crates/dp/tests/data/accounting.json; `cargo test -p cohortium-dp` reads it. `epsilon_pld` is a pessimistic
estimate and so an upper bound of the truth, up to that library's own rounding.
"""
import json
import math
import pathlib
import sys
import time

import dp_accounting as dpa
from dp_accounting.pld import common, pld_privacy_accountant, privacy_loss_distribution as P

FILE = pathlib.Path(__file__).resolve().parents[2] / "crates/dp/tests/data/accounting.json"
BUDGET_S = 60
ADD, REPLACE, SPECIAL = "ADD_OR_REMOVE_ONE", "REPLACE_ONE", "REPLACE_SPECIAL"
RELATION = {ADD: dpa.NeighboringRelation.ADD_OR_REMOVE_ONE, REPLACE: dpa.NeighboringRelation.REPLACE_ONE,
            SPECIAL: dpa.NeighboringRelation.REPLACE_SPECIAL}


def rows():
    """(id, mechanism, params, composition, delta, neighboring, discretization)"""
    out = []

    def row(name, mechanism, params, k=1, delta=1e-6, neighbours=ADD, h=1e-4):
        out.append(dict(id=name, mechanism=mechanism, params=params, composition=k, delta=delta,
                        neighboring=neighbours, discretization=h))

    # The same rows as in our design notes.
    row("G1", "gaussian", dict(noise_multiplier=1.0), 1, 1e-5)
    row("G3", "gaussian", dict(noise_multiplier=1.0), 100)
    row("G5", "gaussian", dict(noise_multiplier=10.0), 1000)
    row("G8", "gaussian", dict(noise_multiplier=1.0), 1, 1e-5, REPLACE)
    row("L1", "laplace", dict(noise_multiplier=1.0))
    row("L3", "laplace", dict(noise_multiplier=10.0), 100)
    row("L5", "laplace", dict(noise_multiplier=5.0), 50, 1e-9)
    row("DL1", "discrete_laplace", dict(parameter=0.1, sensitivity=1), 100)
    row("DG1", "discrete_gaussian", dict(sigma=1.0, sensitivity=1, sampling_prob=1.0))
    row("DG3", "discrete_gaussian", dict(sigma=20.0, sensitivity=1, sampling_prob=1.0), 400, 1e-5)
    row("DG5", "discrete_gaussian", dict(sigma=4.0, sensitivity=1, sampling_prob=0.05), 100)
    row("SG1", "poisson_gaussian", dict(q=0.01, noise_multiplier=1.0), 1000, 1e-5)
    row("SG3", "poisson_gaussian", dict(q=256 / 60000, noise_multiplier=1.3), 3510, 1e-5)
    row("SG5", "poisson_gaussian", dict(q=0.2, noise_multiplier=0.5), 3, 0.15594)
    row("SG8", "poisson_gaussian", dict(q=0.01, noise_multiplier=1.0), 1000, 1e-5, REPLACE)
    row("SL1", "poisson_laplace", dict(q=0.2, noise_multiplier=0.5), 3)
    row("H1", "composed", dict(events=[["gaussian", 2.0, 1], ["laplace", 4.0, 5], ["poisson_gaussian", 0.02, 1.2, 200]]))
    row("ED1", "epsilon_delta", dict(epsilon=0.1, delta=0.0), 100, 1e-6, "n/a")
    row("ED3", "epsilon_delta", dict(epsilon=0.5, delta=1e-7), 10, 1e-5, "n/a")
    row("RR1", "randomized_response", dict(noise_parameter=0.5, num_buckets=4), 10, 1e-6, REPLACE)
    row("MG1", "mixture_gaussian", dict(
        sigma=1.0, sensitivities=[0, 1, 2], probs=[0.2, 0.6, 0.2], count=3,
        then=dict(sigma=2.0, sensitivities=[0, 2, 3], probs=[0.33, 0.34, 0.33], count=2)))

    # Widely varied.
    n = 0
    for sigma, k, delta, side in [(0.3, 1, 1e-6, ADD), (0.5, 4, 1e-9, REPLACE), (5.0, 30, 0.01, ADD),
                                  (40.0, 1, 1e-6, ADD), (100.0, 100000, 1e-5, ADD), (3.0, 1, 0.3, REPLACE),
                                  (2.0, 7, 1e-11, ADD)]:
        n += 1
        row(f"G-{n}", "gaussian", dict(noise_multiplier=sigma), k, delta, side)
    n = 0
    for b, k, delta in [(0.3, 1, 1e-6), (0.3, 20, 1e-6), (2.0, 3, 1e-4), (50.0, 10000, 1e-6), (100.0, 1, 1e-3),
                        (1.0, 10, 0.1), (7.3, 77, 1e-10), (3.0, 1000, 1e-5)]:
        n += 1
        row(f"L-{n}", "laplace", dict(noise_multiplier=b), k, delta)
    n = 0
    for q, sigma, k, delta, side in [
            (1e-4, 0.5, 1000, 1e-6, ADD), (1e-3, 0.8, 100000, 1e-6, ADD), (0.01, 1.0, 10000, 1e-5, ADD),
            (0.01, 1.0, 10000, 1e-6, ADD), (0.05, 0.6, 500, 1e-5, ADD), (0.1, 2.0, 100, 1e-5, ADD),
            (0.3, 10.0, 2000, 1e-8, ADD), (0.5, 1.0, 10, 1e-6, ADD), (0.9, 3.0, 50, 1e-6, ADD),
            (0.99, 1.0, 1, 1e-6, ADD), (0.9999, 5.0, 20, 1e-7, ADD), (1e-5, 0.4, 100, 1e-7, ADD),
            (0.02, 100.0, 100000, 1e-6, ADD), (0.2, 0.3, 1, 1e-6, ADD), (0.2, 0.5, 3, 1e-6, ADD),
            (0.001, 4.0, 10000, 1e-9, ADD), (0.03, 1.5, 1, 1e-4, ADD), (0.6, 30.0, 1000, 0.1, ADD),
            (0.01, 0.7, 300, 1e-10, ADD), (0.01, 1.0, 10, 1e-3, ADD),
            (0.001, 0.8, 10000, 1e-6, REPLACE), (0.1, 2.0, 100, 1e-5, REPLACE), (0.5, 1.0, 5, 1e-6, REPLACE),
            (0.9, 4.0, 30, 1e-8, REPLACE), (0.02, 0.5, 10, 1e-5, REPLACE), (0.3, 50.0, 10000, 0.01, REPLACE),
            (0.999, 3.0, 1, 1e-6, REPLACE), (0.25, 1.0, 1, 1e-6, REPLACE)]:
        n += 1
        row(f"SG-{n}", "poisson_gaussian", dict(q=q, noise_multiplier=sigma), k, delta, side)
    row("SG-h1", "poisson_gaussian", dict(q=0.01, noise_multiplier=1.0), 1000, 1e-5, ADD, 1e-3)
    row("SG-h2", "poisson_gaussian", dict(q=0.05, noise_multiplier=2.0), 300, 1e-6, ADD, 5e-4)
    n = 0
    for q, b, k, delta in [(0.01, 1.0, 1000, 1e-6), (0.5, 3.0, 20, 1e-6), (0.001, 0.3, 100, 1e-7), (0.9, 10.0, 500, 1e-5),
                           (0.1, 0.5, 1, 1e-6), (0.05, 30.0, 100000, 1e-6)]:
        n += 1
        row(f"SL-{n}", "poisson_laplace", dict(q=q, noise_multiplier=b), k, delta)
    n = 0
    for a, s, k, delta in [(1.0, 1, 1, 1e-6), (1.0, 1, 30, 1e-6), (0.01, 5, 1000, 1e-6), (0.5, 7, 3, 1e-4), (3.0, 2, 2, 1e-8)]:
        n += 1
        row(f"DL-{n}", "discrete_laplace", dict(parameter=a, sensitivity=s), k, delta)
    n = 0
    for sigma, s, q, k, delta in [(0.5, 1, 1.0, 1, 1e-6), (2.0, 3, 1.0, 10, 1e-6), (10.0, 1, 1.0, 1000, 1e-8),
                                  (1.0, 1, 0.1, 100, 1e-5), (5.0, 2, 0.5, 20, 1e-6), (50.0, 10, 1.0, 30, 1e-5),
                                  (3.0, 1, 0.01, 5000, 1e-6)]:
        n += 1
        row(f"DG-{n}", "discrete_gaussian", dict(sigma=sigma, sensitivity=s, sampling_prob=q), k, delta)
    n = 0
    for e, d, k, delta in [(1.0, 0.0, 10, 1e-6), (0.01, 0.0, 10000, 1e-6), (0.2, 1e-9, 50, 1e-6), (2.0, 0.0, 3, 0.1),
                           (0.05, 0.0, 100, 1e-10)]:
        n += 1
        row(f"ED-{n}", "epsilon_delta", dict(epsilon=e, delta=d), k, delta, "n/a")
    n = 0
    for p, m, k, delta in [(0.9, 2, 50, 1e-6), (0.1, 10, 3, 1e-3), (0.99, 3, 1000, 1e-6)]:
        n += 1
        row(f"RR-{n}", "randomized_response", dict(noise_parameter=p, num_buckets=m), k, delta, REPLACE)
    n = 0
    for p, m, k, delta in [(0.5, 4, 10, 1e-6), (0.9, 2, 50, 1e-6), (0.1, 10, 3, 1e-3), (0.99, 1000, 200, 1e-6),
                           (0.2, 2, 1, 0.01)]:
        n += 1
        row(f"RRS-{n}", "randomized_response", dict(noise_parameter=p, num_buckets=m), k, delta, SPECIAL)
    # Every other mechanism that their accountant takes under this relation.
    row("S-1", "gaussian", dict(noise_multiplier=2.0), 5, 1e-6, SPECIAL)
    row("S-2", "laplace", dict(noise_multiplier=3.0), 7, 1e-6, SPECIAL)
    row("S-3", "poisson_gaussian", dict(q=0.05, noise_multiplier=1.2), 60, 1e-5, SPECIAL)
    row("S-4", "poisson_laplace", dict(q=0.2, noise_multiplier=2.0), 40, 1e-6, SPECIAL)
    row("S-5", "discrete_laplace", dict(parameter=0.3, sensitivity=2), 9, 1e-6, SPECIAL)
    row("S-6", "mixture_gaussian", dict(sigma=2.0, sensitivities=[0, 1], probs=[0.7, 0.3]), 20, 1e-6, SPECIAL)
    row("S-7", "composed", dict(events=[["randomized_response", 0.8, 5, 6], ["gaussian", 4.0, 3],
                                        ["poisson_laplace", 0.1, 1.5, 12]]), 1, 1e-6, SPECIAL)
    row("MG-1", "mixture_gaussian", dict(sigma=1.5, sensitivities=[0, 1], probs=[0.9, 0.1]), 50)
    row("MG-2", "mixture_gaussian", dict(sigma=3.0, sensitivities=[1, 2, 4], probs=[0.5, 0.3, 0.2]), 5, 1e-5)
    row("H-1", "composed", dict(events=[["laplace", 10.0, 30], ["discrete_gaussian", 8.0, 1, 1.0, 20],
                                        ["poisson_gaussian", 0.1, 2.0, 50], ["poisson_laplace", 0.05, 1.0, 100]]), 1, 1e-7)
    row("H-2", "composed", dict(events=[["gaussian", 5.0, 3], ["gaussian", 9.0, 10]]), 2, 1e-6)
    row("H-3", "composed", dict(events=[["gaussian", 6.0, 10], ["poisson_gaussian", 0.01, 1.0, 500]]), 1, 1e-6, REPLACE)
    row("H-4", "composed", dict(events=[["poisson_gaussian", 0.01 + 0.002 * i, 0.8 + 0.05 * i, 40 + i] for i in range(20)]),
        1, 1e-6)
    return out


def single(name, args, relation, h):
    """One mechanism by name and positional parameters; the number is consumed."""
    if name == "gaussian":
        return P.from_gaussian_mechanism(args[0], value_discretization_interval=h, neighboring_relation=relation)
    if name == "laplace":
        return P.from_laplace_mechanism(args[0], value_discretization_interval=h)
    if name == "poisson_gaussian":
        return P.from_gaussian_mechanism(args[1], sampling_prob=args[0], value_discretization_interval=h,
                                         neighboring_relation=relation)
    if name == "poisson_laplace":
        return P.from_laplace_mechanism(args[1], sampling_prob=args[0], value_discretization_interval=h)
    if name == "discrete_laplace":
        return P.from_discrete_laplace_mechanism(args[0], sensitivity=args[1], value_discretization_interval=h)
    if name == "discrete_gaussian":
        return P.from_discrete_gaussian_mechanism(args[0], sensitivity=args[1], sampling_prob=args[2],
                                                  value_discretization_interval=h)
    if name == "epsilon_delta":
        return P.from_privacy_parameters(common.DifferentialPrivacyParameters(*args), value_discretization_interval=h)
    if name == "randomized_response":
        return P.from_randomized_response(*args, value_discretization_interval=h, neighboring_relation=relation)
    if name == "mixture_gaussian":
        return P.from_mixture_gaussian_mechanism(*args, value_discretization_interval=h)
    raise ValueError(name)


ORDER = {
    "gaussian": ["noise_multiplier"], "laplace": ["noise_multiplier"], "poisson_gaussian": ["q", "noise_multiplier"],
    "poisson_laplace": ["q", "noise_multiplier"], "discrete_laplace": ["parameter", "sensitivity"],
    "discrete_gaussian": ["sigma", "sensitivity", "sampling_prob"], "epsilon_delta": ["epsilon", "delta"],
    "randomized_response": ["noise_parameter", "num_buckets"], "mixture_gaussian": ["sigma", "sensitivities", "probs"],
}


def epsilon(row):
    relation, h = RELATION.get(row["neighboring"], RELATION[ADD]), row["discretization"]
    params, k = row["params"], row["composition"]
    if row["mechanism"] == "composed":
        events = [(name, args[:-1], args[-1]) for name, *args in params["events"]]
    else:
        events = [(row["mechanism"], [params[p] for p in ORDER[row["mechanism"]]], params.get("count", 1))]
        then = params.get("then")
        if then:
            events.append((row["mechanism"], [then[p] for p in ORDER[row["mechanism"]]], then["count"]))
    total = P.identity(value_discretization_interval=h)
    for name, args, count in events:
        if name == "gaussian":  # As its accountant does.
            args, count, k_here = [args[0] / math.sqrt(count * k)], 1, 1
        else:
            k_here = k
        total = total.compose(single(name, args, relation, h).self_compose(count * k_here))
    return total.get_epsilon_for_delta(row["delta"])


def main():
    if sys.argv[1:] == ["write"]:
        table = []
        for row in rows():
            row["epsilon_pld"] = epsilon(row)
            table.append(row)
            print(row["id"], row["epsilon_pld"], flush=True)
        text = {"about": "Computed with dp-accounting 0.6.0 by tests/interop/accounting.py", "pld": table}
        lines = ",\n".join("  " + json.dumps(row) for row in table)
        FILE.write_text('{\n "about": %s,\n "pld": [\n%s\n ]\n}\n' % (json.dumps(text["about"]), lines))
    elif sys.argv[1:] == ["compare"]:
        for row in json.loads(FILE.read_text())["pld"]:
            assert math.isclose(epsilon(row), row["epsilon_pld"], rel_tol=1e-9), row
    elif sys.argv[1:] == ["check"]:
        sys.exit(check(json.loads(FILE.read_text())["pld"]))
    else:
        sys.exit(__doc__)


def check(table):
    """Recomputes rows for a minute, and demands that a row with another composition is told apart."""
    start, passed, failed = time.monotonic(), 0, 0
    quick = sorted(table, key=lambda row: (row["mechanism"] in ("mixture_gaussian", "composed"), row["composition"]))
    for row in quick:
        if time.monotonic() - start > BUDGET_S:
            break
        agrees = math.isclose(epsilon(row), row["epsilon_pld"], rel_tol=1e-9)
        passed, failed = passed + agrees, failed + (not agrees)
        if not agrees:
            print("disagrees:", row)
    altered = dict(quick[0], composition=quick[0]["composition"] + 1)
    noticed = not math.isclose(epsilon(altered), quick[0]["epsilon_pld"], rel_tol=1e-9)
    passed, failed = passed + noticed, failed + (not noticed)
    print(f"dp-accounting: {passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 20 else 1


if __name__ == "__main__":
    main()
