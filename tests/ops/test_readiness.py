from typing import Literal

import pytest

from labelstudio_sam2.errors import BusyError, DeviceLostError, ModelLoadingError, ModelUnavailableError
from labelstudio_sam2.ops.readiness import Readiness


class FakeModel:
    state: Literal["loading", "ready", "failed"] = "loading"
    is_lost = False

    def check_ready(self) -> None:
        if self.state == "loading":
            raise ModelLoadingError("wait")
        if self.state == "failed":
            raise ModelUnavailableError("the file is missing")

    def check_device(self) -> None:
        if self.is_lost:
            raise DeviceLostError("CUDA error: unspecified launch failure")


def test_it_is_the_models_while_nothing_else_is_known() -> None:
    model = FakeModel()
    readiness = Readiness(model)

    with pytest.raises(ModelLoadingError, match="wait"):
        readiness.check_ready()
    model.state = "ready"
    readiness.check_ready()
    assert readiness.state == "ready"
    model.state = "failed"
    with pytest.raises(ModelUnavailableError, match="the file is missing"):
        readiness.check_ready()


def test_what_is_withdrawn_stays_so_and_says_why_whatever_the_model_says() -> None:
    model = FakeModel()
    model.state = "ready"
    readiness = Readiness(model)
    why = BusyError("the server is shutting down")

    readiness.withdraw(why)

    for _ in range(2):
        with pytest.raises(BusyError, match="the server is shutting down") as raised:
            readiness.check_ready()
        assert raised.value is not why  # tracebacks of several threads would pile up in one
    assert readiness.state == "withdrawn"


def test_a_lost_device_is_the_models_to_tell_and_no_shutdown_hides_it() -> None:
    model = FakeModel()
    readiness = Readiness(model)
    readiness.withdraw(BusyError("the server is shutting down"))
    readiness.check_device()

    model.is_lost = True

    with pytest.raises(DeviceLostError, match="unspecified launch failure"):
        readiness.check_device()
