# In:    the results folder, the lists of targets (SPECS).
# Out:   the spec files; a run that locks its results folder and can be interrupted.
# Stale: nothing.

from nontrivial.execution.command_line import explain

snakemake_hooks.collect_garbage_rarely()
snakemake_hooks.print_few_lines(workflow)
snakemake_hooks.lock_results(workflow, Path(RESULTS))

# Jobs on several GPUs of one host share its cores.
GPUS = snakemake_hooks.limit_gpus(workflow)

# Not in `onstart`, which does not run in a workflow that is used as a module.
if snakemake_hooks.adds_files(workflow):
    try:
        for spec in SPECS:
            spec.write()
    except OSError as error:
        if snakemake_hooks.starts_jobs(workflow):  # a dry run does not need the files
            raise WorkflowError(explain(error)) from None


onstart:
    snakemake_hooks.start_run(workflow, Path(RESULTS))


onerror:
    snakemake_hooks.repeat_failures(workflow)
