"""Services, awaited in every kind of event loop."""

import pytest

import contextree
from tests.lab.poll import until
from tests.loops.worlds import WORLDS
from tests.services import far


@pytest.fixture(params=WORLDS, ids=[kind.name for kind in WORLDS])
def world(request):
    """One kind of event loop."""
    return request.param()


def test_the_whole_handle(world):
    async def main():
        api = world.api
        async with api.Router(grace=1.0) as router:
            store = far.Store()
            worker = await router.local(name="worker")
            service = await router.serve("store", store, threads=4)
            assert type(service) is api.Service and (service.name, service.methods) == ("store", service.sync.methods)
            assert await service.call.put("key", 5) == 1 and await service.call("get", "key") == 5
            with pytest.raises(KeyError):
                await service.call.get("none")
            with pytest.raises(AttributeError, match="has no method 'hidden'"):
                service.call.hidden()
            assert await service.submit.echo(1, x=2) == [[1], {"x": 2}]
            assert [row async for row in service.stream.rows(3000)] == list(range(3000))
            with pytest.raises(contextree.CallTimeout):
                await service.with_options(timeout=0.05).call.slowly(7, 60)
            timed_out, _ = await world.within(0.05, service.call.slowly, 7, 60)
            assert timed_out
            until(lambda: service.stats()["unanswered"] == 0, "those who left to be forgotten")
            narrow = service.only("get")
            await router.grant_service(narrow, worker)
            assert await worker.call(far.call, narrow, "get", "key") == 5
            with pytest.raises(contextree.Refused):
                await worker.call(far.call, service, "put", "key", 6)
            await router.revoke_service(narrow, worker)
            assert {service: 1}[api.wrap(service.sync)] == 1 and service != narrow
            below = await worker.call(far.serve)  # it comes as the answer of a call
            assert type(below) is api.Service and below.context == worker
            assert await below.call.echo("there") == [["there"], {}]
            async with service:
                pass
            with pytest.raises(contextree.Closed):
                await service.call.get("key")

    world.run(main)


def test_a_client_that_is_wrapped(world, router, store):
    with router.listen() as listener:
        client = contextree.join(listener.invite(services=[store]))

        async def main():
            assert await world.api.wrap(client).services["store"].call.echo("x") == [["x"], {}]

        world.run(main)
        client.close()
