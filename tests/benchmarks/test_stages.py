import numpy as np
import pytest
import torch
from benchmarks.stages import StageClock, Stages, mean_stages
from benchmarks.timings import NOTHING, Took


class Net(torch.nn.Module):
    """Has a SAM 2's parts, which do nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.image_encoder = torch.nn.Identity()
        self.sam_prompt_encoder = torch.nn.Identity()
        self.sam_mask_decoder = torch.nn.Identity()

    def click(self, *, embeds: bool) -> bytes:
        number = torch.zeros(1)
        if embeds:
            self.image_encoder(number)
        self.sam_mask_decoder(self.sam_prompt_encoder(number))
        return b"answer"


def seconds(cpu: float) -> Took:
    return Took(cpu=cpu, wall=2 * cpu)


def test_the_stages_of_a_click_add_up() -> None:
    stages = Stages(before=seconds(1), encoder=seconds(20), decoder=seconds(300), after=seconds(4000))

    assert stages.total == seconds(4321)
    assert stages.outside_encoder == seconds(4301)
    assert stages.outside_model == seconds(4001)


def test_the_mean_is_taken_stage_by_stage() -> None:
    one = Stages(before=seconds(1), encoder=NOTHING, decoder=seconds(10), after=seconds(100))
    other = Stages(before=seconds(3), encoder=NOTHING, decoder=seconds(30), after=seconds(500))

    expected = Stages(before=seconds(2), encoder=NOTHING, decoder=seconds(20), after=seconds(300))
    assert mean_stages([one, other]) == expected


def test_a_click_on_a_cached_picture_has_no_encoder_stage() -> None:
    net = Net()
    clock = StageClock(net)

    first, second = clock.measure(lambda: net.click(embeds=True)), clock.measure(lambda: net.click(embeds=False))

    assert first.answer == second.answer == b"answer"
    assert first.stages.encoder.wall > 0
    assert second.stages.encoder == NOTHING
    for click in (first, second):
        assert min(click.stages.before.wall, click.stages.decoder.wall, click.stages.after.wall) > 0


def test_a_click_that_asked_no_model_is_refused() -> None:
    with pytest.raises(RuntimeError, match="mask decoder was not seen"):
        StageClock(Net()).measure(lambda: np.zeros(1).tobytes())
