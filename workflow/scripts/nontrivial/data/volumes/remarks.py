"""Collect what users should know about the volumes of a data set, one message for all of them."""

from nontrivial.data.volumes import intensity
from nontrivial.data.volumes.intensity import Background
from nontrivial.data.volumes.reading import Volume


class Remarks:
    """What was assumed about volumes, and what was replaced or converted in them."""

    def __init__(self) -> None:
        """Start without volumes."""
        self._count = 0
        self._unoriented: list[str] = []
        self._filled: dict[str, int] = {}
        self._converted: dict[str, list[str]] = {}  # names by unit
        self._backgrounds: dict[str, Background] = {}

    def add(self, name: str, volume: Volume, background: Background | None) -> None:
        """Note a volume.

        Args:
            name: of the volume.
            volume: as read.
            background: what that does to its normalization; None if nothing.
        """
        self._count += 1
        if not volume.oriented:
            self._unoriented.append(name)
        if volume.converted:
            self._converted.setdefault(volume.converted, []).append(name)
        if volume.filled:
            self._filled[name] = volume.filled
        if background:
            self._backgrounds[name] = background

    def warnings(self) -> list[str]:
        """Return what may make results wrong, a sentence or two each."""
        found = []
        if self._unoriented:
            found.append(
                f"The headers of {len(self._unoriented)} of {self._count} volume(s) do not state an"
                f" orientation (first: {self._unoriented[0]}). Their axes are assumed to run to the"
                " left, to the front and up. Check the orientation of the slices in summary.png."
            )
        text = intensity.background_warning(self._backgrounds, self._count)
        return [*found, text] if text else found

    def notes(self) -> list[str]:
        """Return what was converted or replaced, a sentence each."""
        found = [
            f"Lengths in the headers of {len(names)} of {self._count} volume(s) were converted from"
            f" {unit} to mm (first: {names[0]})."
            for unit, names in sorted(self._converted.items())
        ]
        if self._filled:
            worst = max(self._filled, key=lambda name: (self._filled[name], name))
            found.append(
                f"`fill` replaced {sum(self._filled.values())} NaN or infinite voxel(s) in"
                f" {len(self._filled)} of {self._count} volume(s) (most in {worst}:"
                f" {self._filled[worst]})."
            )
        return found
