"""A SLURM cluster on this host: real daemons, two logical nodes, each with one simulated GPU.

As a program it guards the daemons: it starts them in a folder of their own and, when its standard
input closes, kills them and all processes of their jobs. So nothing outlives tests that are killed.
"""

import ctypes
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol")
PACKAGES = ("slurm-wlm", "munge")
DEADLINE = 60  # seconds until the nodes are up, or everything has exited
_PR_SET_CHILD_SUBREAPER = 36  # <linux/prctl.h>

# No accounting, as on a minimal cluster. Processes of jobs are found by their parents, because
# containers cannot make control groups. A requeued job waits until its credential has expired.
CONFIGURATION = """
ClusterName=small
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
MpiDefault=none
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
KillWait=20
MailProg=/bin/true
NodeName=DEFAULT CPUs=16 RealMemory=900000 Gres=gpu:small:1
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={n1}
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={n2}
PartitionName=DEFAULT Nodes=n1,n2 MaxTime=INFINITE State=UP
PartitionName=common Default=YES
PartitionName=max
"""


class Cluster:
    """A running cluster; leaving the context stops it."""

    def __enter__(self) -> "Cluster":
        """Start the daemons and wait for the nodes.

        Raises:
            RuntimeError: they did not start; with the output of the guardian.
        """
        self._guardian = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C in the tests does not reach it
        )
        line = self._guardian.stdout.readline()
        if not line:
            raise RuntimeError(self._guardian.stderr.read())
        self.folder = Path(json.loads(line))
        return self

    def __exit__(self, *_):
        """Stop the daemons and wait until they have exited."""
        self._guardian.communicate(timeout=2 * DEADLINE)

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which SLURM's commands use this cluster."""
        return _environment(self.folder)

    def run(self, *command: str) -> str:
        """Return the output of one of SLURM's commands.

        Raises:
            CalledProcessError: it failed.
        """
        return _output(self.folder, *command)


def missing_programs() -> list[str]:
    """Return the SLURM programs that are not installed."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])
    return [name for name in PROGRAMS if not shutil.which(name, path=path)]


def install_programs() -> None:
    """Install the Debian packages, as root.

    Raises:
        CalledProcessError: apt-get failed.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for action in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        subprocess.run(
            ["apt-get", "--quiet", *action], env=environment, check=True, capture_output=True
        )


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"], "/usr/sbin"]),
        "SLURM_CONF": str(folder / "slurm.conf"),
    }


def _output(folder: Path, *command: str) -> str:
    return subprocess.run(
        command, env=_environment(folder), capture_output=True, text=True, check=True, timeout=60
    ).stdout


def _free_ports(number: int) -> list[int]:
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _write_configuration(folder: Path) -> None:
    controller, *ports = _free_ports(1 + len(NODES))
    text = CONFIGURATION.format(
        folder=folder,
        host=socket.gethostname().partition(".")[0],
        user=getpass.getuser(),
        controller=controller,
        **dict(zip(NODES, ports, strict=True)),
    )
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("Name=gpu Type=small File=/dev/null\n")
    (folder / "state").mkdir()
    # Snakemake's plugin hides SLURM's variables from srun, which then finds only the cluster
    # configured in /etc.
    srun = folder / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))


def _start(folder: Path, *command: str) -> None:
    with open(folder / "daemons.log", "a") as log:
        subprocess.Popen(command, env=_environment(folder), stdout=log, stderr=log)


def _start_daemons(folder: Path) -> None:
    munge = [
        f"--socket={folder}/munge.socket",
        f"--key-file={folder}/munge.key",
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munged.seed",
    ]
    _start(folder, "munged", "--foreground", *munge)
    _wait((folder / "munge.socket").exists, folder, "munged")
    _start(folder, "slurmctld", "-D", "-c", "-f", str(folder / "slurm.conf"))
    for node in NODES:
        _start(folder, "slurmd", "-D", "-N", node, "-f", str(folder / "slurm.conf"))

    def idle() -> bool:
        with suppress(subprocess.SubprocessError):
            listed = _output(folder, "sinfo", "-h", "-N", "-p", "common", "-o", "%t")
            return listed.split() == ["idle"] * len(NODES)
        return False

    _wait(idle, folder, "the nodes")


def _wait(condition, folder: Path, what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > end:
            logs = [path.read_text()[-2000:] for path in sorted(folder.glob("*.log"))]
            raise TimeoutError("\n".join([f"{what} did not start", *logs]))
        time.sleep(0.1)


def _kill_descendants() -> None:
    """Kill all descendants of this process: daemons and processes of their jobs."""
    kind = signal.SIGTERM
    end = time.monotonic() + DEADLINE
    while processes := psutil.Process().children(recursive=True):
        for process in processes:
            with suppress(psutil.Error):
                process.send_signal(kind)
        psutil.wait_procs(processes, timeout=5)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        kind = signal.SIGKILL
        if time.monotonic() > end:
            raise TimeoutError(f"still running: {processes}")


def guard() -> None:
    """Start the daemons, print their folder as JSON, and stop them when standard input closes."""
    # Orphaned children of the daemons become children of this process.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # short: a socket's path has a limit
    folder.chmod(0o755)  # munged requires it
    try:
        _write_configuration(folder)
        _start_daemons(folder)
        print(json.dumps(str(folder)), flush=True)
        sys.stdin.read()
    finally:
        _kill_descendants()
        shutil.rmtree(folder)


if __name__ == "__main__":
    guard()
