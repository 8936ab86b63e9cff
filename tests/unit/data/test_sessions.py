"""Names of several scans of one subject are refused; names of different subjects are not."""

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from raw_examples import volume_settings

from nontrivial.data.volumes import sessions
from nontrivial.data.volumes.selection import find_pairs
from nontrivial.errors import UserError


def two_each(template, subjects=("01", "02", "03"), markers=("1", "2")):
    """Return names of two scans per subject, but for the last subject."""
    return [template.format(s=s, m=m) for s in subjects for m in markers][:-1]


MANY = range(1, 30)
# Names as they are published or made by common tools, and the subject of the first one.
SCANS_OF_ONE = [
    (two_each("OAS1_00{s}_MR{m}"), "OAS1_0001"),
    (two_each("OAS2_00{s}_MR{m}"), "OAS2_0001"),
    (two_each("sub-{s}_ses-{m}_T1w"), "sub-01"),
    (two_each("sub-{s}_ses-{m}_run-1_T1w"), "sub-01"),
    (two_each("sub-{s}_run-{m}_T1w"), "sub-01"),
    (two_each("sub-{s}_acq-{m}_T1w", markers=("mprage", "tse")), "sub-01"),
    (two_each("sub-OAS300{s}_ses-d{m}_T1w", markers=("0129", "2340")), "sub-OAS30001"),
    (two_each("sub-{s}_{m}", markers=("T1w", "T2w")), "sub-01"),
    (two_each("{s}_{m}", markers=("baseline", "followup")), "01"),
    (["001", "001_followup", "002"], "001"),
    (["001", "002", "002_rescan"], "002"),
    (two_each("patient{s}_tp{m}"), "patient01"),
    (two_each("patient{s}tp{m}"), "patient01"),
    (two_each("P{s}_visit{m}"), "P01"),
    (two_each("P{s}-visit-{m}"), "P01"),
    (two_each("P{s}_v{m}"), "P01"),
    (two_each("S{s}V{m}"), "S01"),
    (two_each("x{s}_scan{m}"), "x01"),
    (two_each("002_S_00{s}_m{m}", markers=("00", "12")), "002_S_0001"),
    (two_each("{s}_t{m}", markers=("0", "1")), "01"),
    (two_each("{s}_session_{m}"), "01"),
    (two_each("{s}_{m}", markers=("20190103", "20200708")), "01"),
    (two_each("{s}_{m}_T1", markers=("2019-01-03", "2020-07-08")), "01_T1"),
    (two_each("{s}_flair_time{m}", markers=("01", "02")), "01_flair"),
    (two_each("training{s}_0{m}_flair_pp"), "training01"),
    (two_each("patient0{s}_frame{m}", markers=("01", "12")), "patient001"),
    (two_each("case{s}_{m}", markers=("ED", "ES")), "case01"),
    (two_each("case{s}_{m}", markers=("left", "right")), "case01"),
    (two_each("IXI0{s}-Guys-0828-{m}", markers=("T1", "T2")), "IXI001-Guys-0828"),
    (two_each("v{m}_{s}"), "01"),
    (two_each("{s}_{m}"), "01"),
    (two_each("{s}_tp{m}", subjects=("anna", "bert", "carl")), "anna"),
    (
        [
            f"ADNI_002_S_{subject}_MR_MPRAGE_br_raw_{date}_1_S{number}_I{number}"
            for number, (subject, date) in enumerate(
                [("0295", "20060418193713091"), ("0295", "20070418193713091"), ("0413", "20060501")]
            )
        ],
        "ADNI_002_S_0295_MR_MPRAGE_br_raw",
    ),
]
SUBJECTS = [
    [f"hippocampus_{n:03d}" for n in range(1, 395)],
    [f"case_{n:05d}" for n in MANY],
    [f"BRATS_{n:03d}" for n in MANY],
    [f"BraTS2021_{n:05d}" for n in MANY],
    [f"BraTS-GLI-{n:05d}-000" for n in MANY],
    [f"IXI{n:03d}-{site}-{800 + n:04d}-T1" for n, site in enumerate(["Guys", "HH", "IOP"] * 9)],
    [f"OAS1_{n:04d}_MR1" for n in MANY],
    [f"sub-{n:02d}_T1w" for n in MANY],
    [f"sub-{n:02d}_ses-1_T1w" for n in MANY],
    [f"sub-{n:02d}_ses-{1 + n % 2}_run-{1 + n % 3}_T1w" for n in MANY],
    [f"CC{n:04d}_philips_15_{50 + n % 9}_{'MF'[n % 2]}" for n in MANY],
    [f"KKI2009-{n:02d}-MPRAGE" for n in MANY],
    [f"LIDC-IDRI-{n:04d}" for n in MANY],
    [f"scan_{n:03d}" for n in MANY],
    [f"scan{n}" for n in MANY],
    [f"brain_scan_{n:03d}" for n in MANY],
    [f"OAS1_scan_{n:03d}" for n in MANY],
    [f"run-{n}" for n in MANY],
    [f"t1_{n}" for n in MANY],
    [f"v{n}" for n in MANY],
    [f"m{n:03d}_scan" for n in MANY],
    [f"{group}_scan_{n:02d}" for group in ("AD", "NC") for n in MANY],
    [f"site{site}_{n:02d}" for site in (1, 2) for n in MANY],
    [f"site{site}_scan_{n:02d}" for site in (1, 2) for n in range(1, 6)],
    [f"{site}_{n}" for site in (1, 2) for n in MANY],
    [f"{split}_{n:03d}" for split in ("train", "test") for n in MANY],
    [f"{20190100 + n}" for n in MANY],
    [f"volume-{n}" for n in MANY],
    ["anna", "bert", "carl"],
    ["001_baseline", "002_followup", "003_baseline"],
    ["only"],
    [],
]


