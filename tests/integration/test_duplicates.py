"""Settling duplicates: the lowest row keeps a digest, again and again, whoever else settles at the time."""

import asyncio
from collections.abc import Mapping

from shared.chunk import Claim
from shared.db import chunks
from shared.db.session import transaction
from shared.pipeline import UPLOAD
from tests.core import Board, board_at

A, B, C = "aa" * 32, "bb" * 32, "cc" * 32


async def _uploading(board: Board, *, count: int, rows: int = 10) -> list[Claim]:
    job = await board.job(chunks=count, rows=rows)
    return [await board.claimed(UPLOAD, chunk) for chunk in await board.chunks_of(job)]


async def _settle(board: Board, claim: Claim, rows: Mapping[int, str | None]) -> dict[str, int]:
    async with transaction(board.engine) as connection:
        return await chunks.settle(connection, claim, UPLOAD, rows)


async def test_within_a_chunk_the_lowest_row_wins(database_url: str) -> None:
    async with board_at(database_url) as board:
        (claim,) = await _uploading(board, count=1)

        winners = await _settle(board, claim, {5: A, 3: A, 4: B, 9: A})

        assert winners == {A: 3, B: 4}


async def test_the_chunk_that_settled_first_keeps_its_digests(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await _uploading(board, count=2)

        await _settle(board, first, {7: A})
        winners = await _settle(board, second, {11: A, 12: B})

        assert winners == {A: 7, B: 12}


async def test_settling_again_gives_the_same_answer(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await _uploading(board, count=2)
        digests = {11: A, 12: B, 13: B}
        await _settle(board, first, {7: A})

        answers = [await _settle(board, second, digests) for _ in range(3)]

        assert answers == [{A: 7, B: 12}] * 3


async def test_a_redone_chunk_gives_up_what_it_no_longer_has(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await _uploading(board, count=2)
        await _settle(board, first, {1: A, 2: B})

        await _settle(board, first, {1: A, 2: C})
        winners = await _settle(board, second, {10: A, 11: B, 12: C})

        assert winners == {A: 1, B: 11, C: 2}


async def test_a_chunk_redone_without_any_image_gives_up_everything(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await _uploading(board, count=2)
        await _settle(board, first, {1: A})

        assert await _settle(board, first, {1: None}) == {}
        assert await _settle(board, second, {10: A}) == {A: 10}


async def test_another_dataset_has_its_own_winners(database_url: str) -> None:
    async with board_at(database_url) as board:
        (ours,) = await _uploading(board, count=1)
        (theirs,) = await _uploading(board, count=1)

        await _settle(board, ours, {1: A})

        assert await _settle(board, theirs, {2: A}) == {A: 2}


async def test_chunks_that_settle_at_once_agree_on_one_winner(database_url: str) -> None:
    digests = [f"{number:064x}" for number in range(200)]
    async with board_at(database_url, connections=8) as board:
        claims = await _uploading(board, count=8, rows=200)

        answers = await asyncio.gather(
            *(_settle(board, claim, dict(enumerate(digests, start=claim.first_row))) for claim in claims)
        )

        held = {bytes(row.sha256).hex(): row.row for row in await board.run("SELECT sha256, row FROM fingerprints")}
        assert len(held) == 200
        assert answers == [held] * 8


async def test_rows_between_those_of_a_retry_keep_their_digests(database_url: str) -> None:
    async with board_at(database_url) as board:
        first, second = await _uploading(board, count=2)
        await _settle(board, first, {1: None, 2: A, 3: B})

        await _settle(board, second, {1: C, 3: B})

        held = {bytes(row.sha256).hex(): row.row for row in await board.run("SELECT sha256, row FROM fingerprints")}
        assert held == {A: 2, B: 3, C: 1}
