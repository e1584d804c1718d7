"""Checks a crate that our code just wrote with other people's tools: PyPI's `bagit` (Library of Congress) for the bag and
`roc-validator` (CRS4) for RO-Crate 1.1, Process Run Crate and, for the plan, Workflow RO-Crate.

`roc-validator` has no Five Safes profile in this version: what that profile (0.4) says MUST be is written down here from
its text, all but one point. It demands RO-Crate 1.2 metadata, the Process Run Crate stands on 1.1, and so do we.

No network is needed: the validator runs offline, and its cache is seeded with a JSON-LD context that is written below
and holds exactly the terms that our crates use (schema.org's, as RO-Crate 1.1 has them). A term that is not in it is
refused, so that none can be misspelt.

The crate is also tampered with, and must then be refused.

Usage: evidence_crate.py BAG
"""

import io
import json
import logging
import pathlib
import shutil
import sys
import tempfile

import bagit
import requests
import requests_cache
from rocrate_validator import services
from urllib3.response import HTTPResponse

CONTEXT_URL = "https://w3id.org/ro/crate/1.1/context"
SCHEMA_ORG = (
    "about actionStatus additionalType agent author contentSize datePublished description encodingFormat endTime hasPart "
    "identifier instrument isBasedOn license mainEntity member memberOf mentions name object programmingLanguage result "
    "softwareVersion sourceOrganization startTime value version "
    "AssessAction ComputerLanguage CreateAction CreativeWork Dataset Organization Person Project PropertyValue "
    "SoftwareApplication SoftwareSourceCode"
).split()
OTHERS = {
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
}
CONTEXT = {term: f"http://schema.org/{term}" for term in SCHEMA_ORG} | OTHERS
FIVE_SAFES = "https://w3id.org/5s-crate/0.4"


def main(directory):
    logging.disable(logging.CRITICAL)
    bag = pathlib.Path(directory)
    with tempfile.TemporaryDirectory() as scratch:
        cache = pathlib.Path(scratch) / "http"
        seed(cache)
        results = [("bag", is_bag(bag)), ("five safes", not five_safes(bag / "data"))]
        for part, profile in [("", "ro-crate-1.1"), ("", "process-run-crate"), ("workflow", "workflow-ro-crate")]:
            results.append((profile, is_valid(bag / "data" / part, profile, cache)))
        for defect, edit, judges in defects():
            copy = pathlib.Path(scratch) / "copy"
            shutil.copytree(bag, copy)
            edit(copy)
            verdicts = {
                "bag": lambda: is_bag(copy),
                "crate": lambda: is_valid(copy / "data", "ro-crate-1.1", cache),
                "run": lambda: is_valid(copy / "data", "process-run-crate", cache),
                "five safes": lambda: not five_safes(copy / "data"),
            }
            for judge in judges:
                results.append((f"tampered: {defect}, judged as {judge}", not verdicts[judge]()))
            shutil.rmtree(copy)
    return report("evidence-crate", results)


def seed(cache):
    """Puts our context where the validator looks before it would ask the network."""
    session = requests_cache.CachedSession(str(cache), backend="sqlite", allowable_methods=("GET",))
    body = json.dumps({"@context": CONTEXT}).encode()
    headers = {"Content-Type": "application/ld+json"}
    response = requests.Response()
    response.status_code, response.url, response._content = 200, CONTEXT_URL, body
    response.headers.update(headers)
    response.raw = HTTPResponse(body=io.BytesIO(body), status=200, headers=headers, preload_content=False)
    response.request = requests.Request("GET", CONTEXT_URL).prepare()
    session.cache.save_response(response)
    session.close()


def is_bag(path):
    try:
        return bagit.Bag(str(path)).is_valid()
    except bagit.BagError:
        return False


def is_valid(path, profile, cache):
    """Whether the validator finds nothing that a MUST forbids, and whether every term is one that we meant."""
    try:
        settings = services.ValidationSettings(
            rocrate_uri=str(path), profile_identifier=profile, offline=True, cache_path=str(cache)
        )
        return services.validate(settings).passed() and not unknown_terms(path / "ro-crate-metadata.json")
    except Exception:  # whatever stops the validator is no approval
        return False


def unknown_terms(path):
    graph = json.loads(path.read_text(encoding="utf-8"))["@graph"]
    used = {key for entity in graph for key in entity if not key.startswith("@")}
    used |= {kind for entity in graph for kind in as_list(entity["@type"])}
    return used - CONTEXT.keys()


