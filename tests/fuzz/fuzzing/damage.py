"""What happens to files: cut short, bits turned, sizes that are lies."""

import random

HEADER_BYTES = 160  # where most formats keep their sizes
HUGE = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x00")


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """A file with one kind of damage."""
    kind = rng.choice((cut, flipped, flipped_header, huge_size, blanked, lengthened, shuffled))
    return kind(whole, rng)


def cut(whole: bytes, rng: random.Random) -> bytes:
    """Cut short, as often within the header as anywhere."""
    place = rng.randrange(min(HEADER_BYTES, len(whole)) if rng.random() < 0.5 else len(whole))
    return whole[:place]


def flipped(whole: bytes, rng: random.Random, stop: int | None = None) -> bytes:
    """With one to eight bits turned before `stop`."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(stop or len(whole))] ^= 1 << rng.randrange(8)
    return bytes(content)


def flipped_header(whole: bytes, rng: random.Random) -> bytes:
    """With one to eight bits of the header turned."""
    return flipped(whole, rng, min(HEADER_BYTES, len(whole)))


def huge_size(whole: bytes, rng: random.Random) -> bytes:
    """With a word of the header that may be a size set to the largest or smallest number."""
    place, value = rng.randrange(min(HEADER_BYTES, len(whole))), rng.choice(HUGE)
    return whole[:place] + value + whole[place + 4 :]


def blanked(whole: bytes, rng: random.Random) -> bytes:
    """With a stretch of zeros, as a disk that was full leaves it."""
    start, stop = sorted(rng.randrange(len(whole) + 1) for _ in range(2))
    return whole[:start] + bytes(stop - start) + whole[stop:]


def lengthened(whole: bytes, rng: random.Random) -> bytes:
    """With noise after its end."""
    return whole + rng.randbytes(rng.randrange(1, 5_000))


def shuffled(whole: bytes, rng: random.Random) -> bytes:
    """With noise after a beginning that looks right."""
    place = rng.randrange(min(HEADER_BYTES, len(whole)))
    return whole[:place] + rng.randbytes(len(whole) - place)
