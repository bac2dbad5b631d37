import math

import pytest
from prometheus_client import CollectorRegistry, Histogram

from labelstudio_sam2.ops.metrics import Metrics
from labelstudio_sam2.status.charts import Bar, chart_of
from labelstudio_sam2.status.figures import Figures, Latency


def latency_of(*seconds: float) -> Latency:
    """Observe some seconds in a histogram with the bounds 10 ms, 100 ms and 1 s."""
    registry = CollectorRegistry()
    histogram = Histogram("labelstudio_sam2_x_seconds", "x", buckets=(0.01, 0.1, 1), registry=registry)
    for each in seconds:
        histogram.observe(each)
    found = Figures(registry).latency("x_seconds")
    assert found is not None
    return found


def test_a_histogram_is_read_as_how_many_fell_into_each_bucket() -> None:
    latency = latency_of(0.005, 0.02, 0.03, 5)

    assert latency.bounds == (0.01, 0.1, 1, math.inf)
    assert latency.counts == (1, 2, 0, 1)
    assert latency.times == 4
    assert latency.mean_seconds == pytest.approx(5.055 / 4)


@pytest.mark.parametrize(("share", "bound"), [(0.25, 0.01), (0.26, 0.1), (0.75, 0.1), (0.76, math.inf)])
def test_the_bound_that_a_share_keeps_is_the_lowest_one(share: float, bound: float) -> None:
    assert latency_of(0.005, 0.02, 0.03, 5).within(share) == bound


def test_stages_are_told_apart_by_their_work() -> None:
    metrics = Metrics()
    metrics.count_prefetch({"embed": 0.3})

    figures = Figures(metrics.registry)

    found = figures.latency("stage_seconds", work="prefetch", stage="embed")
    assert found is not None
    assert (found.times, found.total_seconds) == (1, 0.3)
    assert figures.latency("stage_seconds", work="click", stage="embed") is None
    assert figures.latency("stage_seconds", work="prefetch", stage="predict") is None


def test_what_is_not_told_is_nothing() -> None:
    figures = Figures(CollectorRegistry())

    assert figures.value("prefetch_waiting") is None
    assert figures.by("embedding_entries", "tier") == {}
    assert figures.text("build", "model") == ""
    assert figures.total("requests_total", but="error") == 0


def test_requests_that_went_well_are_no_errors() -> None:
    metrics = Metrics()
    for error, times in {"": 5, "busy": 2, "loading": 1}.items():
        for _ in range(times):
            metrics.count_request(
                route="/predict", method="POST", status=503, error=error, work="click", seconds=0.1, stages={}
            )

    assert Figures(metrics.registry).total("requests_total", but="error") == 3


def test_a_chart_has_a_bar_for_each_bucket_that_something_fell_into() -> None:
    chart = chart_of(latency_of(0.005, 0.02, 0.03, 0.03, 0.03, 5))

    assert chart.bars == (
        Bar(x=0, y=18.0, height=6.0),
        Bar(x=8, y=0.0, height=24.0),
        Bar(x=24, y=18.0, height=6.0),
    )
    assert (chart.width, chart.height, chart.lines) == (32, 24, (8, 16, 24))
    assert chart.words == "1 up to 10 ms, 4 from 10 ms to 100 ms, 1 over 1 s"


def test_one_among_a_thousand_can_still_be_seen() -> None:
    chart = chart_of(latency_of(*[0.02] * 1000, 0.5))

    assert [bar.height for bar in chart.bars] == [24.0, 4.0]
