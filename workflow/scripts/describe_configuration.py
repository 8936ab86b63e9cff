"""Write ``config/README.md``, the reference of all configuration keys, from the schema."""

import json
from collections.abc import Iterator
from pathlib import Path

from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text
from nontrivial.planning.configuration import read_schema, resolve

INTRODUCTION = """\
# Configuration

<!-- Written by workflow/scripts/describe_configuration.py from config/schema.yaml. -->

One YAML file configures everything. Two come with the workflow: `config.yaml`, the paper's
experiment, and `quickstart.yaml`. Copy one of them, for example to `mine.yaml`, edit it, and run:

```sh
snakemake all --cores 8 --resources gpu=1 --configfile mine.yaml
```

- An experiment names a training, and a training names a data set and a network. Add as many of each
  as you like.
- Snakemake reads only this file and does not merge it with `config.yaml`. To override a top-level
  key on the command line, add `--config data_dir=/my/data`. Change sections such as `trainings` in
  the file: Snakemake reads the values in a section on the command line as text.
- Give each configuration its own `results_dir`.
- After a change, only the jobs that depend on it run again. A different number of CPU cores or GPUs
  makes nothing stale. It can change the last bits of a prediction, but not the weights of a network
  trained on a CPU.
- In the tables below, `<name>` is a name of your choice. Unknown keys are errors.
"""


_NAMES = {"object": "mapping", "boolean": "`true`, `false`"}
_LIMITS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def describe(schema: dict) -> str:
    """Return the reference of all keys of a configuration schema as Markdown."""
    lines = [INTRODUCTION]
    for key, part in schema["properties"].items():
        lines += [f"## `{key}`", "", _sentence(part, schema), ""]
        rows = list(_rows(key, part, schema))[1:]
        if rows:
            lines += ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
            lines += [f"| {' | '.join(row)} |" for row in rows]
            lines.append("")
    return "\n".join(lines)


def _sentence(part: dict, schema: dict) -> str:
    described = resolve(part, schema)
    if described.get("type") == "object":
        return described["description"]
    default = f" Default: `{json.dumps(part['default'])}`." if part.get("default") else ""
    return f"{described['description']} Values: {_values(part, schema)}.{default}"


def _rows(path: str, part: dict, schema: dict) -> Iterator[tuple[str, str, str, str]]:
    part = resolve(part, schema)
    default = f"`{json.dumps(part['default'])}`" if "default" in part else ""
    if path:
        meaning = part.get("description", "").replace("|", "\\|")
        yield f"`{path}`", _values(part, schema), default, meaning
    required = part.get("required", [])
    for name, child in part.get("properties", {}).items():
        for row in _rows(f"{path}.{name}", child, schema):
            is_key = row[0] == f"`{path}.{name}`"  # not a key below it
            needed = row[2] or ("required" if is_key and name in required else "")
            yield row[0], row[1], needed, row[3]
    for branch in part.get("allOf", []):
        source = branch["if"]["properties"]["source"]["const"]
        chosen = resolve(branch["then"], schema)
        yield f"**`source: {source}`**", "", "", chosen["description"]
        for row in list(_rows(path, chosen, schema))[2:]:
            yield row
    if isinstance(part.get("additionalProperties"), dict):
        yield from list(_rows(f"{path}.<name>", part["additionalProperties"], schema))


def _values(part: dict, schema: dict) -> str:
    part = resolve(part, schema)
    if "enum" in part:
        return ", ".join(f"`{json.dumps(value)}`".replace('"', "") for value in part["enum"])
    if "const" in part:
        return f"`{part['const']}`"
    kinds = part.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    text = " or ".join(_NAMES.get(kind, kind) for kind in kinds if kind != "null")
    if "array" in kinds and "items" in part:
        item, _, limits = _values(part["items"], schema).partition(" ")
        plural = item if item.startswith("`") else f"{item}s"
        text = f"list of {plural} {limits}".strip()
    limits = ", ".join(f"{sign} {part[name]}" for name, sign in _LIMITS.items() if name in part)
    return f"{text} {limits}".strip() + (" or `null`" if "null" in kinds else "")


SCHEMA = Path("config/schema.yaml")
DESCRIPTION = Path("config/README.md")


def write_description(schema: Path = SCHEMA, output: Path = DESCRIPTION) -> None:
    """Write the reference of a schema file to a Markdown file."""
    write_text(output, describe(read_schema(schema)))


if __name__ == "__main__":
    command_line.run(write_description)
