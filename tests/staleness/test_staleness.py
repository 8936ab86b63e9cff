"""After a change, exactly the jobs that depend on it are stale: never more, never less."""

import os
import shutil
import time

import nibabel
import numpy as np
import pytest

from nontrivial.formats import preparation_file

FIGURES_OF_DIGITS = ("layers", "interventions", "map")
BLOCKS = (1, 2, 3, 4)
SHORTCUTS = (2, 3, 4)
TRAININGS = {"digits": "digits-resnet18", "t1": "t1-pspnet"}
BATCHES = {
    "digits": ("baseline", "layers", "blocks-first-unit"),
    "t1": ("baseline", "blocks-first-unit", "shortcuts"),
}


# Sets of jobs


def numbers():
    """Return the jobs that follow whenever any result changes."""
    return (
        {"aggregate", "tabulate_paper", "judge_claims"}
        | {f"tabulate_targets {name}" for name in TRAININGS}
        | {f"plot_{figure} digits" for figure in FIGURES_OF_DIGITS}
        | {"plot_interventions t1"}
    )


def figures():
    """Return every job that draws a figure."""
    return (
        {f"plot_{figure} digits" for figure in FIGURES_OF_DIGITS}
        | {"plot_interventions t1", "plot_slices t1"}
        | {f"plot_learning {training}" for training in TRAININGS.values()}
    )


def data(dataset):
    """Return the jobs that run when a data set changes, besides those that use it."""
    return {f"prepare {dataset}", f"summarize {dataset}"}


def evaluate(experiment, *targets):
    return {f"evaluate {experiment} {target}" for target in targets}


def evaluate_all(finished, experiment):
    """Return the evaluate jobs of every target that the finished run has results of."""
    folder = finished.path(f"results/{experiment}/zero/targets")
    return evaluate(experiment, *(path.stem for path in folder.glob("*.parquet")))


def predict(experiment, *batches, seed=0):
    return {f"predict {experiment} {seed} {batch}" for batch in batches}


def below_training(finished, experiment):
    """Return what follows when the recipe or the data of an experiment's network change."""
    return below_weights(finished, experiment) | {f"check_network {TRAININGS[experiment]}"}


def below_weights(finished, experiment):
    """Return train and what follows when an experiment's network is trained again."""
    jobs = predict(experiment, *BATCHES[experiment]) | evaluate_all(finished, experiment)
    jobs |= {f"train {TRAININGS[experiment]} 0", f"plot_learning {TRAININGS[experiment]}"}
    jobs |= {"predict_examples t1 0", "plot_slices t1"} if experiment == "t1" else set()
    return jobs | numbers()


def test_nothing_is_stale_after_a_run(finished_once):
    start = time.perf_counter()
    assert finished_once.stale() == set()
    print(f"dry run of a finished workflow: {time.perf_counter() - start:.1f} s")


# Every change that the design lists, with its jobs


def named_set(finished, config):
    config["experiments"]["digits"]["named_sets"] = {"mine": ["layer3.*.conv2"]}
    return predict("digits", "set-mine") | evaluate("digits", "set-mine") | numbers()


def another_reading(finished, config):
    config["experiments"]["digits"]["readings"] = ["next", "first-unit"]
    jobs = predict("digits", "blocks-next")
    return jobs | evaluate("digits", *(f"block-{n}-next" for n in BLOCKS)) | numbers()


def another_set(finished, config):
    config["experiments"]["t1"]["sets"] = ["shortcut", "layer", "block"]
    table = finished.path("resources/kernels/pspnet_resnet34.tsv").read_text().splitlines()
    layers = [f"layer-{line.split(chr(9))[1]}" for line in table[1:]]
    # Each shortcut kernel is a layer too, and is now read from the predictions of the layers.
    jobs = evaluate("t1", *layers, *(f"shortcut-{n}" for n in SHORTCUTS)) | predict("t1", "layers")
    return jobs | numbers() | {"plot_layers t1", "plot_map t1"}


def one_more_seed(finished, config):
    config["trainings"]["digits-resnet18"]["seeds"] = [0, 7]
    jobs = {"train digits-resnet18 7", "plot_learning digits-resnet18"}
    jobs |= predict("digits", *BATCHES["digits"], seed=7)
    return jobs | evaluate_all(finished, "digits") | numbers()


def deleted_target(finished, config):
    finished.path("results/digits/zero/targets/layer-conv1.parquet").unlink()
    return evaluate("digits", "layer-conv1") | numbers()


