"""Run a program on a GPU that no other job uses, or on the processor where there is none.

    python run_on_gpu.py python train_network.py ...

Waits for a GPU if all are taken, names the one it got in CUDA_VISIBLE_DEVICES, and becomes the
program, so that the GPU is free again when the program has ended, in whatever way. If Snakemake
is killed, the program gets SIGTERM instead of going on unseen.
"""

import os
import signal
import sys

from nontrivial.errors import UserError
from nontrivial.execution import gpu_slots
from nontrivial.execution.parent_process import end_with_parent


def take_gpu() -> None:
    """Leave this process one of the GPUs that it may use, as its own, if there are any.

    Raises:
        UserError: the locks cannot be written.
    """
    devices = gpu_slots.visible(os.environ, gpu_slots.installed())
    if not devices:
        return

    def waiting() -> None:
        count = len(devices)
        print(f"waiting for a GPU: other jobs have the {count} that may be used", file=sys.stderr)

    locks = gpu_slots.folder(os.environ)
    os.environ["CUDA_VISIBLE_DEVICES"], slot = gpu_slots.take(devices, locks, waiting)
    os.set_inheritable(slot, True)  # kept by the program that this process becomes


def main() -> None:
    """Become the program of the command line."""
    command = sys.argv[1:]
    if not command:
        sys.exit(__doc__)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # end without a traceback while waiting
    end_with_parent()
    try:
        take_gpu()
        os.execvp(command[0], command)
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
