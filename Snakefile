# nontrivial: which layers of a trained convolutional network does its task need?
#
#   prepare --> train --> predict --> evaluate --> aggregate --> tables, figures
#   (dataset)  (training, (set of     (target)     (Parquet)
#               seed)      targets)
#
# One file configures everything: config/config.yaml, unless --configfile names another.
# config/README.md describes every key.

from snakemake.utils import min_version

min_version("9.27")

# Only without --configfile: Snakemake would merge the two files, including all trainings.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/run.smk"
include: "rules/inputs.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/predict.smk"
include: "rules/evaluate.smk"
include: "rules/aggregate.smk"
include: "rules/plot.smk"


# Snakemake does not notice a missing intermediate file, and a failed job leaves none. So this rule
# requests every result that the numbers depend on, not only the final ones.
rule all:
    default_target: True
    input:
        rules.data.input,
        rules.networks.input,
        rules.predictions.input,
        rules.aggregate.input,
        rules.summary.input,
        rules.tables.input,
        rules.figures.input,
