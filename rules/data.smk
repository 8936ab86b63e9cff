# In:    raw data: in data_dir, part of a library, or downloaded.
# Out:   <results>/data/<dataset>/: arrays, tables of samples, dataset.json (with their digests),
#        preparation.json (warnings and notes); summary.md and summary.png, to check the data by eye.
# Stale: prepare: the data set's section of the configuration, the content of its raw files, the
#        code; summarize: the content of the prepared data, the code.
# No other job depends on preparation.json and the summary.


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


rule summarize:
    input:
        description=f"{DATA}/dataset.json",
        preparation=f"{DATA}/preparation.json",
        arrays=ancient([f"{DATA}/{split}/{name}" for split in SPLITS for name in PREPARED]),
    output:
        markdown=captioned(
            f"{DATA}/summary.md", "summary.rst", "Data", dataset="{dataset}", content="Tables"
        ),
        png=captioned(
            f"{DATA}/summary.png", "samples.rst", "Data", dataset="{dataset}", content="Samples"
        ),
    log:
        f"{LOGS}/summarize/{{dataset}}.log",
    benchmark:
        f"{BENCHMARKS}/summarize/{{dataset}}.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        code=code("summarize_dataset.py"),
        program=program("summarize_dataset.py"),
    shell:
        "python {params.program:q}"
        " --name {wildcards.dataset:q}"
        ' --data "$(dirname {input.description:q})"'
        " --markdown {output.markdown:q}"
        " --png {output.png:q}"
        " --log {log:q}"


rule data:
    input:
        [
            f"{RESULTS}/data/{training['dataset']}/{name}"
            for training in PLAN.config["trainings"].values()
            for name in ("dataset.json", "summary.md")
        ],
