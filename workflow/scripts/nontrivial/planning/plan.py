"""Give each rule its own part of the configuration, as canonical JSON, and nothing else.

A job is stale when its settings change. So they hold only what the job depends on, and equal
settings are equal text. Long lists are in spec files, which are named by their digest.
"""

import functools
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from nontrivial.data.excerpt import excerpt
from nontrivial.errors import UserError
from nontrivial.execution.atomic import write_text
from nontrivial.formats.canonical import canonical, digest
from nontrivial.networks import registry
from nontrivial.networks.kernel_table import Kernel, read_table, structure_digest
from nontrivial.targets import ZEROING
from nontrivial.targets.enumeration import BASELINE, Target, batches, enumerate_targets

RULES_OF_ALL_EXPERIMENTS = {
    *("aggregate", "figures", "judge_claims", "predictions", "summary", "tables", "tabulate_paper"),
}
SPEC_DIGITS = 16  # hex digits of a spec file's digest in its name: 64 bits


@dataclass(frozen=True)
class Spec:
    """A file for a list that is too long for a command line, and its text."""

    path: str
    text: str

    def write(self) -> None:
        """Write the file, unless it exists with this text.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(self.path)
        if not path.exists() or path.read_bytes() != self.text.encode():
            write_text(path, self.text)


class Plan:
    """The jobs that a configuration asks for."""

    def __init__(self, config: dict, root: Path):
        """Plan the jobs of a completed configuration; ``root`` is the folder of the repository."""
        self.config = config
        self.root = Path(root)
        self.results = config["results_dir"].rstrip("/")

    # Networks and trainings

    def kernel_table(self, training: str) -> str:
        """Return the path of the kernel table of a training's network."""
        name = self.config["trainings"][training]["network"]
        if name in self.config["networks"]:
            return self.config["networks"][name]["kernels"]
        return str(self.root / "resources" / "kernels" / registry.NETWORKS[name].table)

    @functools.cache  # noqa: B019  (one plan lives as long as the process)
    def kernels(self, training: str) -> list[Kernel]:
        """Return the kernels of a training's network, in forward order."""
        return read_table(Path(self.kernel_table(training)))

    def structure(self, training: str) -> str:
        """Return the digest of the kernels' paths and shapes, without their roles."""
        return structure_digest(self.kernels(training))

    def table_digest(self, training: str) -> str:
        """Return the digest of the whole kernel table, roles and blocks included."""
        return digest([vars(kernel) for kernel in self.kernels(training)])

    def factory(self, training: str) -> str:
        """Return ``package.module:function`` that builds a training's network."""
        name = self.config["trainings"][training]["network"]
        own = self.config["networks"].get(name)
        return own["factory"] if own else registry.NETWORKS[name].factory

    def task(self, training: str) -> str:
        """Return ``classification`` or ``segmentation``."""
        name = self.config["trainings"][training]["network"]
        own = self.config["networks"].get(name)
        return own["task"] if own else registry.NETWORKS[name].task

    def dataset_settings(self, dataset: str) -> str:
        """Return the settings of prepare."""
        return canonical(self.config["datasets"][dataset])

    def training_settings(self, training: str) -> str:
        """Return the settings of train, which are the same for every seed."""
        return canonical(
            {
                "network": self._network(training),
                "recipe": self.config["trainings"][training]["recipe"],
            }
        )

    # Experiments

    def training(self, experiment: str) -> str:
        """Return the training whose networks an experiment examines."""
        return self.config["experiments"][experiment]["training"]

    def dataset(self, experiment: str) -> str:
        """Return the data set of an experiment."""
        return self.config["trainings"][self.training(experiment)]["dataset"]

    def needed_datasets(self, targets: Iterable[str]) -> list[str]:
        """Return the data sets that rules or files need, as far as their names tell.

        Args:
            targets: names of rules without wildcards, or paths of results.
        """
        return sorted({name for target in targets for name in self._needed_datasets(target)})

    def _needed_datasets(self, target: str) -> list[str]:
        trainings, experiments = self.config["trainings"], list(self.config["experiments"])
        if target in ("all", "data", "networks"):
            return [training["dataset"] for training in trainings.values()]
        folder, *inside = os.path.relpath(target, self.results).split(os.sep)
        name = inside[0] if inside else ""
        if folder in ("figures", "tables"):  # figures/layers-<experiment>.svg
            kind, _, name = os.path.splitext(name)[0].partition("-")
            folder = "networks" if kind == "learning" else name
        if folder == "data":
            return [name] if name in self.config["datasets"] else []
        if folder == "networks":
            return [trainings[name]["dataset"]] if name in trainings else []
        if folder in experiments:
            return [self.dataset(folder)]
        if target in RULES_OF_ALL_EXPERIMENTS or (folder != os.pardir and not (inside and name)):
            return [self.dataset(experiment) for experiment in experiments]
        return []

    def seeds(self, experiment: str) -> list[int]:
        """Return the seeds of an experiment's training, in increasing order."""
        return sorted(self.config["trainings"][self.training(experiment)]["seeds"])

    @functools.cache  # noqa: B019
    def targets(self, experiment: str) -> dict[str, Target]:
        """Return the zeroing targets of an experiment by name, in canonical order.

        Raises:
            UserError: a named set holds a path or a glob that matches no kernel.
        """
        settings = self.config["experiments"][experiment]
        try:
            targets = enumerate_targets(
                self.kernels(self.training(experiment)),
                settings["sets"],
                settings["readings"],
                settings["named_sets"],
                self.config["batch_by"],
            )
        except UserError as error:
            raise UserError(f"experiments.{experiment}: {error}") from error
        return {target.name: target for target in targets}

    @functools.cache  # noqa: B019
    def batches(self, experiment: str) -> dict[str, Spec]:
        """Return the spec of every predict job of an experiment, by batch name."""
        members = batches(self.targets(experiment).values())
        return {
            batch: self._spec({"targets": [_entry(target) for target in targets]})
            for batch, targets in members.items()
        }

    def prediction_settings(self, experiment: str) -> str:
        """Return the settings of predict; its targets are in a spec file."""
        settings = self.config["experiments"][experiment]
        return canonical(
            {
                "network": self._network(self.training(experiment)),
                "precision": settings["precision"],
                "batch_size": settings["batch_size"],
                "split": settings["split"],
            }
        )

    def evaluation_settings(self, experiment: str, target: str) -> str:
        """Return the settings of evaluate for one target over all seeds."""
        chosen = self.targets(experiment)[target]
        training = self.training(experiment)
        network = self.config["trainings"][training]["network"]
        return canonical(
            {
                "experiment": experiment,
                "training": training,
                "dataset": self.dataset(experiment),
                "network": network,
                "stem": registry.stem_of(network),
                "seeds": self.seeds(experiment),
                "split": self.config["experiments"][experiment]["split"],
                "intervention": ZEROING,
                "parameters": {},
                "target": chosen.name,
                "kind": chosen.kind,
                "reading": chosen.reading,
                "kernels": list(chosen.kernels),
                "order": chosen.order,
                "role": chosen.role,
                "block": chosen.block,
                "margin": self.config["margin"],
            }
        )

    def seed_folder(self, experiment: str, seed: int | str) -> str:
        """Return the folder with what predict jobs store for one trained network."""
        return f"{self.results}/{experiment}/seed{seed}/{ZEROING}"

    def target_file(self, experiment: str, target: str) -> str:
        """Return the file with the metrics of one target over all seeds."""
        return f"{self.results}/{experiment}/{ZEROING}/targets/{target}.parquet"

    def target_files(self) -> list[str]:
        """Return the target files of all experiments, in summary order."""
        return [
            self.target_file(experiment, target)
            for experiment in sorted(self.config["experiments"])
            for target in self.targets(experiment)
        ]

    @functools.cache  # noqa: B019
    def target_list(self) -> Spec:
        """Return the spec of aggregate: the list of all target files."""
        return self._spec({"files": self.target_files()})

    # Figures, tables, report

    def with_kinds(self, *kinds: str) -> list[str]:
        """Return the experiments that have a target of one of the kinds, sorted by name."""
        return sorted(
            name
            for name in self.config["experiments"]
            if any(target.kind in kinds for target in self.targets(name).values())
        )

    def segmentations(self) -> list[str]:
        """Return the segmentation experiments, sorted by name."""
        experiments = self.config["experiments"]
        return sorted(
            name for name in experiments if self.task(self.training(name)) == "segmentation"
        )

    @functools.cache  # noqa: B019
    def example_targets(self, experiment: str) -> Spec:
        """Return the spec of the targets that example slices show, the baseline first.

        Raises:
            UserError: the configuration names a target that the experiment does not have.
        """
        known = self.targets(experiment)
        wanted = self.config["experiments"][experiment]["examples"]["targets"]
        for name in wanted:
            if name not in known:
                raise UserError(
                    f"experiments.{experiment}.examples.targets: no target '{name}'. The experiment"
                    f" has {excerpt(list(known), 8)}"
                )
        names = list(dict.fromkeys([BASELINE, *(wanted or _default_examples(known))]))
        first: dict[str, str] = {}
        for name in names:
            other = first.setdefault(known[name].stored_as, name)
            if other != name:
                raise UserError(
                    f"experiments.{experiment}.examples.targets: '{other}' and '{name}' zero the"
                    " same kernels. Remove one of them."
                )
        return self._spec({"targets": [_entry(known[name]) for name in names]})

    def example_names(self, experiment: str) -> list[str]:
        """Return the names of those targets, the baseline first."""
        return [
            target["name"]
            for target in json.loads(self.example_targets(experiment).text)["targets"]
        ]

    def example_settings(self, experiment: str) -> str:
        """Return the settings of predict_examples; its targets are in a spec file."""
        settings = self.config["experiments"][experiment]
        return canonical(
            {
                "network": self._network(self.training(experiment)),
                "precision": settings["precision"],
                "split": settings["split"],
                "subjects": settings["examples"]["subjects"],
            }
        )

    def beside_the_paper(self, experiment: str) -> dict[str, str | None]:
        """Return the paper's task that an experiment is compared with, and its data's source."""
        source = self.config["datasets"][self.dataset(experiment)]["source"]
        return {"paper": self.config["experiments"][experiment]["paper"], "source": source}

    def paper_settings(self) -> str:
        """Return the settings of the tables and claims beside the paper."""
        names = sorted(self.config["experiments"])
        return canonical(
            {"experiments": [{"name": name, **self.beside_the_paper(name)} for name in names]}
        )

    def figure_settings(self, **subject: object) -> str:
        """Return the settings of a figure: its subject and the ``plots`` section."""
        return canonical({**subject, **self.config["plots"]})

    def specs(self) -> list[Spec]:
        """Return every spec file that the jobs of this configuration read."""
        predicted = [
            spec for name in self.config["experiments"] for spec in self.batches(name).values()
        ]
        examples = map(self.example_targets, self.segmentations())
        return [*predicted, *examples, self.target_list()]

    def _network(self, training: str) -> dict:
        name = self.config["trainings"][training]["network"]
        own = self.config["networks"].get(name)
        return {
            "name": name,
            "factory": self.factory(training),
            "arguments": own["arguments"] if own else {},
        }

    def _spec(self, content: object) -> Spec:
        return Spec(
            f"{self.results}/specs/{digest(content)[:SPEC_DIGITS]}.json", canonical(content) + "\n"
        )


def _entry(target: Target) -> dict:
    return {"name": target.name, "kernels": list(target.kernels)}


def _default_examples(targets: dict[str, Target]) -> list[str]:
    # Fixed before any result is known: the interior of every block in its first reading, then the
    # first shortcut.
    blocks: dict[int | None, str] = {}
    for target in targets.values():
        if target.kind == "block":
            blocks.setdefault(target.block, target.name)
    shortcuts = [target.name for target in targets.values() if target.kind == "shortcut"]
    return [*blocks.values(), *shortcuts[:1]]
