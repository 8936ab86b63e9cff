# In:    prepared data (dataset.json holds the digests of the arrays), a kernel table.
# Out:   <results>/networks/<training>/checked.json, and in seed<seed>/: weights, snapshots, their
#        digests, a row per epoch.
# Stale: check_network: network and recipe, the data's content, the kernels' shapes, the code;
#        train: the same except the code of the checks, so that a new check retrains nothing.
# A running training keeps checkpoints beside its outputs, from which it resumes.


# The output is not an input of train, because an edited check would then retrain every network. As
# an `ancient` input, it would hide other reasons to train (Snakemake 9.27). So train runs the same
# program itself first.
rule check_network:
    input:
        dataset=description,
        arrays=ancient(prepared("train", "val", "test")),
        kernels=ancient(lambda w: PLAN.kernel_table(w.training)),
    output:
        f"{RESULTS}/networks/{{training}}/checked.json",
    log:
        f"{LOGS}/check_network/{{training}}.log",
    benchmark:
        f"{BENCHMARKS}/check_network/{{training}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lambda w: PLAN.config["trainings"][w.training]["recipe"]["threads"]
    params:
        settings=lambda w: PLAN.training_settings(w.training),
        kernels=lambda w: PLAN.structure(w.training),
        code=lambda w: code("check_network.py", PLAN.factory(w.training)),
        program=program("check_network.py"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        ' --data "$(dirname {input.dataset:q})"'
        " --kernels {input.kernels:q}"
        " --output {output:q}"
        " --log {log:q}"


rule train:
    input:
        dataset=description,
        arrays=ancient(prepared("train", "val", "test")),
        kernels=ancient(lambda w: PLAN.kernel_table(w.training)),
    output:
        model=f"{NETWORK}/model.safetensors",
        snapshots=f"{NETWORK}/snapshots.safetensors",
        history=f"{NETWORK}/training.parquet",
        digest=f"{NETWORK}/model.json",
    log:
        f"{LOGS}/train/{{training}}-seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{training}}-seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: lambda w: PLAN.config["trainings"][w.training]["recipe"]["threads"]
    resources:
        gpu=1,
    params:
        settings=lambda w: PLAN.training_settings(w.training),
        kernels=lambda w: PLAN.structure(w.training),
        code=lambda w: code("train_network.py", PLAN.factory(w.training)),
        check=program("check_network.py"),
        program=program("train_network.py"),
        on_gpu=program("run_on_gpu.py"),
        checkpoint_minutes=untracked(PLAN.config["checkpoint_minutes"]),
    # With exec, signals reach the training instead of the shell.
    shell:
        "exec python {params.on_gpu:q} python {params.program:q}"
        " --settings {params.settings:q}"
        " --seed {wildcards.seed}"
        ' --data "$(dirname {input.dataset:q})"'
        " --kernels {params.kernels:q}"
        " --check {params.check:q}"
        " --kernel-table {input.kernels:q}"
        " --output {output.model:q}"
        " --snapshots {output.snapshots:q}"
        " --history {output.history:q}"
        " --digest {output.digest:q}"
        " --checkpoint-minutes {params.checkpoint_minutes:q}"
        " --code {params.code:q}"
        " --log {log:q}"


rule networks:
    input:
        [
            f"{RESULTS}/networks/{name}/seed{seed}/model.json"
            for name, training in sorted(PLAN.config["trainings"].items())
            for seed in training["seeds"]
        ],
        [f"{RESULTS}/networks/{name}/checked.json" for name in sorted(PLAN.config["trainings"])],
