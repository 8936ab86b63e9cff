"""After a change, exactly what depends on it is stale: never more, never less."""

import os
import shutil
import time

import nibabel
import numpy as np
import pytest

DIGITS = ("layers", "interventions", "map")
BLOCKS = (1, 2, 3, 4)
LAYER_BATCHES = ("layers-stem", *(f"layers-{n}" for n in BLOCKS))


def numbers():
    """Return the jobs that follow whenever any number changes."""
    return (
        {"aggregate", "tabulate_paper", "judge_claims"}
        | {f"tabulate_targets {name}" for name in ("digits", "t1")}
        | {f"plot_{figure} digits" for figure in DIGITS}
        | {"plot_interventions t1"}
    )


def figures():
    """Return every job that draws a figure."""
    return {f"plot_{figure} digits" for figure in DIGITS} | {
        "plot_interventions t1",
        "plot_slices t1",
        "plot_learning digits-resnet18",
        "plot_learning t1-pspnet",
    }


def targets(finished, experiment):
    """Return the targets of an experiment, from its finished results."""
    folder = finished.path(f"results/{experiment}/seed0/zero/targets")
    return {path.stem for path in folder.glob("*.parquet")}


def evaluations(finished, experiment, seed=0):
    return {f"evaluate {experiment} {seed} {name}" for name in targets(finished, experiment)}


def predictions(experiment, seed=0):
    batches = ("baseline", "blocks-first-unit")
    batches += LAYER_BATCHES if experiment == "digits" else ("shortcuts",)
    return {f"predict {experiment} {seed} {batch}" for batch in batches}


def below_training(finished, experiment, training):
    """Return what follows when the weights of an experiment's network change."""
    jobs = predictions(experiment) | evaluations(finished, experiment) | numbers()
    jobs |= {f"train {training} 0", f"plot_learning {training}"}
    return jobs | ({"predict_examples t1 0", "plot_slices t1"} if experiment == "t1" else set())


def test_nothing_is_stale_after_a_run(finished_once):
    start = time.perf_counter()
    assert finished_once.stale() == set()
    print(f"dry run of a finished workflow: {time.perf_counter() - start:.1f} s")


# Configuration


def test_plot_key(finished):
    finished.config = {**finished.config, "plots": {"dpi": 150}}
    assert finished.stale() == figures()


def test_new_named_set(finished):
    config = finished.config
    config["experiments"]["digits"]["named_sets"] = {"mine": ["layer3.*.conv2"]}
    finished.config = config
    expected = {"predict digits 0 set-mine", "evaluate digits 0 set-mine"}
    assert finished.stale() == expected | numbers()


def test_another_reading(finished):
    config = finished.config
    config["experiments"]["digits"]["readings"] = ["next", "first-unit"]
    finished.config = config
    # Blocks 2 to 4 zero the same kernels in both readings: block 1 alone is predicted anew.
    expected = {f"evaluate digits 0 block-{n}-next" for n in BLOCKS}
    assert finished.stale() == expected | {"predict digits 0 blocks-next"} | numbers()


def test_one_more_seed(finished):
    config = finished.config
    config["trainings"]["digits-resnet18"]["seeds"] = [0, 7]
    finished.config = config
    expected = {"train digits-resnet18 7", "plot_learning digits-resnet18"}
    expected |= predictions("digits", 7) | evaluations(finished, "digits", 7)
    assert finished.stale() == expected | numbers()


def test_second_experiment_on_the_same_training_trains_nothing(finished):
    config = finished.config
    config["experiments"]["again"] = {"training": "digits-resnet18", "sets": ["shortcut"]}
    finished.config = config
    expected = {f"predict again 0 {batch}" for batch in ("baseline", "shortcuts")}
    expected |= {f"evaluate again 0 {name}" for name in ("baseline", "shortcut-2", "shortcut-3")}
    expected |= {"evaluate again 0 shortcut-4", "tabulate_targets again"}
    assert finished.stale() == expected | numbers() | {"plot_interventions again"}


def test_learning_rate_of_one_training(finished):
    config = finished.config
    config["trainings"]["digits-resnet18"]["recipe"]["learning_rate"] = 0.04
    finished.config = config
    assert finished.stale() == below_training(finished, "digits", "digits-resnet18")


def test_slicing_axis(finished):
    config = finished.config
    config["datasets"]["t1"]["axis"] = "sagittal"
    config["datasets"]["t1"]["size"] = [32, 16]
    finished.config = config
    assert finished.stale() == below_training(finished, "t1", "t1-pspnet") | {"prepare t1"}


def test_two_numbers_swapped(finished):
    config = finished.config
    changes = config["trainings"]["t1-pspnet"]["recipe"]["augmentation"]
    changes["rotation"], changes["translation"] = changes["translation"], changes["rotation"]
    finished.config = config
    assert finished.stale() == below_training(finished, "t1", "t1-pspnet")


def test_two_booleans_swapped(finished):
    config = finished.config
    data = config["datasets"]["t1"]
    changes = config["trainings"]["t1-pspnet"]["recipe"]["augmentation"]
    assert data["keep_empty"] is not changes["flip"]
    data["keep_empty"], changes["flip"] = changes["flip"], data["keep_empty"]
    finished.config = config
    assert finished.stale() == below_training(finished, "t1", "t1-pspnet") | {"prepare t1"}


def test_margin_evaluates_anew_and_predicts_nothing(finished):
    finished.config = {**finished.config, "margin": 0.02}
    expected = evaluations(finished, "digits") | evaluations(finished, "t1")
    assert finished.stale() == expected | numbers()


def test_keys_reordered(finished):
    def reversed_keys(value):
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return value

    finished.config = reversed_keys(finished.config)
    assert finished.stale() == set()