def margin(finished, config):
    config["margin"] = 0.02
    return evaluate_all(finished, "digits") | evaluate_all(finished, "t1") | numbers()


def plots(finished, config):
    config["plots"] = {"dpi": 150}
    return figures()


def captions(finished, config):
    for caption in finished.path("workflow/report").glob("*.rst"):
        caption.write_text(caption.read_text() + "\nAnother sentence.\n")
    return set()


@pytest.mark.parametrize(
    "change",
    [
        named_set,
        another_reading,
        another_set,
        one_more_seed,
        deleted_target,
        margin,
        plots,
        captions,
    ],
)
def test_jobs_after_a_change(finished, change):
    config = finished.config
    expected = change(finished, config)
    finished.config = config
    assert finished.stale() == expected


def test_second_experiment_on_the_same_training_trains_nothing(finished):
    config = finished.config
    config["experiments"]["again"] = {"training": "digits-resnet18", "sets": ["shortcut"]}
    finished.config = config
    expected = predict("again", "baseline", "shortcuts")
    expected |= evaluate("again", "baseline", *(f"shortcut-{n}" for n in SHORTCUTS))
    expected |= {"tabulate_targets again", "plot_interventions again"}
    assert finished.stale() == expected | numbers()


def test_learning_rate_of_one_training(finished):
    config = finished.config
    config["trainings"]["digits-resnet18"]["recipe"]["learning_rate"] = 0.04
    finished.config = config
    assert finished.stale() == below_training(finished, "digits")


def test_slicing_axis(finished):
    config = finished.config
    config["datasets"]["t1"]["axis"] = "sagittal"
    config["datasets"]["t1"]["size"] = [32, 16]
    finished.config = config
    assert finished.stale() == below_training(finished, "t1") | data("t1")


def test_two_numbers_swapped(finished):
    config = finished.config
    changes = config["trainings"]["t1-pspnet"]["recipe"]["augmentation"]
    changes["rotation"], changes["translation"] = changes["translation"], changes["rotation"]
    finished.config = config
    assert finished.stale() == below_training(finished, "t1")


def test_two_booleans_swapped(finished):
    config = finished.config
    volumes = config["datasets"]["t1"]
    changes = config["trainings"]["t1-pspnet"]["recipe"]["augmentation"]
    assert volumes["keep_empty"] is not changes["flip"]
    volumes["keep_empty"], changes["flip"] = changes["flip"], volumes["keep_empty"]
    finished.config = config
    assert finished.stale() == below_training(finished, "t1") | data("t1")


# Changes that make nothing stale. One dry run covers several: a stale job would show in it.


def reversed_keys(value):
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def test_settings_that_no_result_depends_on(finished):
    finished.config = {**reversed_keys(finished.config), "checkpoint_minutes": 3}
    machine = ["--cores", "1", "--resources", "gpu=3", "--default-resources", "runtime=60"]
    assert finished.stale(*machine, "--set-threads", "predict=5") == set()


def test_sources_and_inputs_with_comments_and_new_times(finished):
    loop = finished.path(module(finished, "loop"))
    text = loop.read_text()
    assert text.startswith('"""')
    loop.write_text(text.replace('"""', '"""Said better: ', 1) + "\n# A comment.\n")
    for name in ("Snakefile", "rules", "workflow", "resources", "envs", "config", "raw"):
        path = finished.path(name)
        for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
            os.utime(file)
    os.utime(finished.path("test.yaml"))
    assert finished.stale() == set()


def test_outputs_with_new_times_in_another_folder(finished, tmp_path):
    for file in sorted(p for p in finished.path("results").rglob("*") if p.is_file()):
        os.utime(file)
        time.sleep(0.001)  # in an order that is not the order of making
    elsewhere = tmp_path / "elsewhere"
    shutil.move(finished.folder, elsewhere)
    finished.folder = elsewhere
    assert finished.stale() == set()


def test_deleted_files_that_no_result_depends_on(finished):
    for name in ("benchmarks", "logs", "specs"):
        shutil.rmtree(finished.path(f"results/{name}"))
    # Evaluated predictions are complete; only a new prediction needs the weights.
    finished.path("results/networks/t1-pspnet/seed0/model.safetensors").unlink()
    assert finished.stale() == set()


# Code


