"""Turn a raw data set into the prepared form: memory-mappable arrays and a table of samples."""

import logging
from pathlib import Path

from nontrivial.data.sources import cifar10, digits, fahmy2019, hippocampus, mni152, nifti
from nontrivial.errors import UserError
from nontrivial.execution import command_line

log = logging.getLogger("nontrivial")

# Each module names its settings (KEYS) and has prepare(settings, data_dir, output).
SOURCES = {
    "cifar10": cifar10,
    "digits": digits,
    "fahmy2019": fahmy2019,
    "hippocampus": hippocampus,
    "mni152": mni152,
    "nifti": nifti,
}


def prepare_dataset(name: str, settings: dict, data_dir: Path, output: Path) -> None:
    """Prepare one data set.

    Args:
        name: its name in the configuration, for messages.
        settings: its section there, defaults filled in; ``source`` says how to read it.
        data_dir: folder of the raw data.
        output: folder of the prepared data; complete once ``dataset.json`` stands there.

    Raises:
        UserError: the data or the settings are wrong; names the data set.
    """
    source = SOURCES.get(settings.get("source"))
    if source is None:
        raise UserError(
            f"datasets.{name}.source: give one of {', '.join(SOURCES)}, "
            f"not {settings.get('source')!r}"
        )
    for key in sorted(source.KEYS ^ (settings.keys() - {"source"})):
        problem = "is missing" if key in source.KEYS else "is no key of this source"
        raise UserError(f"datasets.{name}.{key}: {problem}")
    try:
        source.prepare(settings, Path(data_dir), Path(output))
    except UserError as error:
        raise UserError(f"data set {name}: {error}") from error
    log.info("data set %s: prepared in %s", name, output)


if __name__ == "__main__":
    command_line.run(prepare_dataset)
