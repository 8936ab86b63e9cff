# In:  the results folder, the lists of targets (SPECS), the jobs that Snakemake has found stale.
# Out: a run that is alone on its results, finds their times right, and can be stopped.
# Stale: nothing. Only what starts jobs does this: no dry run, no Snakemake inside of a cluster's job.

import gc
import signal

import psutil

from nontrivial.execution import result_times
from nontrivial.execution.atomic import remove_abandoned, write_text
from nontrivial.execution import results_lock
from nontrivial.execution.command_line import explain

# The graph of jobs is millions of objects that stay: looking for garbage among them again and again
# takes a quarter of Snakemake's time.
gc.set_threshold(1_000_000, 50, 100)


def stop_trainings_with_snakemake():
    """Let trainings stop at once, with a checkpoint, when Snakemake on this machine has to stop.

    Snakemake itself waits at SIGTERM for the jobs that run, which for a training can be a day,
    and dies of a closed terminal.
    """
    start_nothing_new, interrupt = map(signal.getsignal, (signal.SIGTERM, signal.SIGINT))

    def stop(number, frame):
        for process in psutil.Process().children(recursive=True):
            try:
                # Of a shell that has not become the training yet, it is part of a word.
                if any("/train_network.py" in word for word in process.cmdline()):
                    process.send_signal(number)
            except psutil.Error:  # it has just ended
                continue
        (interrupt if number == signal.SIGINT else start_nothing_new)(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP, say
            signal.signal(number, stop)


@functools.cache
def lock_results():
    """Keep a second run out of the results folder, however this one ends."""
    try:
        if not results_lock.take(Path(RESULTS)):
            logger.warning(
                f"The file system of {RESULTS} has no locks: start no second run on it beside this."
            )
    except UserError as error:
        raise WorkflowError(str(error)) from None


# Before Snakemake looks at files that another run makes and removes, or that cannot be written: it
# may fail then, in words that do not tell why. A mere look at the results is not refused.
if STARTS_JOBS and os.path.exists(RESULTS):
    try:
        lock_results()
    except WorkflowError as error:
        logger.warning(str(error))


def schedule_once_per_job():
    """Drop Snakemake's limit of jobs per second where jobs are processes of this machine.

    With it each look for jobs to start sets off another one a second later, which does the same:
    their number grows with every job that ends (Snakemake 9.27), and thousands of jobs drown.
    """
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


def put_times_right():
    """Leave no result that looks newer than it is, whatever the clock did or does."""
    behind = result_times.leave_the_future(Path(RESULTS))
    if behind:
        logger.warning(
            f"The clock is {behind:.0f} s behind the newest result: the times of all were moved back."
        )
    result_times.mark_stale(path for job in workflow.dag.needrun_jobs() for path in job.output)


onstart:
    lock_results()
    schedule_once_per_job()
    stop_trainings_with_snakemake()
    try:
        # A training that was asked to end may still write its checkpoint.
        remove_abandoned(Path(RESULTS), spared="checkpoint", elsewhere=results_lock.NAME)
        put_times_right()
        for spec in SPECS:
            path = Path(spec.path)
            if not path.exists() or path.read_bytes() != spec.text.encode():
                write_text(spec.path, spec.text)
    except OSError as error:
        raise WorkflowError(explain(error)) from None
