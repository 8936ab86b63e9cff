"""The workflow on a real SLURM, through its profile: bundles, GPU limits, failures."""

import contextlib
import getpass
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pandas
import plugin_environment
import psutil
import pytest
import small_cluster
from conftest import Workflow, copy_workflow

pytestmark = pytest.mark.slow

# Three trainings for two GPUs, and few targets.
CONFIG = {
    "datasets": {
        "digits": {"source": "digits", "fractions": {"train": 0.2, "val": 0.1, "test": 0.7}},
    },
    "trainings": {
        "digits": {
            "dataset": "digits",
            "network": "resnet18",
            "seeds": [0, 1, 2],
            "recipe": {"epochs": 5, "batch_size": 32, "learning_rate": 0.05, "threads": 1},
        },
    },
    "experiments": {"digits": {"training": "digits", "sets": ["shortcut"]}},
}
THREADS = ["--set-threads", "predict=1"]
# These jobs are short, and no other user shares this controller.
ASK_OFTEN = ["--seconds-between-status-checks=1", "--slurm-init-seconds-before-status-checks=1"]
DEADLINE = 1200  # seconds that any step may take on a busy host


@pytest.fixture(scope="module")
def cluster():
    """Yield a real SLURM cluster with two nodes, one GPU each."""
    if os.geteuid() != 0:
        pytest.skip("slurmd runs jobs only as root")
    if small_cluster.missing_programs():
        try:
            small_cluster.install_programs()
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"slurm-wlm and munge could not be installed: {error}")
    with small_cluster.Cluster() as running:
        yield running


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return the Python of an environment with the SLURM plugin."""
    try:
        return plugin_environment.make(tmp_path_factory.mktemp("environment") / "venv")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"Snakemake's plugin for SLURM cannot be installed: {error.stderr}")


@pytest.fixture(scope="module")
def local_summary(tmp_path_factory):
    """Return the summary of a run without a cluster, with the same threads."""
    workflow = copy_workflow(tmp_path_factory.mktemp("local") / "workflow")
    workflow.config = CONFIG
    workflow.run("summary", *THREADS)
    return pandas.read_parquet(workflow.path("results/summary.parquet"))


@dataclass
class Job:
    """A job in the queue."""

    number: str
    state: str
    comment: str
    nodes: str

    @property
    def on_gpu(self) -> bool:
        return self.state == "RUNNING" and bool(re.match("rule_(train|predict)", self.comment))


@dataclass
class Run:
    """A Snakemake that submits to the cluster."""

    workflow: Workflow
    cluster: small_cluster.Cluster
    process: subprocess.Popen
    # The nodes of the jobs that had a GPU, each time the queue was read.
    gpu_nodes: list[list[str]] = field(default_factory=list)

    def queue(self) -> list[Job]:
        listed = self.cluster.run("squeue", "-h", "-o", "%i|%T|%k|%N").splitlines()
        jobs = [Job(*line.split("|")) for line in listed]
        self.gpu_nodes.append([job.nodes for job in jobs if job.on_gpu])
        return jobs

    def training(self, seed: int) -> Job:
        (job,) = [
            job for job in self.queue() if job.comment.endswith(f"train_wildcards_digits_{seed}")
        ]
        return job

    def log(self, seed: int) -> str:
        path = self.workflow.path(f"results/logs/train/digits-seed{seed}.log")
        return path.read_text() if path.exists() else ""

    def output(self) -> str:
        return self.workflow.path("snakemake.txt").read_text()

    def wait_for(self, condition, what: str) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            self.queue()
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < end, f"timed out waiting for {what}: {self.output()}"
            time.sleep(0.1)

    def finish(self) -> None:
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            self.queue()
            assert time.monotonic() < end, self.output()
            time.sleep(0.5)
        assert self.process.returncode == 0, self.output()

    def submitted(self) -> list[str]:
        """Return the SLURM job IDs of the submitted jobs."""
        return re.findall(r"submitted with SLURM jobid (\d+)", self.output())

    def summary(self):
        return pandas.read_parquet(self.workflow.path("results/summary.parquet"))


@pytest.fixture
def start(cluster, python, tmp_path):
    """Yield a function that starts the workflow on the cluster; then cancel remaining jobs."""
    runs = []

    def start_workflow(*targets, **edited):
        workflow = Workflow(tmp_path / "workflow")
        if not workflow.folder.exists():
            copy_workflow(workflow.folder).config = CONFIG
        profile = workflow.path("profiles/slurm/config.yaml")
        for name, value in edited.items():
            profile.write_text(profile.read_text().replace(f"{name}: null", f"{name}: {value}"))
        line = [python, "-m", "snakemake", *targets, "--configfile", "test.yaml", *ASK_OFTEN]
        with open(workflow.path("snakemake.txt"), "w") as output:
            process = subprocess.Popen(
                [*line, "--workflow-profile", "profiles/slurm", *THREADS],
                cwd=workflow.folder,
                env={**cluster.environment, "OMP_NUM_THREADS": "1"},
                stdout=output,
                stderr=output,
            )
        runs.append(Run(workflow, cluster, process))
        return runs[-1]

    yield start_workflow
    for run in runs:
        run.process.kill()
        run.process.wait()
    cluster.run("scancel", "--user", getpass.getuser())


def test_few_jobs_use_both_gpus_and_give_the_results_of_one_host(start, cluster, local_summary):
    run = start()
    run.wait_for(lambda: len(run.submitted()) == 1 + 1 + 3, "the trainings")
    asked = cluster.run("scontrol", "show", "job", run.training(2).number)
    assert "TresPerJob=gres:gpu:1" in asked
    assert "TimeLimit=1-00:00:00" in asked
    assert "Requeue=1" in asked
    run.finish()
    # Data, checks, trainings, predictions of each network, evaluations, summary.
    assert len(run.submitted()) == 1 + 1 + 3 + 3 + 1 + 1
    # Both GPUs were in use, each by one job at a time.
    assert max(map(len, run.gpu_nodes)) == 2
    assert all(len(set(nodes)) == len(nodes) for nodes in run.gpu_nodes)
    pandas.testing.assert_frame_equal(run.summary(), local_summary)
    again = start()
    again.finish()
    assert "Nothing to be done" in again.output()


def test_cancelled_and_requeued_jobs_a_lost_node_and_a_killed_snakemake(
    start, cluster, local_summary
):
    # The partition's name is also that of a Python function, which the profile must not call.
    run = start("summary", gpu_partition="max", gpu_model="small")
    run.wait_for(lambda: sum("epoch 1/" in run.log(seed) for seed in range(3)) == 2, "trainings")
    cancelled, requeued = [seed for seed in range(3) if "epoch 1/" in run.log(seed)]
    (waiting,) = {0, 1, 2} - {cancelled, requeued}
    asked = cluster.run("scontrol", "show", "job", run.training(waiting).number)
    assert "Partition=max" in asked
    assert "TresPerJob=gres:gpu:small:1" in asked
    cluster.run("scancel", run.training(cancelled).number)
    cluster.run("scontrol", "requeue", run.training(requeued).number)

    run.wait_for(lambda: "epoch 1/" in run.log(waiting), "the third training")
    lost = run.training(waiting)
    cluster.run("scontrol", "update", f"NodeName={lost.nodes}", "State=DOWN", "Reason=test")
    run.wait_for(lambda: run.training(waiting).state == "PENDING", "the loss of the node")
    # It may be back already: its daemon registers it again (ReturnToService=2).
    if "State=DOWN" in cluster.run("scontrol", "show", "node", lost.nodes):
        cluster.run("scontrol", "update", f"NodeName={lost.nodes}", "State=RESUME")

    # Snakemake resubmits only the cancelled job; SLURM restarts the others.
    run.wait_for(lambda: len(run.submitted()) == 1 + 3 + 1, "the second attempt")
    run.process.kill()
    run.process.wait()
    (name,) = re.findall("SLURM run ID: (nontrivial_.*)", run.output())
    cluster.run("scancel", f"--name={name}")
    while run.queue():
        time.sleep(0.1)
    again = start("summary")
    again.finish()
    for seed in (cancelled, requeued):
        assert "resumed from a checkpoint after" in run.log(seed)
    assert all(len(set(nodes)) == len(nodes) for nodes in run.gpu_nodes + again.gpu_nodes)
    pandas.testing.assert_frame_equal(again.summary(), local_summary)


KILLED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import small_cluster
with small_cluster.Cluster() as cluster:
    cluster.run("sbatch", "--output=/dev/null", "--wrap=sleep 1234.5")
    while "R" not in cluster.run("squeue", "-h", "-o", "%t"):
        time.sleep(0.1)
    print(cluster.folder, flush=True)
    time.sleep(1000)
"""


def of_cluster(folder):
    """Return the processes of a cluster and of its jobs."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if folder in words or folder in process.environ().get("SLURM_CONF", ""):
                found.append(process)
        except psutil.Error:
            continue
    return found


def names_of(processes):
    for process in processes:
        with contextlib.suppress(psutil.Error):  # it has just exited
            yield process.name()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "SIGKILL"])
def test_interrupted_tests_leave_no_daemon_and_no_job(cluster, number):
    tests = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        folder = tests.stdout.readline().strip()
        end = time.monotonic() + small_cluster.DEADLINE
        wanted = {"munged", "slurmctld", "slurmd", "sleep"}
        while missing := wanted - set(names_of(of_cluster(folder))):
            assert time.monotonic() < end, missing  # a running job may not have its process yet
    except BaseException:
        tests.kill()
        raise
    os.killpg(tests.pid, number)
    tests.wait()
    end = time.monotonic() + small_cluster.DEADLINE
    while (left := of_cluster(folder)) or Path(folder).exists():
        assert time.monotonic() < end, left
        time.sleep(0.1)
