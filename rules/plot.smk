# In:    the summary, the kernel tables, the training histories, example slices, the paper's values.
# Out:   <results>/figures/*.{svg,png}, <results>/tables/*.{csv,md,html}.
# Stale: the numbers they show, the appearance of figures (`plots`), the code.
# No other job depends on these outputs.

PAPER = ROOT / "resources" / "paper"
FIGURE = f"{RESULTS}/figures"
TABLE = f"{RESULTS}/tables"

NUMBERS = {
    "summary": rules.aggregate.output.summary,
    "across_seeds": rules.aggregate.output.across_seeds,
    "margins": rules.aggregate.output.margins,
}


rule tabulate_paper:
    input:
        **NUMBERS,
        paper=f"{PAPER}/results.csv",
    output:
        csv=f"{TABLE}/paper.csv",
        markdown=f"{TABLE}/paper.md",
        html=captioned(
            f"{TABLE}/paper.html", "paper.rst", "Comparison with the paper", table="Tables 1 to 4"
        ),
    log:
        f"{LOGS}/tabulate_paper.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_paper.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=PLAN.paper_settings(),
        code=code("tabulate_paper.py"),
        program=program("tabulate_paper.py"),
        paper=file_digest(PAPER / "results.csv"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --summary {input.summary:q}"
        " --across-seeds {input.across_seeds:q}"
        " --margins {input.margins:q}"
        " --paper {input.paper:q}"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --html {output.html:q}"
        " --log {log:q}"


rule judge_claims:
    input:
        **NUMBERS,
        paper=f"{PAPER}/results.csv",
        claims=f"{PAPER}/claims.csv",
    output:
        csv=f"{TABLE}/claims.csv",
        markdown=f"{TABLE}/claims.md",
        html=captioned(
            f"{TABLE}/claims.html", "claims.rst", "Comparison with the paper", table="Claims"
        ),
    log:
        f"{LOGS}/judge_claims.log",
    benchmark:
        f"{BENCHMARKS}/judge_claims.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=PLAN.paper_settings(),
        code=code("judge_claims.py"),
        program=program("judge_claims.py"),
        paper=file_digest(PAPER / "results.csv"),
        claims=file_digest(PAPER / "claims.csv"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --summary {input.summary:q}"
        " --across-seeds {input.across_seeds:q}"
        " --margins {input.margins:q}"
        " --paper {input.paper:q}"
        " --claims {input.claims:q}"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --html {output.html:q}"
        " --log {log:q}"


rule tabulate_targets:
    input:
        **NUMBERS,
    output:
        csv=f"{TABLE}/targets-{{experiment}}.csv",
        markdown=f"{TABLE}/targets-{{experiment}}.md",
        html=captioned(
            f"{TABLE}/targets-{{experiment}}.html",
            "targets.rst",
            "All targets",
            experiment="{experiment}",
        ),
    log:
        f"{LOGS}/tabulate_targets/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/tabulate_targets/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=lambda w: canonical({"experiment": w.experiment}),
        code=code("tabulate_targets.py"),
        program=program("tabulate_targets.py"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --summary {input.summary:q}"
        " --across-seeds {input.across_seeds:q}"
        " --margins {input.margins:q}"
        " --csv {output.csv:q}"
        " --markdown {output.markdown:q}"
        " --html {output.html:q}"
        " --log {log:q}"


rule plot_layers:
    input:
        **NUMBERS,
    output:
        svg=captioned(
            f"{FIGURE}/layers-{{experiment}}.svg",
            "layers.rst",
            "Figures",
            experiment="{experiment}",
            figure="Each kernel alone",
        ),
        png=f"{FIGURE}/layers-{{experiment}}.png",
    log:
        f"{LOGS}/plot_layers/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_layers/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=lambda w: PLAN.figure_settings(experiment=w.experiment),
        code=code("plot_layers.py"),
        program=program("plot_layers.py"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --summary {input.summary:q}"
        " --across-seeds {input.across_seeds:q}"
        " --margins {input.margins:q}"
        " --svg {output.svg:q}"
        " --png {output.png:q}"
        " --log {log:q}"


rule plot_interventions:
    input:
        **NUMBERS,
        paper=f"{PAPER}/results.csv",
    output:
        svg=captioned(
            f"{FIGURE}/interventions-{{experiment}}.svg",
            "interventions.rst",
            "Figures",
            experiment="{experiment}",
            figure="Blocks and shortcuts",
        ),
        png=f"{FIGURE}/interventions-{{experiment}}.png",
    log:
        f"{LOGS}/plot_interventions/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_interventions/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=lambda w: PLAN.figure_settings(
            experiment=w.experiment, **PLAN.beside_the_paper(w.experiment)
        ),
        code=code("plot_interventions.py"),
        program=program("plot_interventions.py"),
        paper=file_digest(PAPER / "results.csv"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --summary {input.summary:q}"
        " --across-seeds {input.across_seeds:q}"
        " --margins {input.margins:q}"
        " --paper {input.paper:q}"
        " --svg {output.svg:q}"
        " --png {output.png:q}"
        " --log {log:q}"


rule plot_map:
    input:
        **NUMBERS,
        kernels=lambda w: PLAN.kernel_table(PLAN.training(w.experiment)),
    output:
        svg=captioned(
            f"{FIGURE}/map-{{experiment}}.svg",
            "map.rst",
            "Figures",
            experiment="{experiment}",
            figure="Map of the network",
        ),
        png=f"{FIGURE}/map-{{experiment}}.png",
    log:
        f"{LOGS}/plot_map/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_map/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=lambda w: PLAN.figure_settings(experiment=w.experiment),
        code=code("plot_map.py"),
        program=program("plot_map.py"),
        kernels=lambda w: PLAN.table_digest(PLAN.training(w.experiment)),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --kernels {input.kernels:q}"
        " --summary {input.summary:q}"
        " --across-seeds {input.across_seeds:q}"
        " --margins {input.margins:q}"
        " --svg {output.svg:q}"
        " --png {output.png:q}"
        " --log {log:q}"


rule plot_learning:
    input:
        dataset=description,
        histories=lambda w: [
            f"{RESULTS}/networks/{w.training}/seed{seed}/training.parquet"
            for seed in sorted(PLAN.config["trainings"][w.training]["seeds"])
        ],
    output:
        svg=captioned(
            f"{FIGURE}/learning-{{training}}.svg",
            "learning.rst",
            "Training",
            training="{training}",
            figure="Learning curves",
        ),
        png=f"{FIGURE}/learning-{{training}}.png",
    log:
        f"{LOGS}/plot_learning/{{training}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_learning/{{training}}.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=lambda w: PLAN.figure_settings(
            training=w.training, seeds=sorted(PLAN.config["trainings"][w.training]["seeds"])
        ),
        code=code("plot_learning.py"),
        program=program("plot_learning.py"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --dataset {input.dataset:q}"
        " --history {input.histories:q}"
        " --svg {output.svg:q}"
        " --png {output.png:q}"
        " --log {log:q}"


# Only the first seed: the slices are examples, not a statistic.
rule plot_slices:
    input:
        dataset=description,
        examples=lambda w: (
            f"{PLAN.seed_folder(w.experiment, PLAN.seeds(w.experiment)[0])}/examples.parquet"
        ),
    output:
        svg=captioned(
            f"{FIGURE}/slices-{{experiment}}.svg",
            "slices.rst",
            "Figures",
            experiment="{experiment}",
            figure="Example slices",
        ),
        png=f"{FIGURE}/slices-{{experiment}}.png",
    log:
        f"{LOGS}/plot_slices/{{experiment}}.log",
    benchmark:
        f"{BENCHMARKS}/plot_slices/{{experiment}}.tsv"
    conda:
        "../envs/plot.yaml"
    params:
        settings=lambda w: PLAN.figure_settings(
            experiment=w.experiment, targets=PLAN.example_names(w.experiment)
        ),
        code=code("plot_slices.py"),
        program=program("plot_slices.py"),
    shell:
        "python {params.program:q}"
        " --settings {params.settings:q}"
        " --dataset {input.dataset:q}"
        " --examples {input.examples:q}"
        " --svg {output.svg:q}"
        " --png {output.png:q}"
        " --log {log:q}"


rule tables:
    input:
        rules.tabulate_paper.output,
        rules.judge_claims.output,
        expand(rules.tabulate_targets.output, experiment=sorted(PLAN.config["experiments"])),


rule figures:
    input:
        expand(rules.plot_layers.output, experiment=PLAN.with_kinds("layer")),
        expand(rules.plot_interventions.output, experiment=PLAN.with_kinds("block", "shortcut")),
        expand(rules.plot_map.output, experiment=PLAN.with_kinds("layer")),
        expand(rules.plot_slices.output, experiment=PLAN.segmentations()),
        expand(
            rules.plot_learning.output,
            training=sorted({PLAN.training(name) for name in PLAN.config["experiments"]}),
        ),
