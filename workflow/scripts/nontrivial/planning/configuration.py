"""Read the configuration against its schema: defaults, clear errors, cross-checks.

The schema (``config/schema.yaml``) is the one description of every key. Nothing here knows a
key's type or default; only the rules that tie keys to each other stand in this module.
"""

import difflib
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

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
RESERVED_EXPERIMENTS = {"data", "networks", "figures", "tables", "specs", "logs"}
OUTPUT_STRIDE = 8  # of the built-in segmentation networks
FRACTION_TOLERANCE = 1e-9  # 0.7 + 0.1 + 0.2 is not 1 in binary
MOST_VALUES = 500_000  # of a whole configuration: anchors can make billions of a few lines
DEEPEST = 20  # levels; the schema has six
LARGEST_INTEGER = 1 << 53  # what floats, and so JSON, hold exactly
MOST_PROBLEMS, LONGEST_PROBLEM = 20, 500  # lines and characters that a person reads


def read_schema(path: Path) -> dict:
    """Read the schema file (JSON Schema written in YAML)."""
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def complete(config: dict, schema: dict) -> dict:
    """Check a configuration and return it with every default filled in.

    Raises:
        UserError: with one line per problem: the key, what is wrong, what is allowed.
    """
    _refuse(_unreadable(config))
    config = _text_keys(config)
    _refuse(_explain(error) for error in _errors(config, schema))
    filled = _filled(config, schema, schema)
    _refuse(_cross_check(filled))
    return filled


def resolve(part: dict, schema: dict) -> dict:
    """Return a part of the schema with its reference followed; its own keys win."""
    if "$ref" not in part:
        return part
    node = schema
    for name in part["$ref"].removeprefix("#/").split("/"):
        node = node[name]
    own = {key: value for key, value in part.items() if key != "$ref"}
    return {**resolve(node, schema), **own}


def network_task(config: dict, network: str) -> str | None:
    """Return the task of a network named in the configuration or built in, or None."""
    if network in config["networks"]:
        return config["networks"][network]["task"]
    return NETWORKS[network].task if network in NETWORKS else None


def _refuse(problems: Iterator[str]) -> None:
    first = [_one_line(problem) for problem in islice(problems, MOST_PROBLEMS)]
    if first:
        raise UserError("configuration: " + "\nconfiguration: ".join(first))


def _one_line(problem: str) -> str:
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in problem)
    return text if len(text) <= LONGEST_PROBLEM else f"{text[:LONGEST_PROBLEM]}..."


def _unreadable(config: object) -> Iterator[str]:
    """Yield what no configuration may hold anywhere, whatever the schema says of the place.

    Stops at the first sign of an endless one.
    """
    pending: list[tuple[tuple, int, object]] = [((), 0, config)]  # place, its depth, value
    seen = 0
    while pending:
        place, depth, value = pending.pop()
        seen += 1
        if depth > DEEPEST or seen + len(pending) > MOST_VALUES:
            limit = f"{DEEPEST} levels" if depth > DEEPEST else f"{MOST_VALUES:,} values"
            yield f"{_key(place)}: more than {limit}; does an anchor (&) stand for very much?"
            return
        if isinstance(value, dict):
            spelled = Counter(map(str, value))
            for name in (name for name, count in spelled.items() if count > 1):
                yield f"{_key(place)}: key {name} stands there twice, as text and as something else"
            pending += [((place, name), depth + 1, item) for name, item in value.items()]
            pending += [(place, depth + 1, name) for name in spelled]
        elif isinstance(value, list):
            pending += [((place, i), depth + 1, item) for i, item in enumerate(value)]
        elif problem := _unreadable_scalar(value):
            yield f"{_key(place)}: {problem}"


def _unreadable_scalar(value: object) -> str | None:
    if isinstance(value, str):
        is_clean = all(" " <= c != "\x7f" and not "\ud800" <= c <= "\udfff" for c in value)
        return None if is_clean else f"{value!r} holds a control character"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not a finite number"
    if isinstance(value, int):
        fits = abs(value) <= LARGEST_INTEGER
        return None if fits else f"a whole number beyond {LARGEST_INTEGER:,} is too large"
    if value is None:
        return None
    return f"YAML reads {value!r} as {type(value).__name__}; write it in quotes if it is text"


def _key(place: tuple) -> str:
    names = []
    while place:
        place, name = place
        names.append(str(name))
    return ".".join(reversed(names)) or "(top level)"


def _text_keys(value: object) -> object:
    # YAML reads the keys of {0: 0, 1: 2} as numbers; JSON has text keys only.
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_text_keys(item) for item in value]
    return value


