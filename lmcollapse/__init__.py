"""A testbed for language-model collapse: models trained on what earlier models wrote."""

__version__ = "0.1.0"


def metric_path(name: str) -> str:
    """A folder from which `evaluate.load` gets a measure of a corpus: see `lmcollapse.evaluation_module`."""
    from lmcollapse.evaluation_module import metric_path

    return metric_path(name)
