import re
import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from raw_examples import volume_settings

from nontrivial.data.sources import name_patterns
from nontrivial.data.volumes import pairs
from nontrivial.data.volumes.selection import check_settings, find_pairs
from nontrivial.errors import UserError

BIDS = "sub-{subject}/ses-{session}/anat/sub-{subject}_ses-{session}_T1w.nii.gz"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"voxels")


def found(folder, pattern):
    return {match.inside: match.values for match in name_patterns.find(pattern, folder)}


def refused(problem, folder, images, labels, **changes):
    settings = volume_settings(images=images, labels=labels, **changes)
    with pytest.raises(UserError, match=problem) as caught:
        find_pairs(settings, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_repeated_wildcard_is_the_same_everywhere(tmp_path):
    right = "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
    touch(tmp_path, right, "sub-01/ses-1/anat/sub-02_ses-1_T1w.nii.gz", "sub-01/ses-1/x.nii.gz")
    assert found(tmp_path, BIDS) == {right: {"subject": "01", "session": "1"}}
    touch(tmp_path, "a/1-1.nii", "a/1-2.nii")
    assert found(tmp_path, "a/{n}-{n}.nii") == {"a/1-1.nii": {"n": "1"}}


def test_a_wildcard_does_not_cross_folders_or_match_hidden_files(tmp_path):
    touch(
        tmp_path, "images/a.nii", "images/.b.nii", "images/c/d.nii", ".git/e.nii", "images/f.nii.gz"
    )
    assert found(tmp_path, "images/{x}.nii") == {"images/a.nii": {"x": "a"}}
    assert found(tmp_path, "{folder}/{x}.nii") == {"images/a.nii": {"folder": "images", "x": "a"}}


def test_characters_of_regular_expressions_stand_for_themselves(tmp_path):
    touch(tmp_path, "a+(1).nii", "aa1.nii")
    assert found(tmp_path, "a+({x}).nii") == {"a+(1).nii": {"x": "1"}}


def test_an_absolute_pattern(tmp_path):
    touch(tmp_path, "raw/7.nii")
    (match,) = name_patterns.find(f"{tmp_path}/raw/{{x}}.nii", tmp_path / "elsewhere")
    assert (match.path, match.values) == (tmp_path / "raw" / "7.nii", {"x": "7"})
    assert match.inside == "raw/7.nii"


labels_of_people = st.text(string.ascii_letters + string.digits, min_size=1, max_size=6)


@given(rows=st.sets(st.tuples(labels_of_people, labels_of_people), min_size=1, max_size=6))
def test_what_is_written_by_a_pattern_is_found_by_it(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("bids")
    rows = {(f"a{n}{a}", f"b{n}{b}") for n, (a, b) in enumerate(rows)}  # not apart by case alone
    names = {BIDS.format(subject=a, session=b): {"subject": a, "session": b} for a, b in rows}
    touch(folder, *names)
    matches = name_patterns.find(BIDS, folder)
    assert {match.inside: match.values for match in matches} == names
    assert [match.inside for match in matches] == sorted(names)


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ("images/{subject.nii", "brace without its counterpart"),
        ("images/subject}.nii", "brace without its counterpart"),
        ("images/{{subject}}.nii", "brace without its counterpart"),
        ("images/{}.nii", r"\{\} is not a wildcard"),
        ("images/{sub ject}.nii", r"\{sub ject\} is not a wildcard"),
        ("images/{subject}{session}.nii", "two wildcards side by side"),
        ("images/{name}.nii", r"no \{subject\}"),
        ("images/{subject}.png", "must end in"),
        ("images/*/{subject}.nii", r"'\*' is not a wildcard; write \{name\}"),
        ("images/*.nii", r"'\*' is not a wildcard; write \{name\}"),
        ("./labels/{subject}.nii", "images and labels are both"),
    ],
)
def test_broken_patterns_are_found_without_a_file(images, problem):
    with pytest.raises(UserError, match=problem):
        check_settings(volume_settings(images=images, labels="labels/{subject}.nii"))


def test_images_and_labels_share_the_subject():
    with pytest.raises(UserError, match=r"write \{subject\} in both"):
        check_settings(volume_settings(images="a/{subject}_{n}.nii", labels="b/{n}.nii"))
    with pytest.raises(UserError, match="wildcards in both, or name two folders"):
        check_settings(volume_settings(images="a/{subject}.nii", labels="b"))


def test_images_and_labels_are_different_folders():
    with pytest.raises(UserError, match="images and labels are both 'a/'"):
        check_settings(volume_settings(images="a/", labels="a"))


@pytest.mark.parametrize("form", ["images", "images/{subject}.nii"])
def test_equal_names_in_other_unicode_forms_belong_together(tmp_path, form):
    composed, decomposed = (unicodedata.normalize(kind, "Müller") for kind in ("NFC", "NFD"))
    touch(tmp_path, f"images/{decomposed}.nii", f"labels/{composed}.nii")
    settings = volume_settings(images=form, labels=form.replace("images", "labels"))
    (pair,) = find_pairs(settings, tmp_path)
    assert pair.image.name == f"{decomposed}.nii"
    assert pair.label.name == f"{composed}.nii"


