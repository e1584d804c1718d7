"""Evaluates our compiled policies with PyPI's `cedarpy` and demands the very clauses that `crates/policy` found.

cedarpy is the same engine (the Rust crate cedar-policy) in another build, by others, driven from text: it checks our
compiler, the printed policies and the facts, not the engine. Each policy set is also tampered with, and a context that
lacks a fact, or has one of another type, must not be permitted.

Usage: cedar.py FILE_OF_VECTORS
"""

import json
import re
import sys

import cedarpy


def main(path):
    with open(path, encoding="utf-8") as file:
        compiled = json.load(file)
    results, permitted, forbidden = [], 0, 0
    for number, one in enumerate(compiled):
        policies, schema = one["policies"], one["schema"]
        results.append((f"{number}: valid against its schema", is_valid(policies, schema)))
        results.append((f"{number}: a misspelt fact is noticed", not is_valid(misspelt(policies), schema)))
        for case, found in zip(one["cases"], judged(policies, schema, one["cases"])):
            permitted, forbidden = permitted + (not case["failing"]), forbidden + bool(case["failing"])
            results.append((f"{number}: {case}", found == sorted(case["failing"])))
        good = [case for case in one["cases"] if not case["failing"]]
        for label, bad in [spoilt for case in good[:3] for spoilt in spoilt_contexts(case)]:
            (found,) = judged(policies, schema, [bad])
            results.append((f"{number}: not permitted: {label}", found != []))
        # The permit alone, without the forbids that name clauses, still holds every limit.
        alone = policies[: policies.index('@id("clause/')]
        for case, found in zip(one["cases"], judged(alone, schema, one["cases"])):
            results.append((f"{number}: the permit alone: {case}", (found == []) == (case["failing"] == [])))
    results.append(("corpus: permitted and forbidden", permitted >= 20 and forbidden >= 20))
    return report("cedar", results)


def judged(policies, schema, cases):
    """For each case the ids of the policies that forbid it, sorted; `["none"]` where nothing permits, [] where permitted."""
    ids = re.findall(r'@id\("([^"]+)"\)', policies)
    requests = [
        {
            "principal": f'Researcher::"{case["researcher"]}"',
            "action": 'Action::"run"',
            "resource": f'Dataset::"{case["dataset"]}"',
            "context": case["context"],
        }
        for case in cases
    ]
    answers = cedarpy.is_authorized_batch(requests, policies, [], schema)
    return [forbidding(answer, ids) for answer in answers]


def forbidding(answer, ids):
    reasons, errors = answer.diagnostics.reasons, answer.diagnostics.errors
    if answer.allowed and not errors:
        return []
    # cedarpy numbers policies in the order of the text.
    named = [ids[int(reason.removeprefix("policy"))] for reason in reasons]
    return sorted(name for name in named if name.startswith("clause/")) or ["none"]


def is_valid(policies, schema):
    return cedarpy.validate_policies(policies, schema).validation_passed


def misspelt(policies):
    return policies.replace("context.epsilon_micro", "context.epsilon_macro", 1)


def spoilt_contexts(case):
    for fact, value in case["context"].items():
        without = {name: other for name, other in case["context"].items() if name != fact}
        yield f"without {fact}", {**case, "context": without}
        other = [1] if isinstance(value, (bool, str)) or type(value) is int else "x"
        yield f"{fact} of another type", {**case, "context": {**case["context"], fact: other}}


def report(peer, results):
    """Prints what failed and a closing line; returns the exit code."""
    failed = [label for label, good in results if not good]
    for label in failed[:20]:
        print(f"{peer}: FAILED {label[:400]}")
    print(f"{peer}: {len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
