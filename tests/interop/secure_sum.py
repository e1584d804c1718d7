"""Computes the secure sum's vectors again from its specification, with someone else's cryptography: PyPI's `cryptography`.

Nothing here was translated from our code: it follows `docs/spec/secure-sum.md`. X25519, ML-KEM-768, HKDF,
ChaCha20-Poly1305, AES-256 in counter mode and ChaCha20 are OpenSSL's, by way of `cryptography`; Shamir sharing, framing
and canonical JSON are written out below. From keys, randomness, inputs and noise of a good vector every message and the
sum must come out byte for byte.

Good vectors are `v3-*.json`. A `bad-*.json` is one message of the last good vector with one defect: what this script
computes must be another message. Every good vector is tampered with as well, and must then no longer agree.
`noise-division.json` has how noise is divided for larger rounds than those.

Usage: secure_sum.py DIRECTORY
"""

import base64
import copy
import hashlib
import json
import pathlib
import sys

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

PREFIX = "cohortium/secure-sum/v3/"
BAD_VECTORS_ARE_OF = "v3-n4-drop-out-z128"


# ---------------------------------------------------------------- terms of the specification


def frame(*parts):
    return b"".join(len(part).to_bytes(8, "big") + part for part in map(as_bytes, parts))


def as_bytes(part):
    return part.encode("ascii") if isinstance(part, str) else part


def framed_hash(label, *parts):
    return hashlib.sha256(frame(PREFIX + label, *parts)).digest()


def derive(key, label, *parts):
    return HKDFExpand(hashes.SHA256(), 32, frame(PREFIX + label, *parts)).derive(key)


def extract(label, secret, *parts):
    salt = as_bytes(PREFIX + label)
    return HKDF(hashes.SHA256(), 32, salt, frame(PREFIX + label, *parts)).derive(secret)


def seal(key, label, parts, plain):
    sealed = ChaCha20Poly1305(key).encrypt(bytes(12), plain, frame(PREFIX + label, *parts))
    return base64.b64encode(sealed).decode()


def keystream(key, length):
    """AES-256 in counter mode; the first counter block is all zero."""
    return Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def canonical(value):
    """RFC 8785 for what stands in these vectors: ASCII texts, integers, lists and objects."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


class Randomness:
    """An organisation's generator: the keystream of ChaCha20 under its seed, read without gaps."""

    def __init__(self, seed):
        # `cryptography` takes the counter, four bytes, and the nonce, twelve, in one: all zero.
        generator = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
        self.stream, self.at = generator.update(bytes(1 << 16)), 0

    def draw(self):
        self.at += 32
        return self.stream[self.at - 32 : self.at]


# ---------------------------------------------------------------- Shamir over GF(2^8)


def multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11B
        b >>= 1
    return product


def power(a, exponent):
    result = 1
    for _ in range(exponent):
        result = multiply(result, a)
    return result


def share(secret, coefficients, point):
    """The share at a point: the secret plus the coefficients times rising powers, byte by byte."""
    value = bytes(secret)
    for degree, coefficient in enumerate(coefficients, start=1):
        factor = power(point, degree)
        value = bytes(v ^ multiply(c, factor) for v, c in zip(value, coefficient))
    return value


# ---------------------------------------------------------------- how noise is divided


