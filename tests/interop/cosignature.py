"""Checks our ML-DSA-44 cosignatures with two other implementations of FIPS 204: PyPI's `mldsa` (pure Python, by another
author than ours) and OpenSSL's, through PyPI's `cryptography`.

Given a directory that `cargo run -p cohortium-ledger --example write_log` wrote, and the verifier keys that it printed:
key ids are computed as C2SP signed-note says; the signed message (`cosigned_message`) is put together anew from the text
of C2SP tlog-cosignature; every ML-DSA-44 line of the checkpoint and of each proof must verify over it with both. Then
each field of the message, and the signature in many places, is changed, and both must refuse.

The keys of the example come from fixed seeds (its first lines say which): OpenSSL must make the same public keys of them,
and a checkpoint that OpenSSL signs itself is a vector of ours (`ml_dsa_44` in tests/data/vectors/ledger/notes.json).

Usage: cosignature.py DIRECTORY KEY...
"""

import base64
import hashlib
import pathlib
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import mldsa as openssl
from mldsa import VerificationError, VerificationKey

COSIGNATURE, SIGNATURE_BYTES, KEY_BYTES = 0x06, 2420, 1312

# The seeds of the example's ML-DSA-44 keys.
SEEDS = {"first-hospital": bytes([12]) * 32, "second-hospital": bytes([13]) * 32}


def main(directory, keys):
    results = []
    verifiers = dict(read_key(key, results) for key in keys)
    verifiers = {place: key for place, key in verifiers.items() if key is not None}
    results.append(("two ML-DSA-44 keys", len(verifiers) == 2))
    for (name, _), key in verifiers.items():
        made = openssl.MLDSA44PrivateKey.from_seed_bytes(SEEDS[name]).public_key().public_bytes_raw()
        results.append((f"{name}: the public key that OpenSSL makes of the seed", made == key))
    directory = pathlib.Path(directory)
    notes = {"checkpoint": (directory / "log/checkpoint").read_text(encoding="utf-8")}
    for path in sorted(directory.glob("*.tlog-proof")):
        notes[path.name] = path.read_text(encoding="utf-8").split("\n\n", 1)[1]
    results.append(("a checkpoint and proofs", len(notes) > 1))
    for label, note in notes.items():
        check_note(label, note, verifiers, results)
    return report("cosignature", results)


def read_key(vkey, results):
    """The name and id of a vkey, and its key if it is one of ours."""
    name, key_id, encoded = vkey.split("+", 2)
    data = base64.b64decode(encoded, validate=True)
    computed = hashlib.sha256(name.encode() + b"\n" + data).digest()[:4]
    results.append((f"{name}: the id of the key of type {data[0]}", computed.hex() == key_id))
    is_ours = data[0] == COSIGNATURE and len(data) == 1 + KEY_BYTES
    return (name, computed), data[1:] if is_ours else None


def check_note(label, note, verifiers, results):
    text, lines = note.split("\n\n")
    origin, size, root = text.split("\n")
    fields = {"origin": origin, "start": 0, "end": int(size), "root": base64.b64decode(root, validate=True)}
    found = 0
    for line in lines.removesuffix("\n").split("\n"):
        dash, name, encoded = line.split(" ")
        data = base64.b64decode(encoded, validate=True)
        key = verifiers.get((name, data[:4]))
        if key is None:
            continue
        found += 1
        good = dict(fields, cosigner=name, time=struct.unpack(">Q", data[4:12])[0], label=b"subtree/v1\n\0")
        message, signature = cosigned_message(**good), data[12:]
        sized = dash == "\u2014" and len(signature) == SIGNATURE_BYTES and good["time"] > 0
        results.append((f"{label}: {name}: the line has the right size and a time", sized))
        for peer, is_signed in PEERS.items():
            results.append((f"{label}: {name}: verified by {peer}", is_signed(key, message, signature)))
            if label == "checkpoint":
                for defect, other in tampered(key, good, signature, verifiers):
                    results.append((f"{name}, {defect}: refused by {peer}", not is_signed(*other)))
    results.append((f"{label}: a line of each key", found == len(verifiers)))


def cosigned_message(label, cosigner, time, origin, start, end, root):
    """C2SP tlog-cosignature, "ML-DSA-44 signed message"."""
    names = [bytes([len(name.encode())]) + name.encode() for name in (cosigner, origin)]
    return label + names[0] + struct.pack(">Q", time) + names[1] + struct.pack(">QQ", start, end) + root


def tampered(key, good, signature, verifiers):
    """What a verifier is given, each time with one defect."""
    edits = {
        "label": b"subtree/v2\n\0",
        "cosigner": good["cosigner"] + "x",
        "time": good["time"] + 1,
        "origin": good["origin"] + "x",
        "start": 1,
        "end": good["end"] + 1,
        "root": bytes(32),
    }
    for field, value in edits.items():
        yield f"another {field}", (key, cosigned_message(**dict(good, **{field: value})), signature)
    message = cosigned_message(**good)
    for where in (0, 31, 32, 1000, 2335, 2336, 2400, 2419):
        changed = bytearray(signature)
        changed[where] ^= 1
        yield f"byte {where} of the signature", (key, message, bytes(changed))
    yield "a byte too few", (key, message, signature[:-1])
    yield "a byte too many", (key, message, signature + b"\0")
    yield "the other witness's key", (next(k for k in verifiers.values() if k != key), message, signature)


def is_signed_by_mldsa(key, message, signature):
    try:
        VerificationKey(key).verify(signature, message)
        return True
    except (VerificationError, ValueError):
        return False


def is_signed_by_openssl(key, message, signature):
    try:
        openssl.MLDSA44PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


PEERS = {"mldsa": is_signed_by_mldsa, "OpenSSL": is_signed_by_openssl}


def report(peer, results):
    """Prints what failed and a closing line; returns the exit code."""
    failed = [label for label, good in results if not good]
    for label in failed:
        print(f"{peer}: FAILED {label}")
    print(f"{peer}: {len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