def _errors(config: dict, schema: dict) -> Iterator[ValidationError]:
    errors = islice(_Validator(schema).iter_errors(config), MOST_PROBLEMS)
    return iter(sorted(errors, key=lambda error: [str(part) for part in error.absolute_path]))


def _whole_pattern(
    validator: Draft202012Validator, pattern: str, text: object, schema: dict
) -> Iterator[ValidationError]:
    # Python's $ also matches before a final line break, JSON Schema's does not.
    if isinstance(text, str) and not re.fullmatch(pattern, text):
        yield ValidationError(f"{text!r} does not match {pattern!r}")


def _unique(
    validator: Draft202012Validator, wanted: bool, items: object, schema: dict
) -> Iterator[ValidationError]:
    # The library compares each with each where they cannot be sorted. What cannot be in a set
    # here is of a wrong type, which another rule says.
    if wanted and isinstance(items, list):
        plain = [(type(i) is bool, i) for i in items if not isinstance(i, (list, dict))]
        if len(set(plain)) < len(plain):
            yield ValidationError(f"{items!r} has non-unique elements")


_Validator = validators.extend(
    Draft202012Validator, {"pattern": _whole_pattern, "uniqueItems": _unique}
)


def _explain(error) -> str:
    key = ".".join(str(part) for part in error.absolute_path) or "(top level)"
    if error.validator == "type" and isinstance(error.instance, str) and _is_number(error.instance):
        return (
            f"{key}: YAML reads {error.instance} as text, not as a number;"
            f" write {float(error.instance)!r} (YAML wants a decimal point: 1.0e-1)"
        )
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(error.schema.get("properties", {}))
        unknown = [name for name in error.instance if name not in known]
        return "; ".join(
            f"{key}: unknown key '{name}'{_hint(str(name), known)}"
            for name in unknown[:MOST_PROBLEMS]
        )
    if error.validator == "required":
        name = error.message.split("'")[1]  # one error for each missing key
        return f"{key}: key '{name}' is missing"
    if error.validator == "enum":
        allowed = ", ".join(
            "null" if value is None else str(value) for value in error.validator_value
        )
        return f"{key}: {error.instance!r} is not one of {allowed}"
    if error.validator == "pattern":
        return f"{key}: {error.instance!r} is not allowed; it has to match {error.validator_value}"
    return f"{key}: {error.message}"


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else f" (known: {', '.join(known)})"


def _filled(value: object, schema: dict, root: dict) -> object:
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


def _cross_check(config: dict) -> Iterator[str]:
    for name, dataset in config["datasets"].items():
        fractions = dataset.get("fractions")
        if fractions and abs(sum(fractions.values()) - 1) > FRACTION_TOLERANCE:
            total = sum(fractions.values())
            yield f"datasets.{name}.fractions: they add up to {total:g}, not to 1"
    for name in config["networks"]:
        if name in NETWORKS:
            yield f"networks.{name}: that is a built-in network; choose another name"
    for name, training in config["trainings"].items():
        yield from _check_training(name, training, config)
    for name, experiment in config["experiments"].items():
        yield from _check_experiment(name, experiment, config)


def _check_training(name: str, training: dict, config: dict) -> Iterator[str]:
    where = f"trainings.{name}"
    dataset, network = training["dataset"], training["network"]
    if dataset not in config["datasets"]:
        yield f"{where}.dataset: no data set '{dataset}'{_hint(dataset, list(config['datasets']))}"
    task = network_task(config, network)
    if task is None:
        known = [*config["networks"], *NETWORKS]
        yield f"{where}.network: no network '{network}'{_hint(network, known)}"
    size = config["datasets"].get(dataset, {}).get("size")
    strided = network in NETWORKS and task == "segmentation"
    if strided and size and any(side % OUTPUT_STRIDE for side in size):
        yield (
            f"datasets.{dataset}.size: {size[0]} x {size[1]} is no multiple of"
            f" {OUTPUT_STRIDE}, which {network} (trainings.{name}) needs"
        )
    if dataset in config["datasets"] and task is not None:
        data_task = DATASET_TASKS[config["datasets"][dataset]["source"]]
        if data_task != task:
            yield (
                f"{where}: network '{network}' is for {task}, data set '{dataset}' for {data_task};"
                " choose another network or data set"
            )


def _check_experiment(name: str, experiment: dict, config: dict) -> Iterator[str]:
    where = f"experiments.{name}"
    if name in RESERVED_EXPERIMENTS:
        yield f"{where}: '{name}' is a folder of the results; choose another name"
    training = experiment["training"]
    if training not in config["trainings"]:
        hint = _hint(training, list(config["trainings"]))
        yield f"{where}.training: no training '{training}'{hint}"
    if "block" in experiment["sets"] and not experiment["readings"]:
        yield f"{where}.readings: the block set needs at least one reading"
