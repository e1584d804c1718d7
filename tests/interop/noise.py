"""Computes our noise vectors again, from docs/spec/noise.md and whole numbers alone: a second implementation.

Nothing is shared with `crates/dp`: the keystream of RFC 8439 is written out here, thresholds are whole numbers of 320
binary digits from a series with 700, and every comparison is made with all the digits a draw is entitled to. A vector is
`{"seed", "variance", "noise"}`; a stream is `{"name", "variance", "words", "noise", "read"}`, one draw from given words.

Every vector is also tampered with, which must be noticed: a check that accepts anything would be none.

Usage: noise.py FILE
"""

import functools
import json
import pathlib
import struct
import sys
from fractions import Fraction

# Fewer means that the file was not found or has been thinned out.
FEWEST_SEEDED = 30
FEWEST_STREAMS = 60

DIGITS, WORDS = 320, 5
# Digits of intermediate numbers.
WORK = 700
ONE = 1 << WORK


def main(path):
    vectors = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    seeded, streams = vectors["seeded"], vectors["streams"]
    enough = len(seeded) >= FEWEST_SEEDED and len(streams) >= FEWEST_STREAMS
    results = [("corpus: enough vectors", enough), ("keystream of RFC 8439", keystream_is_that_of_the_rfc())]
    for case in seeded:
        label = f"seed {case['seed'][:8]}, variance {case['variance']}"
        results.append((label, holds_seeded(case)))
        results.append((f"{label}, tampered", not any(holds_seeded(bad) for bad in tampered(case))))
    for case in streams:
        results.append((f"stream {case['name']}", holds_stream(case)))
        bad = [{**case, "noise": case["noise"] + 1}, {**case, "read": case["read"] + 1}]
        results.append((f"stream {case['name']}, tampered", not any(map(holds_stream, bad))))
    return report("noise", results)


def holds_seeded(case):
    word = keystream(bytes.fromhex(case["seed"])).__next__
    return [draw(Fraction(case["variance"]), word) for _ in case["noise"]] == case["noise"]


def holds_stream(case):
    left = [int(word, 16) for word in reversed(case["words"])]
    noise = draw(Fraction(case["variance"]), left.pop)
    return noise == case["noise"] and len(case["words"]) - len(left) == case["read"]


def tampered(case):
    """Vectors that are wrong, unless the variance is so small that every draw is zero."""
    first, *others = case["noise"]
    yield {**case, "noise": [first + 1, *others]}
    yield {**case, "noise": [*others[::-1], first - 1]}
    if any(case["noise"]):
        yield {**case, "seed": case["seed"][:-1] + ("0" if case["seed"][-1] != "0" else "1")}
        yield {**case, "variance": str(Fraction(case["variance"]) * 3)}


# ---------------------------------------------------------------- the specification


def draw(variance, word):
    """One discrete Gaussian, by sections 3 to 5."""
    k = 1
    while variance > 256 * k * k:
        k *= 2
    if k == 1:
        index = invert(thresholds(variance, True), word)
        return (index + 1) // 2 if index % 2 else -(index // 2)
    base = thresholds(variance / (k * k), False)
    while True:
        x = invert(base, word)
        second = word()
        y, negative = second % k, second >> 63 == 1
        keep = exp_neg(Fraction(y * (y + 2 * k * x)) / (2 * variance)) >> (WORK - DIGITS)
        if not is_below(keep, word):
            continue
        z = k * x + y
        if negative and z == 0:
            continue
        return -z if negative else z


def is_below(threshold, word):
    """Whether a uniform number of 320 digits is below this one, reading no further word than is needed."""
    for read in range(1, WORDS + 1):
        drawn, due = word(), threshold >> (DIGITS - 64 * read)
        if due >> (64 * read):
            return True  # the threshold is one
        due %= 1 << 64
        if drawn != due:
            return drawn < due
    return False


def invert(found, word):
    """The first threshold above a uniform number of 320 digits."""
    u, read = word(), 1
    while read < WORDS and any(threshold >> (DIGITS - 64 * read) == u for threshold in found):
        u, read = u << 64 | word(), read + 1
    u <<= DIGITS - 64 * read
    return next((j for j, threshold in enumerate(found) if u < threshold), len(found) - 1)


@functools.cache
def thresholds(variance, both_signs):
    """The numbers T_0 to T_J of section 3."""
    weights, x = [], 0
    while not weights or weights[-1]:
        weight = exp_neg(Fraction(x * x) / (2 * variance))
        weights += [weight] * (2 if both_signs and x else 1)
        x += 1
    total, sum_, found = sum(weights), 0, []
    for weight in weights:
        sum_ += weight
        if (total - sum_) << DIGITS < total:
            return found + [(1 << DIGITS) - 1]
        found.append((sum_ << DIGITS) // total)
    raise AssertionError("the weights do not end")


@functools.cache
def exp_neg(x):
    """e^-x for x >= 0 in units of 2^-WORK: one over the series of e^(x/2^h), which is squared h times first."""
    if x > WORK:
        return 0
    halvings = 16
    term = total = ONE
    n = 0
    while term:
        n += 1
        term = term * x.numerator // (x.denominator * n << halvings)
        total += term
    for _ in range(halvings):
        total = total * total >> WORK
    return ONE * ONE // total


def keystream(seed):
    """Little-endian 64-bit words of ChaCha20 (RFC 8439) with a 64-bit counter and a nonce of zeros."""
    counter = 0
    while True:
        block = chacha20_block(struct.unpack("<8I", seed), (counter % (1 << 32), counter >> 32, 0, 0))
        yield from struct.unpack("<8Q", block)
        counter += 1


def chacha20_block(key, rest):
    start = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *key, *rest)
    state = list(start)

    def quarter(a, b, c, d):
        for into, source, turned, by in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            state[into] = (state[into] + state[source]) % (1 << 32)
            mixed = state[turned] ^ state[into]
            state[turned] = (mixed << by | mixed >> (32 - by)) % (1 << 32)

    for _ in range(10):
        for i in range(4):
            quarter(i, 4 + i, 8 + i, 12 + i)
        for i in range(4):
            quarter(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    return struct.pack("<16I", *((a + b) % (1 << 32) for a, b in zip(state, start)))


def keystream_is_that_of_the_rfc():
    """RFC 8439, section 2.3.2."""
    key = struct.unpack("<8I", bytes(range(32)))
    block = chacha20_block(key, (1, 0x09000000, 0x4A000000, 0))
    return block.hex().startswith("10f1e7e4d13b5915500fdd1fa32071c4") and block.hex().endswith("a2503c4e")


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
