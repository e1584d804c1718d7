"""Checks our canonical JSON vectors with someone else's implementation of RFC 8785: PyPI's `rfc8785`.

The same files are checked by our own code in `crates/messages`, so that the two implementations agree case by case.
A vector is `{"name", "input", "canonical"}`: two JSON texts. `refused.json` holds `{"name", "input"}`: texts that have
no canonical form, named after what is wrong with them.

Every vector is also tampered with, which must be noticed: a check that accepts anything would be none.

Usage: canonical_json.py DIRECTORY
"""

import json
import pathlib
import sys

import rfc8785

# Fewer means that the corpus was not found or has been thinned out.
FEWEST_ACCEPTED = 30
FEWEST_REFUSED = 10


def main(directory):
    accepted, refused = [], []
    for path in sorted(pathlib.Path(directory).glob("*.json")):
        for case in json.loads(path.read_text(encoding="utf-8")):
            (accepted if "canonical" in case else refused).append((path.stem, case))
    results = [("corpus: enough vectors", len(accepted) >= FEWEST_ACCEPTED and len(refused) >= FEWEST_REFUSED)]
    for file, case in accepted:
        results.append((f"{file}: {case['name']}", canonicalises_to(case["input"], case["canonical"])))
        # A canonical text is its own canonical form, and no other text is.
        again = canonicalises_to(case["canonical"], case["canonical"], parse_int=float)
        strict = not any(canonicalises_to(case["input"], text) for text in tampered(case))
        results.append((f"{file}: {case['name']}, again and tampered", again and strict))
    for file, case in refused:
        results.append((f"{file}: {case['name']}", canonical(case["input"]) is None))
    return report("rfc8785", results)


def canonical(text, parse_int=int):
    """The canonical bytes of a JSON text, or None when it is refused.

    An integer that a double cannot tell from its neighbours is refused. A canonical text may hold such digits, because
    1e20 is written with 21 of them: to read one again, `parse_int=float` takes every number for a double.
    """
    try:
        return rfc8785.dumps(json.loads(text, parse_int=parse_int))
    except ValueError:  # of the parser, of UTF-8, and of rfc8785: all are this kind
        return None


def canonicalises_to(text, expected, parse_int=int):
    return canonical(text, parse_int) == expected.encode("utf-8")


def tampered(case):
    """Texts that are not the canonical one, though some mean the same."""
    expected = case["canonical"]
    yield expected + "\n"
    yield " " + expected
    yield expected[:-1]
    yield expected[:-2] + "?" + expected[-1:]
    if case["input"] != expected:
        yield case["input"]


def report(peer, results):
    """Prints what failed and a closing line; returns the exit code."""
    failed = [label for label, good in results if not good]
    for label in failed:
        print(f"{peer}: FAILED {label}")
    print(f"{peer}: {len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