def test_sessions_of_a_subject_in_two_unicode_forms(tmp_path):
    composed, decomposed = (unicodedata.normalize(kind, "Müller") for kind in ("NFC", "NFD"))
    touch(tmp_path, *(f"{k}/{n}.nii" for k in "il" for n in (f"{composed}_1", f"{decomposed}_2")))
    settings = volume_settings(images="i/{subject}_{n}.nii", labels="l/{subject}_{n}.nii")
    assert {pair.subject for pair in find_pairs(settings, tmp_path)} == {composed}


def test_pairs_of_sessions(tmp_path):
    names = [f"sub-{s}_ses-{n}" for s in ("02", "01") for n in "21"]
    touch(tmp_path, *(f"a/{name}_T1w.nii.gz" for name in names))
    touch(tmp_path, *(f"b/{name}_dseg.nii" for name in names))
    images = "a/sub-{subject}_ses-{session}_T1w.nii.gz"
    labels = "b/sub-{subject}_ses-{session}_dseg.nii"
    pairs_found = find_pairs(volume_settings(images=images, labels=labels), tmp_path)
    assert [pair.source for pair in pairs_found] == sorted(f"a/{n}_T1w.nii.gz" for n in names)
    assert [pair.subject for pair in pairs_found] == ["01", "01", "02", "02"]
    for pair in pairs_found:
        assert pair.image == tmp_path / pair.source
        assert pair.label.name == pair.image.name.replace("T1w.nii.gz", "dseg.nii")


def test_labels_beside_images_are_no_images(tmp_path):
    names = [f"p{n}/p{n}_frame{frame}" for n in (1, 2) for frame in ("01", "12")]
    touch(tmp_path, *(f"{name}{end}.nii" for name in names for end in ("", "_gt")))
    images = "{subject}/{subject}_frame{frame}.nii"
    found_pairs = pairs.from_patterns(images, images.replace(".nii", "_gt.nii"), tmp_path)
    assert [pair.source for pair in found_pairs] == [f"{name}.nii" for name in names]
    assert [pair.label.name for pair in found_pairs] == [f"{name[3:]}_gt.nii" for name in names]


def test_a_label_for_all_sessions_of_a_subject(tmp_path):
    touch(tmp_path, "a/1_x.nii", "a/1_y.nii", "a/2_x.nii", "b/1.nii", "b/2.nii")
    found_pairs = pairs.from_patterns("a/{subject}_{session}.nii", "b/{subject}.nii", tmp_path)
    assert [(pair.source, pair.label.name) for pair in found_pairs] == [
        ("a/1_x.nii", "1.nii"),
        ("a/1_y.nii", "1.nii"),
        ("a/2_x.nii", "2.nii"),
    ]


def test_a_pattern_in_place_of_a_folder_changes_no_name_and_no_order(tmp_path):
    touch(tmp_path, *(f"{k}/{n}.nii.gz" for k in "ab" for n in ("s1", "s1-b", "s10", "S2", "s2")))
    by_folder = pairs.from_folders(tmp_path / "a", tmp_path / "b")
    by_pattern = pairs.from_patterns("a/{subject}.nii.gz", "b/{subject}.nii.gz", tmp_path)
    assert [(p.subject, p.source, p.image, p.label) for p in by_folder] == [
        (p.subject, p.source, p.image, p.label) for p in by_pattern
    ]


def test_an_image_without_its_label_is_named(tmp_path):
    touch(tmp_path, *(f"a/{n}.nii" for n in range(5)), *(f"b/{n}.nii" for n in (0, 4)))
    told = refused("has no label", tmp_path, "a/{subject}.nii", "b/{subject}.nii")
    assert f"{tmp_path}/a/1.nii (and 2 more): has no label that matches 'b/{{subject}}.nii'" in told
    touch(tmp_path, *(f"b/{n}.nii" for n in range(6)))
    told = refused("has no image", tmp_path, "a/{subject}.nii", "b/{subject}.nii")
    assert f"{tmp_path}/b/5.nii: has no image" in told


def test_an_image_with_two_labels(tmp_path):
    touch(tmp_path, "a/1.nii", "b/1_x.nii", "b/1_y.nii")
    told = refused("2 labels match", tmp_path, "a/{subject}.nii", "b/{subject}_{rater}.nii")
    assert re.search(r"a/1\.nii: 2 labels match \(.*1_x\.nii, .*1_y\.nii\)", told)


def test_a_pattern_without_files_says_where_it_looked(tmp_path):
    touch(tmp_path, "deep/a/1.nii", "deep/b/1.nii", "labels/1.nii")
    told = refused("no file matches", tmp_path, "c/{subject}.nii", "labels/{subject}.nii")
    assert str(tmp_path / "c" / "{subject}.nii") in told
    told = refused("no file matches", tmp_path, "a/{subject}.nii", "b/{subject}.nii")
    assert told.endswith(f"set data_dir: {tmp_path / 'deep'}")


def test_only_one_source_of_subjects():
    patterns = {"images": "a/{subject}.nii", "labels": "b/{subject}.nii"}
    for key in ("subject_pattern", "subject_table"):
        with pytest.raises(UserError, match=r"only one source of subjects.* \{subject\} in images"):
            check_settings(volume_settings(**patterns, **{key: "x"}))
    check_settings(volume_settings(images="a/{n}_0000.nii", labels="b/{n}.nii", subject_table="x"))
    with pytest.raises(UserError, match="one_subject_per_file: remove it"):
        check_settings(volume_settings(subject_pattern="x", one_subject_per_file=True))
