from nontrivial.inference.random_streams import generator


def draws(*arguments):
    return generator(*arguments).integers(0, 2**60, 4).tolist()


def test_a_target_draws_the_same_under_every_name():
    assert draws(0, ["a", "b"], "bootstrap") == draws(0, ("b", "a"), "bootstrap")


def test_seed_kernels_and_purpose_all_matter():
    streams = [
        draws(0, ["a"], "bootstrap"),
        draws(1, ["a"], "bootstrap"),
        draws([0, 1], ["a"], "bootstrap"),
        draws(0, ["b"], "bootstrap"),
        draws(0, ["a", "b"], "bootstrap"),
        draws(0, ["a"], "sign flip"),
    ]
    assert len({tuple(stream) for stream in streams}) == len(streams)
