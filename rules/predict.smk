# In:    trained networks, the prepared split to evaluate, the targets of an experiment.
# Out:   <results>/<experiment>/seed<seed>/zero/: predictions per sample in predictions/, and
#        example slices.
# Stale: the weights, the data, a batch's targets, precision and batch size, the code.


rule predict:
    input:
        network=network_file("model.json"),
        weights=ancient(network_file("model.safetensors")),
        dataset=description,
        arrays=ancient(prepared()),
        kernels=ancient(lambda w: PLAN.kernel_table(PLAN.training(w.experiment))),
    output:
        predictions=f"{EXPERIMENT}/predictions/{{batch}}.parquet",
        digest=f"{EXPERIMENT}/predictions/{{batch}}.json",
    log:
        f"{LOGS}/predict/{{experiment}}-seed{{seed}}-{{batch}}.log",
    benchmark:
        f"{BENCHMARKS}/predict/{{experiment}}-seed{{seed}}-{{batch}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: max(1, 8 // GPUS)
    resources:
        gpu=1,
    params:
        settings=lambda w: PLAN.prediction_settings(w.experiment),
        targets=lambda w: PLAN.batches(w.experiment)[w.batch].path,
        code=lambda w: code("predict_targets.py", PLAN.factory(PLAN.training(w.experiment))),
        program=program("predict_targets.py"),
        on_gpu=program("run_on_gpu.py"),
    shell:
        "exec python {params.on_gpu:q} python {params.program:q}"
        " --settings {params.settings:q}"
        ' --data "$(dirname {input.dataset:q})"'
        " --model {input.weights:q}"
        " --kernels {input.kernels:q}"
        " --targets {params.targets:q}"
        " --threads {threads}"
        " --output {output.predictions:q}"
        " --digest {output.digest:q}"
        " --code {params.code:q}"
        " --log {log:q}"


# The choice of slices does not depend on results: see `examples` in config/README.md.
rule predict_examples:
    input:
        network=network_file("model.json"),
        weights=ancient(network_file("model.safetensors")),
        dataset=description,
        arrays=ancient(prepared()),
    output:
        f"{EXPERIMENT}/examples.parquet",
    log:
        f"{LOGS}/predict_examples/{{experiment}}-seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/predict_examples/{{experiment}}-seed{{seed}}.tsv"
    conda:
        "../envs/torch.yaml"
    threads: max(1, 8 // GPUS)
    resources:
        gpu=1,
    params:
        settings=lambda w: PLAN.example_settings(w.experiment),
        targets=lambda w: PLAN.example_targets(w.experiment).path,
        code=lambda w: code("predict_examples.py", PLAN.factory(PLAN.training(w.experiment))),
        program=program("predict_examples.py"),
        on_gpu=program("run_on_gpu.py"),
    shell:
        "exec python {params.on_gpu:q} python {params.program:q}"
        " --settings {params.settings:q}"
        ' --data "$(dirname {input.dataset:q})"'
        " --model {input.weights:q}"
        " --targets {params.targets:q}"
        " --threads {threads}"
        " --output {output:q}"
        " --log {log:q}"


rule predictions:
    input:
        [
            f"{PLAN.seed_folder(experiment, seed)}/predictions/{batch}.json"
            for experiment in sorted(PLAN.config["experiments"])
            for seed in PLAN.seeds(experiment)
            for batch in PLAN.batches(experiment)
        ],
