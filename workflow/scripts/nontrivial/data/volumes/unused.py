"""Say which files and folders beside the volumes are not used, so that no subject vanishes unseen.

Nothing of this stops the preparation, because a folder may hold other things on purpose.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.data.sources import name_patterns
from nontrivial.data.sources.locations import VOLUME_FORMS, VOLUME_SUFFIXES, volume_name

# Endings and names of files that describe a data set or a volume.
ACCOMPANYING = (
    *(".bval", ".bvec", ".csv", ".html", ".ini", ".json", ".log", ".md", ".pdf", ".rst"),
    *(".tsv", ".txt", ".xlsx", ".xml", ".yaml", ".yml", "changes", "licence", "license", "readme"),
)


def warnings(settings: dict, data_dir: Path) -> list[str]:
    """Return what is not used of the places that ``images`` and ``labels`` name, a sentence each.

    Args:
        settings: the data set's section of the configuration, whose volumes were found.
        data_dir: folder of the raw data.
    """
    if not settings["images"]:
        return []
    named = {key: settings[key] for key in ("images", "labels")}
    if name_patterns.is_pattern(settings["images"]):
        return list(_beside_patterns(named, data_dir))
    return in_folders([data_dir / name for name in named.values()], data_dir)


def in_folders(folders: Iterable[Path], data_dir: Path) -> list[str]:
    """Return a sentence about the entries of folders of volumes that are not used, if any."""
    entries = [path for folder in folders for path in sorted(folder.iterdir())]
    volumes = {path for path in entries if volume_name(path) and not path.is_dir()}
    unused = _unexplained((path for path in entries if path not in volumes), volumes)
    because = f"because their names do not end in {VOLUME_FORMS}, or they are folders"
    return [_not_used(unused, data_dir, because)] if unused else []


def _beside_patterns(named: dict[str, str], data_dir: Path) -> Iterator[str]:
    found = [name_patterns.search(pattern, data_dir) for pattern in named.values()]
    if without := sorted({path for search in found for path in search.without_match}):
        yield (
            f"{len(without)} folder(s) that the wildcards of images or labels match hold no file"
            f" that matches: {_listed(without, data_dir)}. Fetch or add the files if these subjects"
            " belong to the data set."
        )
    volumes = {match.path for search in found for match in search.matches}
    others = {
        match.path
        for pattern in named.values()
        for match in name_patterns.find(_with_any_suffix(pattern), data_dir)
        if match.path not in volumes and not {*match.path.parents} & {*without}
    }
    if unused := _unexplained(sorted(others), volumes):
        yield _not_used(unused, data_dir, "because images and labels name another suffix")


def _with_any_suffix(pattern: str) -> str:
    suffix = next(end for end in VOLUME_SUFFIXES if pattern.lower().endswith(end))
    return f"{pattern[: -len(suffix)]}.{{suffix_of_other_files}}"


def _unexplained(entries: Iterable[Path], volumes: Iterable[Path]) -> list[Path]:
    """Return the entries that are not hidden and belong neither to a volume nor to the data set."""
    stems = {path.with_name(volume_name(path) or path.name) for path in volumes}
    return [
        path
        for path in entries
        if not path.name.startswith(".")
        and not path.name.lower().endswith(ACCOMPANYING)
        and not any(
            path.with_name(path.name[:end]) in stems
            for end, character in enumerate(path.name)
            if character == "." and end
        )
    ]


def _not_used(unused: list[Path], data_dir: Path, because: str) -> str:
    return (
        f"{len(unused)} file(s) or folder(s) beside the volumes are not used, {because}:"
        f" {_listed(unused, data_dir)}. If they hold volumes, fetch, convert or move them."
    )


def _listed(paths: list[Path], data_dir: Path) -> str:
    return excerpt([p.relative_to(data_dir) if p.is_relative_to(data_dir) else p for p in paths])
