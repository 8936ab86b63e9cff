"""Prepare a data set: memory-mappable arrays, tables of samples and their description."""

import logging
from pathlib import Path

from nontrivial.data.sources import cifar10, digits, fahmy2019, hippocampus, mni152, nifti
from nontrivial.errors import UserError
from nontrivial.execution import command_line

log = logging.getLogger("nontrivial")

# Each module lists its settings (KEYS) and has prepare(settings, data_dir, output).
SOURCES = {
    "cifar10": cifar10,
    "digits": digits,
    "fahmy2019": fahmy2019,
    "hippocampus": hippocampus,
    "mni152": mni152,
    "nifti": nifti,
}


def prepare_dataset(name: str, settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare one data set: arrays, tables of samples and ``dataset.json``.

    Args:
        name: name of the data set, used in messages.
        settings: its section of the configuration, defaults filled in; ``source`` chooses how it
            is read.
        data_dir: folder of the raw data.
        output: folder of the prepared data set, which is complete once it has ``dataset.json``.

    Raises:
        UserError: the data or a setting is wrong.
    """
    source = SOURCES.get(settings.get("source", ""))
    if source is None:
        raise UserError(
            f"datasets.{name}.source: {settings.get('source')!r} is not one of {', '.join(SOURCES)}"
        )
    for key in sorted(source.KEYS ^ (settings.keys() - {"source"})):
        problem = "is missing" if key in source.KEYS else "is not a key of this source"
        raise UserError(f"datasets.{name}.{key}: {problem}")
    try:
        source.prepare(settings, Path(data_dir), Path(output))
    except UserError as error:
        raise UserError(f"data set {name}: {error}") from error
    log.info("data set %s: prepared in %s", name, output)


if __name__ == "__main__":
    command_line.run(prepare_dataset)
