# In:    predictions of a target and of the baseline, the samples of the evaluated split.
# Out:   <results>/<experiment>/zero/targets/: metrics of a target, per seed and over all seeds.
# Stale: predictions of its batch or the baseline, the target, seeds, margin, the code.


rule evaluate:
    input:
        digests=predictions(".json"),
        predictions=ancient(predictions(".parquet")),
        baseline_digests=predictions(".json", baseline=True),
        baseline=ancient(predictions(".parquet", baseline=True)),
        dataset=description,
        samples=ancient(lambda w: prepared()(w)[-1]),
    output:
        PLAN.target_file("{experiment}", "{target}"),
    log:
        f"{LOGS}/evaluate/{{experiment}}-{{target}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{experiment}}-{{target}}.tsv"
    conda:
        "../envs/evaluate.yaml"
    params:
        settings=lambda w: PLAN.evaluation_settings(w.experiment, w.target),
        stored_as=lambda w: PLAN.targets(w.experiment)[w.target].stored_as,
        code=code("evaluate_target.py"),
        program=program("evaluate_target.py"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --predictions {input.predictions:q}"
        " --stored-as {params.stored_as:q}"
        " --baseline {input.baseline:q}"
        " --samples {input.samples:q}"
        " --dataset {input.dataset:q}"
        " --output {output:q}"
        " --log {log:q}"
