"""Prepare Task04 Hippocampus of the Medical Segmentation Decathlon: 260 labelled T1 volumes.

Licence: CC BY-SA 4.0, Vanderbilt University Medical Center (Antonelli et al. 2022). Labels:
0 background, 1 anterior, 2 posterior.
"""

import logging
import tempfile
from dataclasses import replace
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.data.sources import archives
from nontrivial.data.sources.download import check_archive, download
from nontrivial.data.sources.locations import DECATHLON_HIPPOCAMPUS, find_hippocampus
from nontrivial.data.sources.unpacking import unpack
from nontrivial.data.volumes import pairs, preparation, unused
from nontrivial.data.volumes.label_map import LabelMap
from nontrivial.data.volumes.pairs import Pair
from nontrivial.data.volumes.selection import HIPPOCAMPUS_NAME, from_decathlon
from nontrivial.errors import UserError

log = logging.getLogger("nontrivial")

KEYS = preparation.KEYS | {"label_map", "classes"}


def prepare(settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare the hippocampus volumes; download them into ``data_dir`` if they are not there.

    Raises:
        UserError: a volume or a setting is wrong, or the download failed.
    """
    labels = LabelMap(settings["label_map"], settings["classes"])
    found = find_hippocampus(data_dir)
    if found is None:
        log.info("the hippocampus volumes are not in %s", data_dir)
        found = "archive", download(archives.HIPPOCAMPUS, data_dir)
    form, path = found
    log.info("hippocampus: %s, %s", form, path)
    if form == "folders":
        folders = [path / "images", path / "labels"]
        volumes = with_subjects(pairs.from_folders(*folders))
        warnings = unused.in_folders(folders, data_dir)
        preparation.prepare(volumes, settings, None, labels, output, warnings=warnings)
    elif form == "decathlon":
        volumes = from_decathlon(path, settings)
        preparation.prepare(with_subjects(volumes), settings, None, labels, output)
    else:
        check_archive(path, archives.HIPPOCAMPUS)
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output, prefix=".unpacked-") as folder:
            unpack(path, Path(folder))
            volumes = from_decathlon(Path(folder) / DECATHLON_HIPPOCAMPUS, settings)
            preparation.prepare(with_subjects(volumes), settings, None, labels, output)


def with_subjects(found: list[Pair]) -> list[Pair]:
    """Return the pairs, sorted by name, with their subjects.

    Files numbered 2k-1 and 2k are two volumes of subject k. The source does not document this; it
    is inferred from intensities, dtypes and shapes, which agree within these pairs.

    Raises:
        UserError: a file name has no number.
    """
    ordered = sorted(found, key=lambda pair: pair.name)
    if wrong := [pair.image for pair in ordered if not HIPPOCAMPUS_NAME.fullmatch(pair.name)]:
        raise UserError(f"{excerpt(wrong, 1)}: its name must be hippocampus_<number>; rename it")
    numbers = [int(pair.name.rpartition("_")[2]) for pair in ordered]
    return [
        replace(pair, subject=f"person-{(number + 1) // 2:03d}")
        for pair, number in zip(ordered, numbers, strict=True)
    ]
