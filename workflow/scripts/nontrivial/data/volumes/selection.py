"""Find the pairs of volumes that a section of the configuration selects, with their subjects.

No volume is read, so a dry run does the same. The Snakefile imports this module at every start, so
it uses the standard library only.
"""

import os
import re
from pathlib import Path

from nontrivial.data.sources import name_patterns
from nontrivial.data.sources.locations import (
    DECATHLON_HIPPOCAMPUS,
    check_fetched,
    check_there,
    volume_name,
)
from nontrivial.data.sources.name_patterns import SUBJECT
from nontrivial.data.volumes import pairs, subjects
from nontrivial.data.volumes.label_names import check_names
from nontrivial.data.volumes.pairs import Pair
from nontrivial.errors import UserError

HIPPOCAMPUS_NAME = re.compile(r"hippocampus_\d+")  # of a volume of Task04


def check_settings(settings: dict) -> None:
    """Check the settings that name volumes and subjects, without looking at any file.

    Raises:
        UserError: they contradict each other, or a pattern is not valid.
    """
    forms = [key for key in ("images", "decathlon", "table") if settings[key]]
    if len(forms) != 1 or bool(settings["images"]) != bool(settings["labels"]):
        raise UserError("set exactly one of: images and labels; decathlon; table")
    if settings["images"]:
        _check_patterns(settings["images"], settings["labels"])
    sources = [key for key in ("table", "subject_pattern", "subject_table") if settings[key]]
    if settings["subject_pattern"]:
        subjects.compiled_pattern(settings["subject_pattern"])
    if forms == ["images"] and _are_patterns(settings["images"], settings["labels"]):
        if SUBJECT in name_patterns.wildcards(settings["images"]):
            sources.append("{subject} in images")
        elif not sources and not settings["one_subject_per_file"]:
            raise UserError(
                f"images: {settings['images']!r} has no {{subject}}, so nothing says which images"
                " are of the same subject; write {subject} where the subject's name is"
            )
        pairs.common_wildcards(settings["images"], settings["labels"])
    if len(sources) > 1:
        raise UserError(f"set only one source of subjects, not {' and '.join(sources)}")
    if settings["one_subject_per_file"] and sources and sources != ["{subject} in images"]:
        raise UserError(f"one_subject_per_file: remove it, because {sources[0]} names the subjects")


def find_pairs(settings: dict, data_dir: Path) -> list[Pair]:
    """Return the pairs of volumes that a section of the configuration selects, with subjects.

    Raises:
        UserError: settings contradict each other, a file is missing or was not fetched, or names
            look like several scans of one subject and no key assigns subjects.
    """
    check_settings(settings)
    check_fetched([data_dir, *data_dir.parents])
    if not data_dir.is_dir():
        raise UserError(
            f"{data_dir.absolute()}: no such folder; set data_dir to the folder of the raw data"
        )
    is_pattern = name_patterns.is_pattern(settings["images"] or "")
    folders = [] if is_pattern else ["images", "labels"]
    keys = (*folders, "decathlon", "table", "subject_table")
    check_there({key: settings[key] for key in keys if settings[key]}, data_dir)
    if settings["table"]:
        return pairs.from_table(data_dir / settings["table"])
    if settings["decathlon"]:
        found = from_decathlon(data_dir / settings["decathlon"], settings)
    elif is_pattern:
        found = pairs.from_patterns(settings["images"], settings["labels"], data_dir)
    else:
        found = pairs.from_folders(data_dir / settings["images"], data_dir / settings["labels"])
    if settings["subject_pattern"]:
        found = subjects.by_pattern(found, settings["subject_pattern"])
        subjects.check_pattern(found, settings["subject_pattern"])
        return found
    if settings["subject_table"]:
        return subjects.by_table(found, data_dir / settings["subject_table"])
    if settings["one_subject_per_file"]:
        return subjects.each_file(found)
    _check_not_hippocampus(found)
    subjects.check_sessions(found, settings, data_dir)
    return found


def from_decathlon(folder: Path, settings: dict) -> list[Pair]:
    """Return the pairs of a decathlon folder, whose classes must be those of the configuration.

    Raises:
        UserError: they are not; see also ``pairs.from_decathlon``.
    """
    found = pairs.from_decathlon(folder)
    check_names(folder / "dataset.json", settings["classes"], settings["label_map"])
    return found


def _check_not_hippocampus(found: list[Pair]) -> None:
    volumes = [(pair.image.parent, volume_name(pair.image) or "") for pair in found]
    if all(folder.name == "imagesTr" and HIPPOCAMPUS_NAME.fullmatch(n) for folder, n in volumes):
        raise UserError(
            f"{volumes[0][0]}: two volumes are of one subject, which names such as {volumes[0][1]}"
            f" do not tell; use `source: hippocampus`, with {DECATHLON_HIPPOCAMPUS} in data_dir"
        )


def _check_patterns(images: str, labels: str) -> None:
    if os.path.normpath(images) == os.path.normpath(labels):
        raise UserError(f"images and labels are both {images!r}; name the labels' own files")
    for setting in (images, labels):
        name_patterns.wildcards(setting)


def _are_patterns(images: str, labels: str) -> bool:
    are = {name_patterns.is_pattern(setting) for setting in (images, labels)}
    if len(are) > 1:
        raise UserError("images and labels: write wildcards in both, or name two folders")
    return are.pop()
