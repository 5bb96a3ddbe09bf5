"""How a limit is set: by our functions and by Prefect's client; the one thing here that the two do differently."""

from __future__ import annotations

from .names import PREFECT

if PREFECT:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate

    def set_limit(name: str, limit: int, slot_decay_per_second: float = 0.0) -> None:
        """So many slots; with a decay they come back with time."""
        with get_client(sync_client=True) as client:
            client.create_global_concurrency_limit(
                GlobalConcurrencyLimitCreate(name=name, limit=limit, slot_decay_per_second=slot_decay_per_second)
            )

    def set_tag_limit(tag: str, limit: int) -> None:
        """So many task runs with this tag."""
        import asyncio

        async def create() -> None:
            async with get_client() as client:
                await client.create_concurrency_limit(tag=tag, concurrency_limit=limit)

        asyncio.run(create())

else:
    from flowdeck import create_concurrency_limit, upsert_global_concurrency_limit_by_name

    def set_limit(name: str, limit: int, slot_decay_per_second: float = 0.0) -> None:
        """So many slots; with a decay they come back with time."""
        upsert_global_concurrency_limit_by_name(name, limit, slot_decay_per_second or None)

    def set_tag_limit(tag: str, limit: int) -> None:
        """So many task runs with this tag."""
        create_concurrency_limit(tag, limit)