def components(sigma2, n, t, c):
    """The variance of every component of a member's noise."""
    v = {u: -(-sigma2 // (u - c)) for u in range(t, n + 1)}
    if n - t <= 8:
        return [v[n]] + [v[u] - v[u + 1] for u in range(n - 1, t - 1, -1)]
    rest = v[t] - v[n]
    pieces = min(8, rest.bit_length())
    if pieces == 0:
        return [v[n]]
    unit = -(-rest // (2**pieces - 1))
    doubled = [unit * 2**k for k in range(pieces - 1)]
    return [v[n], *doubled, rest - sum(doubled)]


def kept(sigma2, n, t, c, u):
    """The components that stay when u survive."""
    if n - t <= 8:
        return list(range(n - u + 1))
    _, *pieces = components(sigma2, n, t, c)
    if not pieces:
        return [0]
    *doubled, last = pieces
    wanted = -(-sigma2 // (u - c)) - -(-sigma2 // (n - c))
    with_last = wanted > sum(doubled)
    units = -(-max(wanted - last * with_last, 0) // (doubled or [last])[0])
    return [0] + [k for k in range(1, len(pieces)) if units >> (k - 1) & 1] + [len(pieces)] * with_last


# ---------------------------------------------------------------- a round, from keys, randomness, inputs and noise


class Member:
    def __init__(self, organisation):
        self.name = organisation["name"]
        self.input = organisation["input"]
        secret = base64.b64decode(organisation["kem_secret_key"], validate=True)
        self.x25519 = X25519PrivateKey.from_private_bytes(secret[:32])
        self.ml_kem = MLKEM768PrivateKey.from_seed_bytes(secret[32:])
        self.randomness = Randomness(bytes.fromhex(organisation["randomness_seed"]))

    def public_keys(self):
        return self.x25519.public_key().public_bytes_raw(), self.ml_kem.public_key().public_bytes_raw()


def pair_roots(vector, members):
    """The pair root of every pair, from the recorded ciphertexts; `None` where ML-KEM gives another key than recorded."""
    roots = {}
    for exchange in vector["exchange"]:
        message = exchange["message"]
        low, high = members[message["from"]], members[message["to"]]
        low.randomness.draw()  # went into the encapsulation
        ciphertext = base64.b64decode(message["ciphertext"], validate=True)
        post_quantum = high.ml_kem.decapsulate(ciphertext)
        if post_quantum.hex() != exchange["ml_kem_shared_key"]:
            return None
        classical = low.x25519.exchange(X25519PublicKey.from_public_bytes(high.public_keys()[0]))
        parts = (bytes.fromhex(message["agreement"]), low.name, high.name, *low.public_keys(), *high.public_keys(), ciphertext)
        roots[low.name, high.name] = extract("pairwise", classical + post_quantum, *parts)
    return roots


def compute(vector):
    """Everything that a vector records, computed; `None` when its parts do not fit one another."""
    context = vector["context"]
    if context["mode"] != "dp":
        return None  # nothing may be masked in another mode
    names, n, t = context["participants"], len(context["participants"]), context["threshold"]
    noise_plan = context["sigma2"], n, t, context["colluders"]
    variances = components(*noise_plan)
    width, modulus = context["ring_bits"] // 8, 1 << context["ring_bits"]
    members = {organisation["name"]: Member(organisation) for organisation in vector["organisations"]}
    roots = pair_roots(vector, members)
    if roots is None or sorted(members) != names:
        return None
    h = hashlib.sha256(frame("cohortium/round-context/v3", canonical(context))).digest()

    # Round secrets: from the root one step for each position, and then the key of this one.
    secrets = {}
    for pair, chain in roots.items():
        for _ in range(context["position"]):
            chain = derive(chain, "chain-step")
        secrets[pair] = derive(chain, "round-key")

    def mask_key(i, j):
        low, high = min(i, j), max(i, j)
        return derive(secrets[low, high], "mask-key", h, low, high)

    def seal_key(i, j):
        return derive(secrets[min(i, j), max(i, j)], "seal-key", h, i, j)

    # 1. Deal
    messages, own = [], {}
    for name in names:
        draw, others = members[name].randomness.draw, [other for other in names if other != name]
        b, r = draw(), draw()
        seeds = [draw() for _ in variances]
        of_b, of_r = [draw() for _ in range(t - 1)], [draw() for _ in range(t - 1)]
        halves = {other: (share(b, of_b, k), share(r, of_r, k)) for k, other in enumerate(names, start=1)}
        own[name] = {"b": b, "seeds": seeds, "halves": halves}
        messages.append({
            "context": h.hex(),
            "deposit": seal(r, "deposit", (h, name), b"".join(mask_key(name, other) for other in others)),
            "deposit_key_commitment": framed_hash("deposit-key-commitment", h, name, r).hex(),
            "excess_commitments": [
                framed_hash("excess-commitment", h, name, k.to_bytes(4, "big"), seed).hex()
                for k, seed in enumerate(seeds) if k > 0
            ],
            "from": name,
            "mask_key_commitments": [
                framed_hash("mask-key-commitment", h, min(name, o), max(name, o), mask_key(name, o)).hex() for o in others
            ],
            "self_mask_commitment": framed_hash("self-mask-commitment", h, name, b).hex(),
            "shares": [
                {"ciphertext": seal(seal_key(name, o), "shares", (h, name, o), b"".join(halves[o])), "from": name, "to": o}
                for o in others
            ],
        })

    # 3. Mask. Who did so is what the total says.
    survivors = vector["total"]["survivors"]
    noise = dict(zip(names, vector["noise_components"]))
    for name in survivors:
        columns = zip(members[name].input, *noise[name])
        vector_sum = [sum(column) for column in columns]
        streams = [(derive(own[name]["b"], "self-mask-key", h, name), 1)]
        streams += [(mask_key(name, other), 1 if name < other else -1) for other in names if other != name]
        for key, sign in streams:
            stream = keystream(key, width * len(vector_sum))
            words = [int.from_bytes(stream[at : at + width], "little") for at in range(0, len(stream), width)]
            vector_sum = [value + sign * word for value, word in zip(vector_sum, words)]
        masked = b"".join((value % modulus).to_bytes(width, "little") for value in vector_sum)
        header = {"bytes": len(masked), "context": h.hex(), "from": name, "sha256": hashlib.sha256(masked).hexdigest()}
        messages.append({"bytes": masked.hex(), "header": header})

    # 4. Survivors, 5. Reveal
    messages += [{"context": h.hex(), "from": name, "survivors": survivors} for name in survivors]
    staying = kept(*noise_plan, len(survivors))
    for name in survivors:
        messages.append({
            "context": h.hex(),
            "deposit_key_shares": [
                {"of": of, "share": own[of]["halves"][name][1].hex()} for of in names if of not in survivors
            ],
            "excess_seeds": [
                {"component": k, "seed": own[name]["seeds"][k].hex()} for k in range(len(variances)) if k not in staying
            ],
            "from": name,
            "self_mask_shares": [{"of": of, "share": own[of]["halves"][name][0].hex()} for of in survivors],
        })

    # 6. Sum: inputs of the survivors and the noise that is kept. All of them revealed.
    cells = [
        sum(members[name].input[cell] + sum(noise[name][k][cell] for k in staying) for name in survivors)
        for cell in range(context["elements"])
    ]
    each = sum(variances[k] for k in staying)
    total = {"cells": cells, "noise_variance": each * len(survivors), "survivors": survivors}
    chains = [(b"\x01" + bytes(8) + roots[e["message"]["from"], e["message"]["to"]]).hex() for e in vector["exchange"]]
    return {"chains": chains, "context_hash": h.hex(), "messages": messages, "total": total}


def agrees(vector):
    """Whether a vector is what the specification gives."""
    try:
        computed = compute(vector)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError):
        return False
    recorded = {key: vector[key] for key in ("context_hash", "messages", "total")}
    recorded["chains"] = [exchange["chain"] for exchange in vector["exchange"]]
    return computed == recorded


# ---------------------------------------------------------------- good, bad and tampered


def main(directory):
    paths = sorted(pathlib.Path(directory).glob("*.json"))
    vectors = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    good = {stem: vector for stem, vector in vectors.items() if stem.startswith("v3-")}
    bad = {stem: vector for stem, vector in vectors.items() if stem.startswith("bad-")}
    results = [("corpus: good and bad vectors", len(good) >= 3 and len(bad) >= 10 and BAD_VECTORS_ARE_OF in good)]
    results += [(stem, agrees(vector)) for stem, vector in good.items()]
    widths = {vector["context"]["ring_bits"] for vector in good.values()}
    results.append(("corpus: every ring", widths == {32, 64, 128}))
    for stem, vector in good.items():
        for defect, other in tampered(vector):
            results.append((f"{stem}, tampered: {defect}", not agrees(other)))
    if BAD_VECTORS_ARE_OF in good:
        # The first message of each step: dealt, masked, signed, revealed.
        n = len(good[BAD_VECTORS_ARE_OF]["context"]["participants"])
        u = len(good[BAD_VECTORS_ARE_OF]["total"]["survivors"])
        first = [0, n, n + u, n + 2 * u]
        for stem, vector in bad.items():
            other = copy.deepcopy(good[BAD_VECTORS_ARE_OF])
            results.append((f"{stem}, in its place", other["messages"][first[vector["step"]]].keys() == vector["message"].keys()))
            other["messages"][first[vector["step"]]] = vector["message"]
            results.append((stem, not agrees(other)))
    results += [(f"noise division {case['plan']}", divides(case)) for case in vectors["noise-division"]["cases"]]
    return report("secure-sum", results)


def divides(case):
    """Whether noise is divided as recorded, and twice as much is not."""
    sigma2, n, t, c = (case["plan"][key] for key in ("sigma2", "n", "t", "c"))
    recorded = case["components"], case["kept"]
    found = [(components(s, n, t, c), [kept(s, n, t, c, u) for u in range(t, n + 1)]) for s in (sigma2, 2 * sigma2)]
    return found[0] == recorded and found[1] != recorded


def tampered(vector):
    """Copies of a good vector, each with one defect: every text and number outside the prose is changed once."""
    survivors = vector["total"]["survivors"]
    absent = [place for place, name in enumerate(vector["context"]["participants"]) if name not in survivors]
    for path, value in leaves(vector):
        # Prose, and the input and noise of who dropped out, which are nowhere in the round.
        is_own = path[0] == "noise_components" or (path[0] == "organisations" and path[2] == "input")
        if path[0] == "about" or (is_own and path[1] in absent):
            continue
        other = copy.deepcopy(vector)
        parent = other
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = changed(value)
        yield "/".join(map(str, path)), other


def leaves(value, path=()):
    if isinstance(value, (dict, list)):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, (*path, key))
    else:
        yield path, value


def changed(value):
    if isinstance(value, int):
        return value + 1
    middle = len(value) // 2
    return value[:middle] + ("1" if value[middle] == "0" else "0") + value[middle + 1 :]


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
