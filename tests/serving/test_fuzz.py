"""Random bodies made from our own OpenAPI: whatever comes, no answer is a 5xx."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

QUICK = 150  # bodies a server in the default suite
MANY = 5000


def bodies(server):
    """A strategy over the requests of every POST route, valid and not."""
    schema = schemathesis.openapi.from_dict(server.client.get("/openapi.json").json())
    operations = [
        result.ok() for result in schema.get_all_operations() if result.ok().method == "post"
    ]
    modes = schemathesis.GenerationMode
    strategies = [
        operation.as_strategy(generation_mode=mode)
        for operation in operations
        for mode in (modes.POSITIVE, modes.NEGATIVE)
        if operation.body
    ]
    assert len({operation.path for operation in operations if operation.body}) >= 8
    return st.one_of(strategies)


def fuzz(server, count):
    """Send `count` bodies."""
    quiet = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

    @settings(
        max_examples=count,
        deadline=None,
        suppress_health_check=quiet,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
    )
    @given(case=bodies(server))
    def run(case):
        answer = case.call(base_url=server.url)
        assert answer.status_code < 500, (case.path, case.body, answer.text)

    run()
    assert server.client.get("/health").status_code == 200


def test_no_body_makes_a_server_error(servers):
    fuzz(servers("mat"), QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mat", "cls", "ce"])
def test_five_thousand_bodies(servers, name):
    fuzz(servers(name), MANY // 3)