def module(finished, name):
    """Return the path of a library module in the workflow's folder."""
    package = finished.path("workflow/scripts/nontrivial")
    (found,) = package.rglob(f"{name}.py")
    return found.relative_to(finished.folder)


def edit(finished, name):
    path = finished.path(name)
    path.write_text(path.read_text() + "\nEDITED = True\n")


def test_edit_in_the_training_loop_and_accepting_the_results(finished):
    edit(finished, module(finished, "loop"))
    expected = below_weights(finished, "digits") | below_weights(finished, "t1")
    assert finished.stale() == expected
    finished.run("--touch")
    assert finished.stale() == set()


def test_edit_in_a_module_that_only_figures_import(finished):
    edit(finished, module(finished, "figure_style"))
    assert finished.stale() == figures() | {"summarize digits", "summarize t1"}


def test_edit_in_the_code_of_the_data_summary(finished):
    edit(finished, "workflow/scripts/summarize_dataset.py")
    assert finished.stale() == {"summarize digits", "summarize t1"}


def test_edit_in_the_code_of_evaluate(finished):
    edit(finished, "workflow/scripts/evaluate_target.py")
    expected = evaluate_all(finished, "digits") | evaluate_all(finished, "t1")
    assert finished.stale() == expected | numbers()


def test_relabelled_role_draws_and_evaluates_but_trains_nothing(finished):
    path = finished.path("resources/kernels/resnet18.tsv")
    lines = path.read_text().splitlines(keepends=True)
    index = next(i for i, line in enumerate(lines) if "\tresidual" in line)
    kernel = lines[index].split("\t")[1]
    lines[index] = lines[index].replace("\tresidual", "\tadjacent")
    path.write_text("".join(lines))
    assert finished.stale() == evaluate("digits", f"layer-{kernel}") | numbers()


# Data


def test_edit_to_one_volume(finished):
    path = finished.path("raw/images/s03.nii.gz")
    volume = nibabel.load(path)
    array = np.asanyarray(volume.dataobj).copy()
    array[0, 0, 0] += 1
    nibabel.save(nibabel.Nifti1Image(array, volume.affine), path)
    assert finished.stale() == below_training(finished, "t1") | data("t1")


def test_volume_replaced_by_an_older_file(finished):
    source, path = finished.path("raw/images/s04.nii.gz"), finished.path("raw/images/s03.nii.gz")
    shutil.copy2(source, path)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert finished.stale() == below_training(finished, "t1") | data("t1")


def test_another_warning_summarizes_the_data_again_and_trains_nothing(finished):
    path = finished.path("results/data/t1/preparation.json")
    preparation = preparation_file.read(path)
    preparation.warnings.append("Another.")
    preparation_file.write(path, preparation)
    assert finished.stale() == {"summarize t1"}
    finished.run("data")
    assert "- Another." in finished.path("results/data/t1/summary.md").read_text()
    assert finished.stale() == set()


def test_preparing_again_with_the_same_result_reruns_nothing_further(finished):
    finished.run("--forcerun", "prepare", "--until", "prepare")
    assert finished.stale() == set()


def test_preparing_again_with_the_same_result_reuses_every_result_below(finished):
    # Snakemake runs every job below one that it runs; the programs reuse their earlier results.
    history = finished.path("results/networks/digits-resnet18/seed0/training.parquet")
    before = history.read_bytes()  # it holds the seconds of each epoch
    predictions = finished.path("results/digits/seed0/zero/predictions")
    inode = (predictions / ".kept/layers.parquet").stat().st_ino
    finished.run("--forcerun", "prepare", "--until", "predict")
    assert history.read_bytes() == before
    assert (predictions / "layers.parquet").stat().st_ino == inode
    assert finished.stale() == set()


# Results


@pytest.mark.parametrize(
    ("deleted", "jobs"),
    [
        (
            ("data/t1/dataset.json", "networks/digits-resnet18/seed0/model.json"),
            {"prepare t1", "train digits-resnet18 0"},
        ),
        (
            (
                "t1/seed0/zero/predictions/baseline.json",
                "digits/zero/targets/baseline.parquet",
            ),
            predict("t1", "baseline") | evaluate("digits", "baseline"),
        ),
        (("summary.parquet",), {"aggregate"}),
    ],
)
def test_results_that_a_failed_job_leaves_missing_are_made_again(finished, deleted, jobs):
    for name in deleted:
        finished.path(f"results/{name}").unlink()
    assert jobs <= finished.stale()
