"""Run a program on a GPU that no other job uses, or on the CPU if there is no GPU.

    python run_on_gpu.py python train_network.py ...

Waits while all GPUs are in use, sets CUDA_VISIBLE_DEVICES to the one that it gets, and becomes the
program, so that the GPU is free again however the program ends. If Snakemake is killed, the program
gets SIGTERM instead of running on unnoticed.
"""

import os
import signal
import sys

from nontrivial.errors import UserError
from nontrivial.execution import gpu_slots
from nontrivial.execution.parent_process import end_with_parent


def acquire_gpu() -> None:
    """Reserve one of the GPUs that this process may use, if there are any.

    Raises:
        UserError: the locks cannot be written.
    """
    devices = gpu_slots.visible(os.environ, gpu_slots.installed())
    if not devices:
        return

    def waiting() -> None:
        print(f"waiting for a GPU: other jobs use all {len(devices)} GPUs", file=sys.stderr)

    locks = gpu_slots.folder(os.environ)
    os.environ["CUDA_VISIBLE_DEVICES"], slot = gpu_slots.acquire(devices, locks, waiting)
    os.set_inheritable(slot, True)  # by the program that this process becomes


def main() -> None:
    """Become the program of the command line."""
    command = sys.argv[1:]
    if not command:
        sys.exit(__doc__)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # exit without a traceback while waiting
    end_with_parent()
    try:
        acquire_gpu()
        os.execvp(command[0], command)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
