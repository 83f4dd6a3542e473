import pytest
from small_media import moving
from torch import Tensor


@pytest.fixture
def clip() -> Tensor:
    return moving()
