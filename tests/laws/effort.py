"""How much a law that walks whole deliveries is tried: a few seeds, always the same ones, without shrinking."""

from hypothesis import HealthCheck, Phase, settings

QUICK = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
