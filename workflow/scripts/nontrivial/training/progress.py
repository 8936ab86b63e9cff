"""Progress of a training: a bar on a terminal, plain lines in a log."""

import sys
import time
from contextlib import ExitStack

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from nontrivial.execution.command_line import log

LINE_EVERY = 30.0  # seconds between lines of a long epoch


class Progress:
    """Report the steps of one training, with the rate and the remaining time.

    A context manager, so that the bar is always closed.
    """

    def __init__(
        self, epochs: int, steps_per_epoch: int, samples_per_step: int, done: int = 0
    ) -> None:
        """Prepare to count ``epochs * steps_per_epoch`` steps, ``done`` of them earlier."""
        self._epochs = epochs
        self._steps = steps_per_epoch
        self._samples = samples_per_step
        self._before = self._done = done
        self._exit = ExitStack()
        self._bar: tqdm | None = None

    def __enter__(self) -> "Progress":
        """Show the bar if standard error is a terminal."""
        self._started = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = self._exit.enter_context(
                tqdm(
                    total=self._epochs * self._steps,
                    initial=self._before,
                    unit="step",
                    dynamic_ncols=True,
                )
            )
            # Log lines are then written above the bar, not through it.
            self._exit.enter_context(logging_redirect_tqdm())
        return self

    def __exit__(self, *error: object) -> None:
        """Remove the bar."""
        self._exit.close()

    def step(self) -> None:
        """Count one step."""
        self._done += 1
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update()
        elif now - self._last_line >= LINE_EVERY:
            self._last_line = now
            epoch, step = divmod(self._done - 1, self._steps)
            log.info(
                "epoch %d/%d, step %d/%d, %s",
                epoch + 1,
                self._epochs,
                step + 1,
                self._steps,
                self._pace(now),
            )

    def epoch(self, epoch: int, loss: float, metric: str, val: float, rate: float) -> None:
        """Report the results of an epoch; ``rate`` is in samples per second."""
        now = self._last_line = time.monotonic()
        text = f"loss {loss:.4f}, val {metric} {val:.4f}"
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        log.info(
            "epoch %d/%d: %s, %.0f samples/s%s",
            epoch,
            self._epochs,
            text,
            rate,
            self._left(now),
        )

    def _pace(self, now: float) -> str:
        rate = (self._done - self._before) * self._samples / max(now - self._started, 1e-9)
        return f"{rate:.0f} samples/s{self._left(now)}"

    def _left(self, now: float) -> str:
        done = self._done - self._before
        if not done:  # resumed at the end of an epoch: no step gives a rate yet
            return ""
        ahead = self._epochs * self._steps - self._done
        return f", {_clock((now - self._started) / done * ahead)} left"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