@pytest.mark.parametrize(("names", "subject"), SCANS_OF_ONE, ids=lambda value: str(value)[:40])
def test_scans_of_one_subject_are_recognized(names, subject):
    groups = sessions.alike(names)
    assert subject in groups
    assert all(len(members) > 1 for members in groups.values())
    assert sum(map(len, groups.values())) < len(names) or len(names) == 2


@pytest.mark.parametrize("names", SUBJECTS, ids=lambda names: str(names)[:40])
def test_different_subjects_are_not_mixed_up(names):
    assert sessions.alike(names) == {}


@given(st.lists(st.text("ab01_-.", max_size=8), max_size=8), st.randoms())
def test_groups_do_not_depend_on_the_order_of_names(names, random):
    shuffled = random.sample(names, len(names))
    first, second = sessions.alike(names), sessions.alike(shuffled)
    assert {key: sorted(value) for key, value in first.items()} == {
        key: sorted(value) for key, value in second.items()
    }
    assert all(len(set(members)) > 1 for members in first.values())


def write(folder, names, suffix=".nii.gz"):
    for kind in ("images", "labels"):
        (folder / kind).mkdir(exist_ok=True)
        for name in names:
            (folder / kind / f"{name}{suffix}").write_bytes(b"voxels")


def refused(folder, **changes):
    with pytest.raises(UserError, match="scans of one subject") as caught:
        find_pairs(volume_settings(**changes), folder)
    told = str(caught.value)
    assert "\n" not in told
    assert "one_subject_per_file: true" in told
    return told


def advised(told):
    """Return the settings that an error says to write, read as YAML."""
    lines = re.findall(r"(?:images|labels): \"[^\"]*\"|subject_pattern: '[^']*'", told)
    settings = yaml.safe_load("\n".join(lines))
    assert settings, told
    return settings


@pytest.mark.parametrize(("names", "subject"), SCANS_OF_ONE, ids=lambda value: str(value)[:40])
def test_the_advice_puts_all_scans_of_a_subject_together(tmp_path, names, subject):
    write(tmp_path, names)
    pairs = find_pairs(volume_settings(**advised(refused(tmp_path))), tmp_path)
    assert len(pairs) == len(names)
    subject_of = {pair.image.name.removesuffix(".nii.gz"): pair.subject for pair in pairs}
    assert sessions.groups_alike(names, subject_of)
    assert len(set(subject_of.values())) < len(names)


@pytest.mark.parametrize("names", SUBJECTS[:8], ids=lambda names: str(names)[:40])
def test_folders_of_different_subjects_pass(tmp_path, names):
    write(tmp_path, names)
    assert len({pair.subject for pair in find_pairs(volume_settings(), tmp_path)}) == len(names)


def test_the_message_names_the_scans_and_counts_the_subjects(tmp_path):
    write(tmp_path, two_each("OAS1_00{s}_MR{m}", subjects=("01", "02", "03", "04")))
    told = refused(tmp_path)
    assert "OAS1_0001_MR1.nii.gz and OAS1_0001_MR2.nii.gz look like scans of one subject" in told
    assert "(and 2 more subjects likewise)" in told
    assert 'images: "images/{subject}_MR{session}.nii.gz"' in told


