"""The best n of many: a heap in two arrays that the caller keeps.

Knows: the order, by score, equal ones by lower index. Rules: nothing is allocated; exact, whatever the order
of the offers; scores are not NaN. Leaves to others: what is offered (`box_steps`).

The root of the heap is the worst kept (Knuth, The Art of Computer Programming 3, 5.2.3).
"""

from appliance.tensors import Array
from runtime.kernels.compiled import inlined


@inlined
def behind(score: float, index: int, other_score: float, other_index: int) -> bool:
    """True when the first comes after the other."""
    return score < other_score or (score == other_score and index > other_index)


@inlined
def sink(scores: Array, indices: Array, at: int, count: int) -> None:
    """Restore the heap of the first `count` below place `at`, whose entry is too good for it."""
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and behind(
            scores[child + 1], indices[child + 1], scores[child], indices[child]
        ):
            child += 1
        if not behind(scores[child], indices[child], scores[at], indices[at]):
            break
        scores[at], scores[child] = scores[child], scores[at]
        indices[at], indices[child] = indices[child], indices[at]
        at = child


@inlined
def heap_up(scores: Array, indices: Array, count: int) -> None:
    """Make a heap of the first `count`."""
    for at in range(count // 2 - 1, -1, -1):
        sink(scores, indices, at, count)


@inlined
def offer(scores: Array, indices: Array, count: int, score: float, index: int) -> int:
    """Keep `score` of `index` if it is among the best so far; how many are kept now.

    scores FP32, indices INT64: equally long, at least 1; `count` of them are kept.
    """
    if count < scores.size:
        scores[count], indices[count] = score, index
        if count + 1 == scores.size:
            heap_up(scores, indices, count + 1)
        return count + 1
    if behind(scores[0], indices[0], score, index):
        scores[0], indices[0] = score, index
        sink(scores, indices, 0, count)
    return count


@inlined
def best_first(scores: Array, indices: Array, count: int) -> None:
    """Sort the `count` kept, best first."""
    if count < scores.size:
        heap_up(scores, indices, count)
    for last in range(count - 1, 0, -1):
        scores[0], scores[last] = scores[last], scores[0]
        indices[0], indices[last] = indices[last], indices[0]
        sink(scores, indices, 0, last)