@pytest.mark.parametrize("arguments", [["--cores", "1"], ["--resources", "gpu=3"]])
def test_the_machine_does_not_matter(finished_once, arguments):
    assert finished_once.stale(*arguments) == set()


# Times of files


@pytest.mark.parametrize(
    "what", ["Snakefile", "rules", "workflow", "resources", "envs", "config", "test.yaml", "raw"]
)
def test_touched_sources_and_inputs(finished, what):
    path = finished.path(what)
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        os.utime(file)
    assert finished.stale() == set()


def test_touched_outputs(finished):
    for file in sorted(p for p in finished.path("results").rglob("*") if p.is_file()):
        os.utime(file)
        time.sleep(0.001)  # in an order that is not the order of making
    assert finished.stale() == set()


def test_moved_folder(finished, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(finished.folder, elsewhere)
    finished.folder = elsewhere
    assert finished.stale() == set()


# Code


def edit(finished, name, old, new):
    path = finished.path(name)
    text = path.read_text()
    assert old in text, f"{old!r} does not stand in {name}"
    path.write_text(text.replace(old, new, 1))


def module(finished, name):
    """Return the path of a module of ours, wherever it stands in the package."""
    package = finished.path("workflow/scripts/nontrivial")
    (found,) = package.rglob(f"{name}.py")
    return found.relative_to(finished.folder)


def test_comment_and_docstring_in_a_module_that_train_imports(finished):
    path = finished.path(module(finished, "loop"))
    text = path.read_text()
    assert text.startswith('"""')
    path.write_text(text.replace('"""', '"""Said better: ', 1) + "\n# A comment.\n")
    assert finished.stale() == set()


def test_edit_in_the_training_loop(finished):
    path = finished.path(module(finished, "loop"))
    path.write_text(path.read_text() + "\nEDITED = True\n")
    expected = below_training(finished, "digits", "digits-resnet18")
    assert finished.stale() == expected | below_training(finished, "t1", "t1-pspnet")


def test_edit_in_a_module_that_only_figures_import(finished):
    path = finished.path(module(finished, "figure_style"))
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert finished.stale() == figures()


def test_edit_in_the_code_of_evaluate(finished):
    path = finished.path("workflow/scripts/evaluate_target.py")
    path.write_text(path.read_text() + "\nEDITED = True\n")
    expected = evaluations(finished, "digits") | evaluations(finished, "t1")
    assert finished.stale() == expected | numbers()


def test_relabelled_role_draws_and_evaluates_but_trains_nothing(finished):
    table = "resources/kernels/resnet18.tsv"
    old = next(
        line for line in finished.path(table).read_text().splitlines() if "\tresidual" in line
    )
    edit(finished, table, old, old.replace("\tresidual", "\tadjacent"))
    stale = finished.stale()
    assert stale == {f"evaluate digits 0 layer-{old.split(chr(9))[1]}"} | numbers()


# Data


def test_edit_to_one_volume(finished):
    path = finished.path("raw/images/s03.nii.gz")
    volume = nibabel.load(path)
    array = np.asanyarray(volume.dataobj).copy()
    array[0, 0, 0] += 1
    nibabel.save(nibabel.Nifti1Image(array, volume.affine), path)
    assert finished.stale() == below_training(finished, "t1", "t1-pspnet") | {"prepare t1"}


def test_volume_replaced_by_an_older_file(finished):
    source, path = finished.path("raw/images/s04.nii.gz"), finished.path("raw/images/s03.nii.gz")
    shutil.copy2(source, path)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert finished.stale() == below_training(finished, "t1", "t1-pspnet") | {"prepare t1"}


def test_preparing_again_with_the_same_result_reruns_nothing_further(finished):
    finished.run("--forcerun", "prepare", "--until", "prepare")
    assert finished.stale() == set()


def test_preparing_again_with_the_same_result_trains_nothing_in_one_run(finished):
    # Snakemake runs whatever stands below a job that it runs; the program keeps its network.
    history = finished.path("results/networks/digits-resnet18/seed0/training.parquet")
    before = history.read_bytes()  # it holds the seconds of each epoch
    predictions = finished.path("results/digits/seed0/zero/predictions")
    number = (predictions / ".kept/layers-1.parquet").stat().st_ino  # of the kept file
    finished.run("--forcerun", "prepare", "--until", "predict")
    assert history.read_bytes() == before
    assert (predictions / "layers-1.parquet").stat().st_ino == number
    assert finished.stale() == set()


# Results


def test_deleted_target(finished):
    finished.path("results/digits/seed0/zero/targets/layer-conv1.parquet").unlink()
    assert finished.stale() == {"evaluate digits 0 layer-conv1"} | numbers()


def test_deleted_weights_are_not_missed_until_something_needs_them(finished):
    finished.path("results/networks/t1-pspnet/seed0/model.safetensors").unlink()
    assert finished.stale() == set()


@pytest.mark.parametrize(
    ("deleted", "job"),
    [
        ("data/t1/dataset.json", "prepare t1"),
        ("networks/t1-pspnet/seed0/model.json", "train t1-pspnet 0"),
        ("t1/seed0/zero/predictions/baseline.json", "predict t1 0 baseline"),
        ("t1/seed0/zero/targets/baseline.parquet", "evaluate t1 0 baseline"),
        ("summary.parquet", "aggregate"),
    ],
)
def test_what_a_failed_job_leaves_missing_is_made_again(finished, deleted, job):
    finished.path(f"results/{deleted}").unlink()
    assert job in finished.stale()


def test_accepting_results_after_an_upgrade(finished):
    path = finished.path(module(finished, "loop"))
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert finished.stale()
    finished.run("--touch")
    assert finished.stale() == set()