def test_the_same_names_as_files_of_different_subjects(tmp_path):
    names = two_each("OAS1_00{s}_MR{m}")
    write(tmp_path, names)
    pairs = find_pairs(volume_settings(one_subject_per_file=True), tmp_path)
    assert [pair.subject for pair in pairs] == names
    patterns = {"images": "images/{subject}.nii.gz", "labels": "labels/{subject}.nii.gz"}
    pairs = find_pairs(volume_settings(one_subject_per_file=True, **patterns), tmp_path)
    assert [pair.subject for pair in pairs] == names


def test_one_subject_per_file_is_checked(tmp_path):
    write(tmp_path, two_each("OAS1_00{s}_MR{m}"))
    changes = {
        "images": "images/{subject}_MR{n}.nii.gz",
        "labels": "labels/{subject}_MR{n}.nii.gz",
        "one_subject_per_file": True,
    }
    with pytest.raises(UserError, match=r"subject OAS1_0001 \(and 1 more\) has 2 images"):
        find_pairs(volume_settings(**changes), tmp_path)


def test_a_wildcard_that_swallows_the_session_is_noticed(tmp_path):
    write(tmp_path, two_each("sub-{s}_ses-{m}_T1w"))
    patterns = {f"{kind}s": f"{kind}s/sub-{{subject}}_T1w.nii.gz" for kind in ("image", "label")}
    told = refused(tmp_path, **patterns)
    assert 'images: "images/sub-{subject}_ses-{session}_T1w.nii.gz"' in told
    pairs = find_pairs(volume_settings(**advised(told)), tmp_path)
    assert {pair.subject for pair in pairs} == {"01", "02", "03"}


def test_mixed_names_need_an_expression(tmp_path):
    write(tmp_path, [*two_each("sub-{s}_ses-{m}_T1w"), "sub-09_T1w"])
    assert advised(refused(tmp_path)) == {"subject_pattern": "^(sub-[A-Za-z0-9]+)"}


def test_mixed_suffixes_need_an_expression(tmp_path):
    write(tmp_path, two_each("OAS1_00{s}_MR{m}"))
    (tmp_path / "images/OAS1_0001_MR1.nii.gz").rename(tmp_path / "images/OAS1_0001_MR1.nii")
    settings = advised(refused(tmp_path))
    assert settings.keys() == {"subject_pattern"}
    pairs = find_pairs(volume_settings(**settings), tmp_path)
    assert len({pair.subject for pair in pairs}) == 3


@pytest.mark.parametrize("rule", [{"subject_pattern": "(OAS1_....)"}, {"subject_table": "t.tsv"}])
def test_a_rule_for_subjects_passes(tmp_path, rule):
    names = two_each("OAS1_00{s}_MR{m}")
    write(tmp_path, names)
    rows = "".join(f"{name}\t{name[:9]}\n" for name in names)
    (tmp_path / "t.tsv").write_text("image\tsubject\n" + rows)
    pairs = find_pairs(volume_settings(**rule), tmp_path)
    assert {pair.subject for pair in pairs} == {"OAS1_0001", "OAS1_0002", "OAS1_0003"}


def test_a_table_names_the_subjects(tmp_path):
    names = two_each("OAS1_00{s}_MR{m}")
    write(tmp_path, names)
    rows = "".join(f"{n[:9]}\timages/{n}.nii.gz\tlabels/{n}.nii.gz\n" for n in names)
    (tmp_path / "t.tsv").write_text("subject\timage\tlabel\n" + rows)
    settings = volume_settings(images=None, labels=None, table="t.tsv")
    assert len({pair.subject for pair in find_pairs(settings, tmp_path)}) == 3


def test_a_decathlon_folder_needs_an_expression(tmp_path):
    names = two_each("sub-{s}_ses-{m}_T1w")
    write(tmp_path, names)
    entries = [{"image": f"images/{n}.nii.gz", "label": f"labels/{n}.nii.gz"} for n in names]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": entries}))
    decathlon = {"images": None, "labels": None, "decathlon": "."}
    settings = advised(refused(tmp_path, **decathlon))
    pairs = find_pairs(volume_settings(**decathlon, **settings), tmp_path)
    assert {pair.subject for pair in pairs} == {"sub-01", "sub-02", "sub-03"}
    settings = volume_settings(**decathlon, one_subject_per_file=True)
    assert len({pair.subject for pair in find_pairs(settings, tmp_path)}) == 5
