"""Prepare your own labelled volumes: folders, patterns, a decathlon folder or a table."""

from pathlib import Path

from nontrivial.data.volumes import preparation, subjects, unused
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.selection import find_pairs

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
    "one_subject_per_file",
}


def prepare(settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare labelled volumes (NIfTI, MGH or Analyze) for segmentation.

    Raises:
        UserError: a setting or a file is wrong; see ``preparation.prepare``.
    """
    labels = LabelMap(settings["label_map"], settings["classes"])
    found = find_pairs(settings, data_dir)
    warnings = [*subjects.warnings(found, settings), *unused.warnings(settings, data_dir)]
    preparation.prepare(found, settings, settings["frame"], labels, output, warnings=warnings)
