import pytest

from vc_lightning.models.checkpoints import load_recogniser


@pytest.fixture(scope="session")
def recogniser():
    """The shipped recogniser; no test changes it."""
    return load_recogniser()
