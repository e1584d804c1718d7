"""Checks our JSON Schemas, and agreements and drafts against them, with PyPI's `jsonschema` (2020-12).

The agreements are what `crates/policy` makes of the good drafts; every edit in `bad-shapes.json` must be refused. Of the
bad drafts, those whose error names a line are bad by shape and must be refused here too; the others break rules between
keys, which no schema states.

Usage: agreement_schema.py DIRECTORY_OF_VECTORS
"""

import copy
import json
import pathlib
import sys
import tomllib

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

SCHEMAS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "schema"


def main(directory):
    directory = pathlib.Path(directory)
    agreement, draft = (read(SCHEMAS / f"{name}.v2.schema.json") for name in ("agreement", "draft"))
    results = [(f"{name} is a schema", is_schema(schema)) for name, schema in (("agreement", agreement), ("draft", draft))]
    of_agreements, of_drafts = Draft202012Validator(agreement), Draft202012Validator(draft)
    goods = [path.stem for path in sorted(directory.glob("good*.toml"))]
    for good in goods:
        results.append((f"{good}.json", of_agreements.is_valid(read(directory / f"{good}.json"))))
        results.append((f"{good}.toml", of_drafts.is_valid(drafted(text(directory / f"{good}.toml")))))
    shapes = read(directory / "bad-shapes.json")
    for edit in shapes:
        bad = edited(read(directory / f"{edit['of']}.json"), edit["at"], edit["to"])
        results.append((f"refused: {edit['name']}", not of_agreements.is_valid(bad)))
    by_shape = [bad for bad in tomllib.loads(text(directory / "bad.toml"))["bad"] if bad["error"].startswith("line ")]
    for bad in by_shape:
        edit = text(directory / bad["of"]).replace(bad["from"], bad["to"], 1)
        results.append((f"refused: draft {bad['name']}", not is_good_draft(of_drafts, edit)))
    results.append(("corpus: good and bad", len(goods) >= 3 and len(shapes) >= 40 and len(by_shape) >= 30))
    return report("agreement-schema", results)


def text(path):
    return path.read_text(encoding="utf-8")


def read(path):
    return json.loads(text(path))


def drafted(toml):
    return tomllib.loads(toml)


def is_schema(schema):
    try:
        Draft202012Validator.check_schema(schema)
        return True
    except SchemaError:
        return False


def is_good_draft(validator, toml):
    """Whether a draft is TOML and has the right shape. A time that is not in quotes is no JSON, and so no string."""
    try:
        return validator.is_valid(drafted(toml))
    except tomllib.TOMLDecodeError:
        return False


def edited(value, at, to):
    """A copy with another value at a JSON pointer, or with nothing there."""
    value = copy.deepcopy(value)
    *parents, key = at.split("/")[1:]
    place = value
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key = int(key) if isinstance(place, list) else key
    if to is None:
        del place[key]
    else:
        place[key] = to
    return value


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
