"""Write ``config/README.md``, the description of every key, from the schema."""

import json
from collections.abc import Iterator
from pathlib import Path

from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text
from nontrivial.planning.configuration import read_schema, resolve

INTRODUCTION = """\
# Configuration

<!-- Written by workflow/scripts/describe_configuration.py from config/schema.yaml. -->

`config.yaml` is the paper's experiment, `quickstart.yaml` the quick start. Copy one, change it,
and run `snakemake --cores 8 --resources gpu=1 --configfile yours.yaml`; single top-level keys can
be given as `--config data_dir=/my/data`. Exactly one file is read: it is not merged with
`config.yaml`. `<name>` stands for a name of your choice. Unknown keys are refused.

Data sets, trainings and experiments are free to add: an experiment names a training, a training
names a data set and a network. Give each configuration a `results_dir` of its own. Whatever you
change, only what depends on it runs again; how many processor cores or accelerators a run has makes
nothing stale (it may move the last bits of a prediction, never those of training on a processor).
"""


def describe(schema: dict) -> str:
    """Return the Markdown description of every key of a configuration schema."""
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
    default = f" Default: `{json.dumps(part['default'])}`." if part.get("default") else ""
    return f"{resolve(part, schema)['description']} Values: {_values(part, schema)}.{default}"


def _rows(path: str, part: dict, schema: dict) -> Iterator[tuple[str, str, str, str]]:
    part = resolve(part, schema)
    default = f"`{json.dumps(part['default'])}`" if "default" in part else ""
    if path:
        meaning = part.get("description", "").replace("|", "\\|")
        yield f"`{path}`", _values(part, schema), default, meaning
    required = part.get("required", [])
    for name, child in part.get("properties", {}).items():
        for row in _rows(f"{path}.{name}", child, schema):
            needed = row[2] or ("required" if name in required else "")
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
    words = [kinds] if isinstance(kinds, str) else list(kinds)
    names = {"object": "section", "array": "list", "string": "text", "boolean": "true, false"}
    text = " or ".join(names.get(word, word) for word in words)
    if "array" in words and "items" in part:
        text = f"list of {_values(part['items'], schema)}"
    limits = [
        f"{sign} {part[name]:g}"
        for name, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if name in part
    ]
    return " ".join([text, ", ".join(limits)]).strip()


SCHEMA = Path("config/schema.yaml")
DESCRIPTION = Path("config/README.md")


def write_description(schema: Path = SCHEMA, output: Path = DESCRIPTION) -> None:
    """Write the description of a schema file to a Markdown file."""
    write_text(output, describe(read_schema(schema)))


if __name__ == "__main__":
    command_line.run(write_description)
