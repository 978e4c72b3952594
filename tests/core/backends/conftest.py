import pytest
from programs import PROGRAMS, resnet8, resnet20


@pytest.fixture(scope="session")
def trained():
    """Programs by name, each made once."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = (PROGRAMS | {"resnet8": resnet8, "resnet20": resnet20})[name]()
        return made[name]

    return get
