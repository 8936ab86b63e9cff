# In:    raw data below data_dir, or embedded in a library, or to be downloaded.
# Out:   <results>/data/<dataset>/: arrays, tables of samples, dataset.json (with their digests).
# Stale: the data set's section of the configuration, the content of its raw files, the code.


@functools.cache
def raw_data(dataset):
    """Return the identity of a data set's raw files, by content and not by time."""
    cache = Path(".snakemake", "nontrivial", f"{dataset}.json")
    try:
        return source_identity(
            PLAN.config["datasets"][dataset],
            Path(PLAN.config["data_dir"]),
            cache,
            save=snakemake_hooks.adds_files(workflow),
        )
    except UserError as error:
        raise WorkflowError(f"datasets.{dataset}: {error}") from None


rule prepare:
    output:
        [f"{DATA}/{split}/{name}" for split in SPLITS for name in PREPARED],
        description=f"{DATA}/dataset.json",
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    conda:
        "../envs/prepare.yaml"
    params:
        settings=lambda w: PLAN.dataset_settings(w.dataset),
        raw=lambda w: raw_data(w.dataset),
        code=code("prepare_dataset.py"),
        folder=DATA,
    shell:
        "python {SCRIPTS:q}/prepare_dataset.py --name {wildcards.dataset:q}"
        " --settings {params.settings:q} --data-dir {PLAN.config[data_dir]:q}"
        " --output {params.folder:q} --log {log:q}"


rule data:
    input:
        [
            f"{RESULTS}/data/{training['dataset']}/dataset.json"
            for training in PLAN.config["trainings"].values()
        ],
