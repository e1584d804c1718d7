"""Checks the statements in a crate that our code just wrote: PyPI's `securesystemslib` verifies their DSSE envelopes and
`in-toto-attestation` parses what is signed. So a reader who trusts the attester's key needs nothing of ours.

What the predicate (Simple Verification Result 0.2) demands is written down here from its text: the package has no class
for it. Each digest must be that of a file in the crate. The documents and entries that nodes, hub and researcher signed
are verified as well, with the keys that the agreement states.

Everything is also tampered with, and must then be refused.

Usage: attestations.py BAG
"""

import base64
import copy
import hashlib
import json
import pathlib
import sys

from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement

from dsse import is_signed_by, report, tampered

PREDICATE = "https://in-toto.io/attestation/svr/v0.2"
PAYLOAD = "application/vnd.in-toto+json"


def main(directory):
    crate = pathlib.Path(directory) / "data"
    key = base64.b64decode((crate / "attestations/public-key.txt").read_text().strip(), validate=True)
    results, statements = [], sorted((crate / "attestations").glob("*.json"))
    results.append(("corpus: permits and a release", len(statements) >= 4))
    for path in statements:
        envelope = json.loads(path.read_text(encoding="utf-8"))
        payload = base64.b64decode(envelope["payload"], validate=True)
        results.append((f"{path.stem}: signature", is_signed_by(envelope, key)))
        results.append((f"{path.stem}: type", envelope["payloadType"] == PAYLOAD))
        for defect, other_envelope, other_key in tampered(envelope, key):
            results.append((f"{path.stem}, tampered: {defect}", not is_signed_by(other_envelope, other_key)))
        results.append((f"{path.stem}: statement", is_statement(json.loads(payload), crate)))
        for defect, other in misstated(json.loads(payload)):
            results.append((f"{path.stem}, tampered: {defect}", not is_statement(other, crate)))
    results += signed_by_others(crate)
    return report("attestations", results)


def is_statement(document, crate):
    """Whether it is an in-toto Statement with a Simple Verification Result about files of the crate."""
    try:
        parsed = json_format.ParseDict(document, statement_pb2.Statement())
        Statement.copy_from_pb(parsed).validate()
        predicate = json_format.MessageToDict(parsed.predicate)
        verifier = predicate["verifier"]
        resources = document["subject"] + verifier["policies"]
        return (
            parsed.predicate_type == PREDICATE
            and isinstance(verifier["policies"], list)
            and verifier["id"].startswith("ni:///sha-256;")
            and predicate["timeCreated"].endswith("Z")
            and len(predicate["properties"]) > 0
            and all(sha256(crate / resource["name"]) == resource["digest"]["sha256"] for resource in resources)
        )
    except (json_format.ParseError, ValueError, KeyError, TypeError, AttributeError, OSError):
        return False


def misstated(document):
    """Copies of a good statement, each with one defect."""

    def edited(edit):
        other = copy.deepcopy(document)
        edit(other)
        return other

    yield "another type", edited(lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"))
    yield "another predicate", edited(lambda d: d.update(predicateType="https://slsa.dev/provenance/v1"))
    yield "no subject", edited(lambda d: d.update(subject=[]))
    yield "a subject without digest", edited(lambda d: d["subject"][0].pop("digest"))
    yield "another digest", edited(lambda d: d["subject"][0]["digest"].update(sha256="0" * 64))
    yield "no policies", edited(lambda d: d["predicate"]["verifier"].pop("policies"))
    yield "no properties", edited(lambda d: d["predicate"].pop("properties"))
    yield "an unknown field", edited(lambda d: d.update(more=1))


def signed_by_others(crate):
    """Agreement, task, release, receipts and entries under the keys that the agreement states."""
    envelope = read(crate / "agreement.json")
    agreement = payload(envelope)
    parties = {party["entry"]["organisation"]: party["entry"] for party in agreement["parties"]}
    researchers = {terms["entry"]["researcher"]: terms["entry"]["key"] for terms in agreement["researchers"]}
    expected = [("agreement.json", entry["agreement_key"]) for entry in parties.values()]
    expected.append(("task.json", researchers[payload(read(crate / "task.json"))["researcher"]]))
    expected.append(("release.json", agreement["hub"]["message_key"]))
    for path in sorted((crate / "receipts").glob("*.json")):
        expected.append((f"receipts/{path.name}", parties[payload(read(path))["organisation"]]["message_key"]))
    for path in sorted((crate / "log/entries").glob("*.json")):
        ((role, name),) = payload(read(path))["author"].items()
        keys = {
            "custodian": lambda: parties[name]["agreement_key"],
            "hub": lambda: agreement["hub"]["message_key"],
            "node": lambda: parties[name]["message_key"],
            "researcher": lambda: researchers[name],
        }
        expected.append((f"log/entries/{path.name}", keys[role]()))
    results = [("signed files", len(expected) >= 15)]
    for name, key in expected:
        document, key = read(crate / name), base64.b64decode(key, validate=True)
        results.append((f"{name}: signature", is_signed_by(document, key)))
        for defect, other, other_key in tampered(document, key):
            results.append((f"{name}, tampered: {defect}", not is_signed_by(other, other_key)))
    return results


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def payload(envelope):
    return json.loads(base64.b64decode(envelope["payload"], validate=True))


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
