"""Prepare your own labelled volumes: two folders, a decathlon folder or a table."""

from dataclasses import replace
from pathlib import Path

from nontrivial.data.volumes import pairs, preparation
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError

KEYS = preparation.KEYS | {
    "images",
    "labels",
    "decathlon",
    "table",
    "frame",
    "label_map",
    "classes",
    "subject_pattern",
    "subject_table",
}


def prepare(settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare labelled volumes (``.nii``, ``.nii.gz``, ``.mgz``) for segmentation.

    Raises:
        UserError: a setting or a file is wrong; see ``preparation.prepare``.
    """
    labels = LabelMap(settings["label_map"], settings["classes"])
    found = find_pairs(settings, data_dir)
    preparation.prepare(found, settings, settings["frame"], labels, output)


def find_pairs(settings: dict, data_dir: Path) -> list[Pair]:
    """Return the pairs of volumes that a section of the configuration names, with subjects.

    Raises:
        UserError: settings contradict each other, or a file is missing.
    """
    forms = [key for key in ("images", "decathlon", "table") if settings[key]]
    if len(forms) != 1 or bool(settings["images"]) != bool(settings["labels"]):
        raise UserError("set exactly one of: images and labels; decathlon; table")
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such folder; set data_dir to the folder of the raw data")
    if forms == ["images"]:
        found = pairs.from_folders(data_dir / settings["images"], data_dir / settings["labels"])
    elif forms == ["decathlon"]:
        found = pairs.from_decathlon(data_dir / settings["decathlon"])
    else:
        found = pairs.from_table(data_dir / settings["table"])
    pattern, table = settings["subject_pattern"], settings["subject_table"]
    if (pattern and table) or (forms == ["table"] and (pattern or table)):
        raise UserError("set only one source of subjects: table, subject_pattern or subject_table")
    if not pattern and not table:
        return found
    subject = (
        pairs.subjects_by_pattern(pattern) if pattern else pairs.subjects_by_table(data_dir / table)
    )
    return [replace(pair, subject=subject(pair)) for pair in found]
