"""Which pairs are believed when all of them are taken together: examples, one per rule."""

from dagster_project.domain.identity.clustering import Pair, guarded_union


def union(count, pairs, different=()):
    """Clusters of the profiles 1 to ``count`` as a set of words, and the refusals."""
    labels, refusals = guarded_union(
        range(1, count + 1), pairs, different, rival_margin=4, bridge_weight=10
    )  # fmt: skip
    clusters = {}
    for profile, label in labels.items():
        clusters.setdefault(label, set()).add(profile)
    assert all(label == min(members) for label, members in clusters.items())
    return sorted(sorted(members) for members in clusters.values()), refusals


def joins(left, right, weight=20.0, **said):
    return Pair(left, right, weight, joins=True, **said)


def two(left, right):
    return Pair(left, right, -20.0, conflict=2)


def perhaps_two(left, right):
    return Pair(left, right, -5.0, conflict=1)


def test_without_conflict_what_is_connected_is_one():
    assert union(4, [joins(1, 2), joins(2, 3)]) == ([[1, 2, 3], [4]], {})


def test_the_stronger_pair_is_believed_where_two_exclude_each_other():
    assert union(3, [joins(1, 2, 12), joins(2, 3, 20), two(1, 3)]) == ([[1], [2, 3]], {(1, 2): "conflict_inside"})


def test_who_fits_two_that_exclude_each_other_equally_well_joins_neither():
    assert union(3, [joins(1, 2, 20), joins(2, 3, 18), two(1, 3)]) == (
        [[1], [2], [3]],
        {(1, 2): "could_be_two_people", (2, 3): "could_be_two_people"},
    )


def test_a_conflict_of_two_far_ends_parts_the_chain_at_its_weakest_pair():
    pairs = [joins(1, 2, 30), joins(2, 3, 10), joins(3, 4, 30), two(1, 4)]
    assert union(4, pairs) == ([[1, 2], [3, 4]], {(2, 3): "conflict_inside"})


def test_a_perhaps_is_pardoned_by_a_pair_across_that_agrees_in_nearly_all():
    slip = [joins(1, 2, 40), joins(2, 3, 30, pardons=True), perhaps_two(1, 3)]
    assert union(3, slip)[0] == [[1, 2, 3]]
    assert union(3, [joins(1, 2, 40, pardons=True), joins(2, 3, 30), perhaps_two(1, 3)])[0] == [[1, 2], [3]]


def test_two_people_for_certain_are_never_pardoned():
    assert union(3, [joins(1, 2, 40, pardons=True), joins(2, 3, 30, pardons=True), two(1, 3)])[0] == [[1, 2], [3]]


def test_one_weak_pair_does_not_bridge_two_dense_parts():
    dense = [joins(1, 2), joins(1, 3), joins(2, 3), joins(4, 5), joins(4, 6), joins(5, 6)]
    assert union(6, [*dense, joins(3, 4, 8)]) == ([[1, 2, 3], [4, 5, 6]], {(3, 4): "weak_bridge"})
    assert union(6, [*dense, joins(3, 4, 12)])[0] == [[1, 2, 3, 4, 5, 6]]
    assert union(6, [*dense, joins(3, 4, 8), joins(2, 5, 8)])[0] == [[1, 2, 3, 4, 5, 6]]
    assert union(5, [*dense[:4], joins(3, 4, 8)])[0] == [[1, 2, 3, 4, 5]]


def test_declared_different_is_stronger_than_everything():
    pairs = [joins(1, 2, 90), joins(2, 3, 1000, is_decided=True)]
    assert union(3, pairs, [(3, 1)]) == ([[1], [2, 3]], {(1, 2): "declared_different"})


def test_a_stewards_same_joins_what_the_names_forbid_and_goes_first():
    assert union(2, [joins(1, 2, 1000, is_decided=True), two(1, 2)]) == ([[1, 2]], {})
    pairs = [joins(1, 2, 1000, is_decided=True), joins(2, 3, 90), two(1, 3)]
    assert union(3, pairs) == ([[1, 2], [3]], {(2, 3): "conflict_inside"})


def test_two_stewards_that_exclude_each_other_leave_the_different_standing():
    pairs = [joins(1, 2, 1000, is_decided=True), joins(2, 3, 1000, is_decided=True)]
    clusters, refusals = union(3, pairs, [(1, 3)])
    assert clusters == [[1, 2], [3]]
    assert refusals == {(2, 3): "declared_different"}