def five_safes(crate):
    """What the Five Safes profile demands and the crate does not keep, in words."""
    missing = []

    def must(words, holds):
        if not holds:
            missing.append(words)

    try:
        document = json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))
        graph = {entity["@id"]: entity for entity in document["@graph"]}
        root = graph["./"]
        must("the profile is named", FIVE_SAFES in ids(root["conformsTo"]))
        workflow = graph[root["mainEntity"]["@id"]]
        must("the main entity is a data set", "Dataset" in as_list(workflow["@type"]))
        must("it is a Workflow RO-Crate", any("workflow-ro-crate" in name for name in ids(workflow["conformsTo"])))
        must("it is there", (crate / workflow["@id"] / "ro-crate-metadata.json").is_file())
        must("the project is named", graph[root["sourceOrganization"]["@id"]]["@type"] == "Project")
        mentioned = ids(root["mentions"])
        runs = [graph[name] for name in mentioned if graph[name]["@type"] == "CreateAction"]
        must("one run is mentioned", len(runs) == 1)
        (run,) = runs
        must("the run's instrument is the workflow", ids(run["instrument"]) == [workflow["@id"]])
        must("a person asked", graph[run["agent"]["@id"]]["@type"] == "Person")
        must("the run is completed", run["actionStatus"] == "http://schema.org/CompletedActionStatus")
        parts = set(ids(root["hasPart"]))
        must("its results are parts", set(ids(run["result"])) <= parts)
        checks = [entity for entity in graph.values() if entity["@type"] == "AssessAction"]
        must("every check is mentioned", {check["@id"] for check in checks} <= set(mentioned))
        kinds = {name.rsplit("#", 1)[-1] for check in checks for name in ids(check["additionalType"])}
        must("all phases are there", {"CheckValue", "ValidationCheck", "SignOff", "DisclosureCheck"} <= kinds)
        must("nothing outside is named", not any(".." in name or name.startswith("/") for name in graph))
        safes = [f"#safe-{safe}" for safe in ("people", "project", "data", "setting", "output")]
        for safe in safes:
            evidence = ids(graph[safe]["isBasedOn"])
            must(f"{safe} has evidence", evidence and all((crate / name).is_file() for name in evidence))
    except (KeyError, ValueError, TypeError, OSError) as error:
        missing.append(f"cannot be read: {error!r}")
    return missing


def defects():
    """What is done to a copy, and who must refuse it."""

    def edited(edit):
        def apply(bag):
            path = bag / "data" / "ro-crate-metadata.json"
            document = json.loads(path.read_text(encoding="utf-8"))
            edit({entity["@id"]: entity for entity in document["@graph"]}, document["@graph"])
            path.write_text(json.dumps(document), encoding="utf-8")

        return apply

    def flipped(name):
        def apply(bag):
            data = bytearray((bag / name).read_bytes())
            data[len(data) // 2] ^= 1
            (bag / name).write_bytes(data)

        return apply

    yield "a byte of the release", flipped("data/release.json"), ["bag"]
    yield "a byte of a proof", flipped("data/log/entries/4-permit.tlog-proof"), ["bag"]
    yield "a byte of the manifest", flipped("manifest-sha512.txt"), ["bag"]
    yield "a file too many", lambda bag: (bag / "data/more").write_text("x"), ["bag"]
    yield "no release", lambda bag: (bag / "data/release.json").unlink(), ["bag", "crate", "five safes"]
    yield "no metadata", lambda bag: (bag / "data/ro-crate-metadata.json").unlink(), ["bag", "crate", "five safes"]
    yield "no JSON", lambda bag: (bag / "data/ro-crate-metadata.json").write_text("{"), ["bag", "crate", "five safes"]
    yield "no workflow", lambda bag: shutil.rmtree(bag / "data/workflow"), ["bag", "five safes"]
    yield "no licence", edited(lambda e, g: e["./"].pop("license")), ["bag", "crate"]
    yield "another version", edited(lambda e, g: e["ro-crate-metadata.json"].update(conformsTo={"@id": "x"})), ["crate"]
    yield "no date", edited(lambda e, g: e["./"].update(datePublished="yesterday")), ["crate"]
    yield "a misspelt term", edited(lambda e, g: e["./"].update(licence="x")), ["crate"]
    yield "a file that is not there", edited(lambda e, g: named(e, g, "nowhere.json")), ["crate"]
    yield "no instrument", edited(lambda e, g: e["#run"].pop("instrument")), ["run", "five safes"]
    yield "another instrument", edited(lambda e, g: e["#run"].update(instrument={"@id": "#hub"})), ["run", "five safes"]
    yield "no profile", edited(lambda e, g: e["./"].pop("conformsTo")), ["run", "five safes"]
    yield "no sign-off", edited(lambda e, g: [g.remove(x) for x in list(g) if "sign-off" in x["@id"]]), ["five safes"]
    yield "no project", edited(lambda e, g: e["./"].pop("sourceOrganization")), ["five safes"]
    yield "safe data without evidence", edited(lambda e, g: e["#safe-data"].update(isBasedOn=[])), ["five safes"]


def named(entities, graph, path):
    """Adds a file to the crate's description alone."""
    entities["./"]["hasPart"].append({"@id": path})
    graph.append({"@id": path, "@type": "File", "name": "nothing"})


def as_list(value):
    return value if isinstance(value, list) else [value]


def ids(value):
    return [item["@id"] for item in as_list(value)]


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
