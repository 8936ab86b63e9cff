# In:    the results folder, the lists of targets (SPECS).
# Out:   a run that has its results folder to itself and can be interrupted.
# Stale: nothing.

from nontrivial.execution.atomic import write_text

snakemake_hooks.collect_garbage_rarely()
snakemake_hooks.lock_results(workflow, Path(RESULTS))


onstart:
    snakemake_hooks.start_run(workflow, Path(RESULTS))
    for spec in SPECS:
        path = Path(spec.path)
        if not path.exists() or path.read_bytes() != spec.text.encode():
            write_text(spec.path, spec.text)


onerror:
    snakemake_hooks.repeat_failures(workflow)
