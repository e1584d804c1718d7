"""Checks our signed envelopes with someone else's implementation of DSSE: PyPI's `securesystemslib`.

A vector is `{"publicKey", "envelope", "valid"}`: a raw Ed25519 key in base64, a DSSE envelope, and whether the envelope
carries a signature by that key. Bad vectors are files named after their defect. `valid` speaks of signatures alone:
whether the payload is a canonical document of the right type is for other tests.

Every good vector is also tampered with, in every part that is signed or signs, and must then be refused.

Usage: dsse.py DIRECTORY
"""

import base64
import copy
import hashlib
import json
import pathlib
import sys

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error
from securesystemslib.signer import SSlibKey

# Under which name our key ids are hashed; see `docs/spec` for the form.
KEY_ID_DOMAIN = b"cohortium/key-id/v1"


def main(directory):
    results, good, bad = [], 0, 0
    for path in sorted(pathlib.Path(directory).glob("*.json")):
        vector = json.loads(path.read_text(encoding="utf-8"))
        key, envelope, valid = base64.b64decode(vector["publicKey"], validate=True), vector["envelope"], vector["valid"]
        results.append((path.stem, is_signed_by(envelope, key) is valid))
        if valid:
            good += 1
            for defect, other_envelope, other_key in tampered(envelope, key):
                results.append((f"{path.stem}, tampered: {defect}", not is_signed_by(other_envelope, other_key)))
        else:
            bad += 1
    results.append(("corpus: good and bad vectors", good > 0 and bad > 0))
    return report("dsse", results)


def is_signed_by(envelope, key):
    """Whether securesystemslib finds a signature by the raw Ed25519 key."""
    try:
        signer = SSlibKey(key_id(key), "ed25519", "ed25519", {"public": key.hex()})
        Envelope.from_dict(copy.deepcopy(envelope)).verify([signer], 1)
        return True
    except (Error, ValueError, KeyError, TypeError):  # no signature by it, or no envelope at all
        return False


def key_id(key):
    """Our name for a key: 16 hexadecimal digits of SHA-256 over length-prefixed parts."""
    parts = b"".join(len(part).to_bytes(8, "big") + part for part in (KEY_ID_DOMAIN, key))
    return hashlib.sha256(parts).hexdigest()[:16]


def tampered(envelope, key):
    """Copies of a good envelope (or its key), each with one defect."""

    def edited(edit):
        other = copy.deepcopy(envelope)
        edit(other)
        return other

    for where in (0, len(base64.b64decode(envelope["payload"])) - 1):
        yield f"payload byte {where}", edited(lambda e, w=where: e.update(payload=flipped(e["payload"], w))), key
    yield "payload type", edited(lambda e: e.update(payloadType=e["payloadType"] + "x")), key
    yield "no signatures", edited(lambda e: e.update(signatures=[])), key
    for where in (0, 31, 32, 62):
        broken = edited(lambda e, w=where: [s.update(sig=flipped(s["sig"], w)) for s in e["signatures"]])
        yield f"signature byte {where}", broken, key
    yield "short signature", edited(lambda e: [s.update(sig=s["sig"][:40]) for s in e["signatures"]]), key
    yield "another key", envelope, bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def flipped(text, where):
    """The base64 text with the lowest bit of one byte turned."""
    data = bytearray(base64.b64decode(text))
    data[where] ^= 1
    return base64.b64encode(bytes(data)).decode()


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
