"""Check a configuration against its schema, fill in defaults, and check keys against each other.

The schema (``config/schema.yaml``) describes every key, its type and its default. This module adds
the checks that involve more than one key.
"""

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, TypeChecker, ValidationError, validators

from nontrivial.data.excerpt import excerpt
from nontrivial.data.volumes.label_names import class_numbers
from nontrivial.data.volumes.selection import check_settings
from nontrivial.errors import UserError
from nontrivial.networks.registry import NETWORKS

DATASET_TASKS = {
    "cifar10": "classification",
    "digits": "classification",
    "mni152": "segmentation",
    "nifti": "segmentation",
    "hippocampus": "segmentation",
    "fahmy2019": "segmentation",
}
RESERVED_EXPERIMENTS = {
    "benchmarks",
    "data",
    "figures",
    "kernels",
    "logs",
    "networks",
    "specs",
    "tables",
}
OUTPUT_STRIDE = 8  # of the built-in segmentation networks
FRACTION_TOLERANCE = 1e-9  # 0.7 + 0.1 + 0.2 is not 1 in binary


def read_schema(path: Path) -> dict:
    """Read the schema file (JSON Schema written in YAML)."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def complete(config: dict, schema: dict) -> dict:
    """Check a configuration and return it with every default filled in.

    Raises:
        UserError: with one line per problem: the key, what is wrong, what is allowed.
    """
    config = _text_keys(config)
    _refuse(_explain(error) for error in _errors(config, schema))
    filled = _filled(config, schema, schema)
    for training in filled["trainings"].values():
        recipe = training["recipe"]
        # Epoch 0 can always be built from the seed, so naming it must not change the training.
        recipe["snapshots"] = sorted({*recipe.get("snapshots", _snapshots(recipe["epochs"]))} - {0})
    _refuse(_cross_check(filled))
    return filled


def check_command_line(given: Mapping[str, object], schema: dict) -> None:
    """Check the keys that ``--config`` sets: Snakemake reads only single values there correctly.

    It reads all values inside of a mapping or a list as text, ``false`` and ``null`` included, and
    merges a mapping into the section of the configuration file instead of replacing it. Keys that
    do not exist are left to ``complete``.

    Args:
        given: value by key, as Snakemake has read them from the command line.
        schema: the schema of the configuration.

    Raises:
        UserError: a key is a section, or a value is not a single one.
    """
    properties = schema["properties"]
    known = [key for key in given if key in properties]
    sections = [key for key in known if properties[key].get("type") == "object"]
    if sections:
        raise UserError(
            f"--config {_set(sections)}: Snakemake reads the values in a section as text and merges"
            f" them into the configuration file. Copy the file, change {sections[0]} there, and run"
            " with --configfile and the name of the copy"
        )
    several = [key for key in known if isinstance(given[key], (Mapping, list))]
    if several:
        key = several[0]
        raise UserError(
            f"--config {_set(several)}: {key} is a single value, not a section or a list. Write,"
            f" for example, --config {key}={properties[key]['default']}"
        )


def resolve(part: dict, schema: dict) -> dict:
    """Return a part of the schema with its reference followed; its own keys win."""
    if "$ref" not in part:
        return part
    node = schema
    for name in part["$ref"].removeprefix("#/").split("/"):
        node = node[name]
    own = {key: value for key, value in part.items() if key != "$ref"}
    return {**resolve(node, schema), **own}


def _set(keys: list[str]) -> str:
    return excerpt([f"{key}=..." for key in keys], 1)


def network_task(config: dict, network: str) -> str | None:
    """Return the task of a network named in the configuration or built in, or None."""
    if network in config["networks"]:
        return config["networks"][network]["task"]
    return NETWORKS[network].task if network in NETWORKS else None


def _refuse(problems: Iterable[str]) -> None:
    lines = [f"configuration: {problem}" for problem in problems]
    if lines:
        raise UserError("\n".join(lines))


def _text_keys(value: Any) -> Any:
    # YAML reads the keys of {0: 0, 1: 2} as numbers; JSON has text keys only.
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_text_keys(item) for item in value]
    return value


def _is_finite_number(checker: TypeChecker, value: object) -> bool:
    # YAML reads .nan and .inf, which pass minimum and maximum and cannot be written as JSON.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return math.isfinite(value)


_Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("number", _is_finite_number),
)


def _errors(config: dict, schema: dict) -> list[ValidationError]:
    def key(error: ValidationError) -> list[str]:
        return [str(part) for part in error.absolute_path]

    return sorted(_Validator(schema).iter_errors(config), key=key)


def _explain(error: ValidationError) -> str:
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    schema: Any = error.schema
    allowed: Any = error.validator_value
    value: Any = error.instance
    if error.validator == "type" and isinstance(value, str) and _is_number(value):
        return (
            f"{key}: YAML reads {value} as text, not as a number. Write"
            f" {_number_text(float(value))} (YAML requires a decimal point: 1.0e-1)"
        )
    if error.validator == "type" and isinstance(value, float) and not math.isfinite(value):
        return f"{key}: {value} is not a finite number. Write a finite one"
    if error.validator in ("minimum", "maximum"):
        limit = "at least" if error.validator == "minimum" else "at most"
        return f"{key}: {value!r} is out of range. Write {limit} {allowed}"
    if error.validator == "additionalProperties":
        known = list(schema.get("properties", {}))
        unknown = [name for name in value if name not in known]
        return "; ".join(f"{key}: unknown key '{name}'{_hint(name, known)}" for name in unknown)
    if error.validator == "required":
        name = error.message.split("'")[1]  # one error for each missing key
        return f"{key}: key '{name}' is missing"
    if error.validator == "enum":
        names = ", ".join("null" if name is None else str(name) for name in allowed)
        return f"{key}: {value!r} is not one of {names}"
    if error.validator == "pattern":
        return f"{key}: {value!r} is not allowed. It must match {allowed}"
    return f"{key}: {error.message}"


def _number_text(number: float) -> str:
    """Return a number in a form that YAML reads as a number: 1.0e-07, not 1e-07."""
    text = repr(number)
    return text if "." in text else text.replace("e", ".0e")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else f" (known: {', '.join(known)})"


def _filled(value: Any, schema: dict, root: dict) -> Any:
    schema = resolve(schema, root)
    if isinstance(value, dict):
        for branch in schema.get("allOf", []):
            if _Validator(branch["if"]).is_valid(value):
                return _filled(value, branch["then"], root)
        properties = schema.get("properties", {})
        others = schema.get("additionalProperties", {})
        defaults = {name: part["default"] for name, part in properties.items() if "default" in part}
        return {
            name: _filled(
                item, properties.get(name, others if isinstance(others, dict) else {}), root
            )
            for name, item in {**defaults, **value}.items()
        }
    if isinstance(value, list):
        return [_filled(item, schema.get("items", {}), root) for item in value]
    # 1 and 1.0 are the same setting; only one spelling may reach the rules.
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "number" in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if "integer" in kinds and isinstance(value, float):
        return int(value)
    return value


def _snapshots(epochs: int) -> list[int]:
    """Return 0 and the powers of two below the last epoch."""
    return [0, *(1 << n for n in range(epochs.bit_length()) if 1 << n < epochs)]


def _cross_check(config: dict) -> Iterator[str]:
    for name, dataset in config["datasets"].items():
        fractions = dataset.get("fractions")
        if fractions and abs(sum(fractions.values()) - 1) > FRACTION_TOLERANCE:
            total = sum(fractions.values())
            yield f"datasets.{name}.fractions: they add up to {total:g}. They must add up to 1"
        try:
            if dataset["source"] == "nifti":
                check_settings(dataset)
            if "label_map" in dataset:
                class_numbers(dataset["label_map"], dataset["classes"])
        except UserError as error:
            yield f"datasets.{name}: {error}"
    for name in config["networks"]:
        if name in NETWORKS:
            yield f"networks.{name}: a built-in network has this name. Choose another"
    for name, training in config["trainings"].items():
        yield from _check_training(name, training, config)
    for name, experiment in config["experiments"].items():
        yield from _check_experiment(name, experiment, config)


def _check_training(name: str, training: dict, config: dict) -> Iterator[str]:
    where = f"trainings.{name}"
    dataset, network = training["dataset"], training["network"]
    if dataset not in config["datasets"]:
        yield f"{where}.dataset: no data set '{dataset}'{_hint(dataset, list(config['datasets']))}"
    recipe = training["recipe"]
    if late := [epoch for epoch in recipe["snapshots"] if epoch >= recipe["epochs"]]:
        yield (
            f"{where}.recipe.snapshots: {excerpt(late)} not below epochs ({recipe['epochs']});"
            " remove them, the last epoch is always stored"
        )
    task = network_task(config, network)
    if task is None:
        known = [*config["networks"], *NETWORKS]
        yield f"{where}.network: no network '{network}'{_hint(network, known)}"
    size = config["datasets"].get(dataset, {}).get("size")
    strided = network in NETWORKS and task == "segmentation"
    if strided and size and any(side % OUTPUT_STRIDE for side in size):
        yield (
            f"datasets.{dataset}.size: {size[0]} x {size[1]} is not a multiple of"
            f" {OUTPUT_STRIDE}, which {network} (trainings.{name}) requires"
        )
    if dataset in config["datasets"] and task is not None:
        data_task = DATASET_TASKS[config["datasets"][dataset]["source"]]
        if data_task != task:
            yield (
                f"{where}: network '{network}' is for {task}, data set '{dataset}' for {data_task}."
                " Choose another network or data set"
            )


def _check_experiment(name: str, experiment: dict, config: dict) -> Iterator[str]:
    where = f"experiments.{name}"
    if name in RESERVED_EXPERIMENTS:
        yield f"{where}: '{name}' is the name of a results folder. Choose another name"
    training = experiment["training"]
    if training not in config["trainings"]:
        hint = _hint(training, list(config["trainings"]))
        yield f"{where}.training: no training '{training}'{hint}"
    if "block" in experiment["sets"] and not experiment["readings"]:
        yield f"{where}.readings: the block set needs at least one reading"
