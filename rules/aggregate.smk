# In:    the target files of all experiments.
# Out:   <results>/summary.parquet (per seed), <results>/across_seeds.parquet (over all seeds),
#        <results>/margins.parquet (tests and verdicts of both at several margins).
# Stale: a target file, the list of targets, the code.


rule aggregate:
    input:
        PLAN.target_files(),
    output:
        summary=f"{RESULTS}/summary.parquet",
        across_seeds=f"{RESULTS}/across_seeds.parquet",
        margins=f"{RESULTS}/margins.parquet",
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
        " --margins {output.margins:q}"
        " --log {log:q}"


rule summary:
    input:
        rules.aggregate.output,
