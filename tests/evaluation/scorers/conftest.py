"""Weights of the outside judges, which `.ci/run` has put into the user's cache."""

import pytest

from vc_lightning.evaluation.scorers import download, weights
from vc_lightning.evaluation.scorers.weights import Wheel

XLS_R_SQA = Wheel(  # half of DistillMOS's code, for the comparison only
    "xls-r-sqa==0.1.0", "7ed4587df6f46879bc4ad8773cc58fef80169d809edd5dab63bd9021b1355f0f"
)


@pytest.fixture(scope="session")
def outside_weights():
    """Download the weights of all judges unless they are in the cache."""
    if not all(one.path.exists() for one in weights.ALL):
        download.main([])
    return weights.folder()


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """The published wheels of CAM++ and DistillMOS, by the name of the package."""
    wanted = [*weights.CAMPPLUS.wheels, *weights.DISTILLMOS.wheels, XLS_R_SQA]
    paths = download.download(wanted, tmp_path_factory.mktemp("wheels"))
    return {path.name.partition("-")[0]: path for path in paths}
