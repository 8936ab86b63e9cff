"""Check a network against its kernel table, data and recipe, before it is trained."""

from pathlib import Path

from nontrivial.errors import UserError
from nontrivial.execution import command_line
from nontrivial.execution.atomic import write_text
from nontrivial.execution.command_line import log
from nontrivial.execution.reproducibility import fix_arithmetic
from nontrivial.formats.canonical import canonical
from nontrivial.formats.dataset import read_description
from nontrivial.networks import checks
from nontrivial.networks.factory import construct
from nontrivial.networks.kernel_table import read_table
from nontrivial.training.misfits import refuse_misfit
from nontrivial.training.recipe import read_recipe


def check_network(settings: dict, data: Path, kernels: Path, output: Path | None = None) -> None:
    """Check a network against its kernel table, data and recipe.

    Args:
        settings: ``{"network": {"name", "factory", "arguments"}, "recipe": {...}}``.
        data: folder of the prepared data.
        kernels: kernel table of the network.
        output: file to write (JSON): numbers of kernels and of parameters; None writes nothing.

    Raises:
        UserError: the network cannot be trained, or its kernels cannot be set to zero.
    """
    network, recipe = settings["network"], read_recipe(settings["recipe"])
    description = read_description(data / "dataset.json")
    refuse_misfit(network["name"], description, recipe, data)
    fix_arithmetic(recipe.threads)
    model = construct(network["factory"], *description.factory_arguments, network.get("arguments"))
    table = read_table(kernels)
    try:
        checks.check_network(
            model,
            description.task,
            *description.factory_arguments,
            table,
            kernels,
            recipe.precision,
        )
    except UserError as error:
        raise UserError(f"network {network['name']}: {error}") from error
    parameters = sum(parameter.numel() for parameter in model.parameters())
    log.info("%s: %d kernels, %d parameters: checked", network["name"], len(table), parameters)
    if output is not None:
        found = {"network": network["name"], "kernels": len(table), "parameters": parameters}
        write_text(output, canonical(found) + "\n")


if __name__ == "__main__":
    command_line.run(check_network)
