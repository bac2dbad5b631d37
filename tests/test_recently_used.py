from labelstudio_sam2.recently_used import RecentlyUsed


def test_what_was_unused_for_longest_goes() -> None:
    entries: RecentlyUsed[str, int] = RecentlyUsed(2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.get("a")

    entries.put("c", 3)

    assert (entries.get("a"), entries.get("b"), entries.get("c")) == (1, None, 3)


def test_an_entry_put_again_is_used_and_takes_no_second_place() -> None:
    entries: RecentlyUsed[str, int] = RecentlyUsed(2)
    entries.put("a", 1)
    entries.put("b", 2)
    entries.put("a", 10)

    entries.put("c", 3)

    assert (entries.get("a"), entries.get("b"), entries.get("c")) == (10, None, 3)
