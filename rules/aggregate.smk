# In:    the result of every target of every experiment.
# Out:   <results>/summary.parquet (all of them), <results>/across_seeds.parquet (means over seeds).
# Stale: one of those results, the list of targets, the code.


rule aggregate:
    input:
        PLAN.target_files(),
    output:
        summary=f"{RESULTS}/summary.parquet",
        across_seeds=f"{RESULTS}/across_seeds.parquet",
    log:
        f"{LOGS}/aggregate.log",
    benchmark:
        f"{BENCHMARKS}/aggregate.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: 8
    params:
        targets=PLAN.target_list().path,
        code=code("aggregate_results.py"),
        program=program("aggregate_results.py"),
    shell:
        "python {params.program:q}"
        " --targets {params.targets:q}"
        " --threads {threads}"
        " --output {output.summary:q}"
        " --across-seeds {output.across_seeds:q}"
        " --log {log:q}"


rule summary:
    input:
        rules.aggregate.output,
