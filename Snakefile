# nontrivial: which layers of a trained convolutional network does its task need?
#
#   prepare --> train --> predict --> evaluate --> aggregate --> tables, figures
#   (dataset)  (training, (batch of   (one per     (Parquet)
#               seed)      targets)    target)
#
# Everything is configured in one file (config/config.yaml unless --configfile names another);
# config/README.md describes every key.

from snakemake.utils import min_version

min_version("9.27")

# Only one file: a second one would be merged into the first, trainings and all.
if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/run.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/zero.smk"
include: "rules/aggregate.smk"
include: "rules/plot.smk"


# Snakemake does not miss a file between two others that are there, and a job that fails leaves
# none: so every result that numbers rest on is asked for here, not only the last ones.
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
