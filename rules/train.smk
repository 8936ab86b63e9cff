# In:    prepared data (dataset.json carries the digests of the arrays), a kernel table.
# Out:   <results>/networks/<training>/seed<seed>/: weights, their digest, a row per epoch.
# Stale: the training's network and recipe, the data's content, the kernels' shapes, the code.
# A training keeps checkpoints beside its outputs until it finishes, and resumes from them.


rule train:
    input:
        dataset=description,
        arrays=ancient(prepared("train", "val", "test")),
        kernels=ancient(lambda w: PLAN.kernel_table(w.training)),
    output:
        model=f"{NETWORK}/model.safetensors",
        digest=f"{NETWORK}/model.json",
        history=f"{NETWORK}/training.parquet",
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
        program=program("train_network.py"),
        on_gpu=program("run_on_gpu.py"),
        checkpoint_minutes=untracked(PLAN.config["checkpoint_minutes"]),
    # exec passes signals on from the shell to the training.
    shell:
        "exec python {params.on_gpu:q} python {params.program:q}"
        " --settings {params.settings:q}"
        " --seed {wildcards.seed}"
        ' --data "$(dirname {input.dataset:q})"'
        " --kernels {input.kernels:q}"
        " --output {output.model:q}"
        " --digest {output.digest:q}"
        " --history {output.history:q}"
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
