# In:    raw data: in data_dir, part of a library, or downloaded.
# Out:   <results>/data/<dataset>/: arrays, tables of samples, dataset.json (with their digests).
# Stale: the data set's section of the configuration, the content of its raw files, the code.


rule prepare:
    output:
        [f"{DATA}/{split}/{name}" for split in SPLITS for name in PREPARED],
        description=f"{DATA}/dataset.json",
        preparation=f"{DATA}/preparation.json",
    log:
        f"{LOGS}/prepare/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/prepare/{{dataset}}.tsv"
    conda:
        "../envs/prepare.yaml"
    params:
        settings=lambda w: PLAN.dataset_settings(w.dataset),
        raw=lambda w: raw_data(w.dataset),
        code=code("prepare_dataset.py"),
        program=program("prepare_dataset.py"),
        data_dir=untracked(PLAN.config["data_dir"]),
    shell:
        "python {params.program:q}"
        " --name {wildcards.dataset:q}"
        " --settings {params.settings:q}"
        " --data-dir {params.data_dir:q}"
        ' --output "$(dirname {output.description:q})"'
        " --log {log:q}"


rule data:
    input:
        [
            f"{RESULTS}/data/{training['dataset']}/dataset.json"
            for training in PLAN.config["trainings"].values()
        ],
