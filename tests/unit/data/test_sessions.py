"""Names of several scans of one subject are refused; names of different subjects are not."""

import hashlib
import json
import re
import uuid

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from raw_examples import volume_settings, write_decathlon

from nontrivial.data.manifest import check_files
from nontrivial.data.volumes import sessions
from nontrivial.data.volumes.selection import find_pairs
from nontrivial.data.volumes.subjects import warnings
from nontrivial.errors import UserError


def two_each(template, subjects=("01", "02", "03"), markers=("1", "2")):
    """Return names of two scans per subject, but for the last subject."""
    return [template.format(s=s, m=m) for s in subjects for m in markers][:-1]


def each(template, *markers, subjects=range(1, 30)):
    """Return a name for every subject and marker."""
    return [template.format(s=s, m=m) for s in subjects for m in markers]


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
    (two_each("{s}_{m}_T1", markers=("2019-01-03", "2020-07-08")), "01"),
    (two_each("{s}_flair_time{m}", markers=("01", "02")), "01"),
    (two_each("training{s}_0{m}_flair_pp"), "training01"),
    (two_each("patient0{s}_frame{m}", markers=("01", "12")), "patient001"),
    (two_each("case{s}_{m}", markers=("ED", "ES")), "case01"),
    (two_each("case{s}_{m}", markers=("left", "right")), "case01"),
    (two_each("IXI0{s}-Guys-0828-{m}", markers=("T1", "T2")), "IXI001"),
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
        "002_S_0295",
    ),
    (
        [
            f"ADNI_002_S_{s:04d}_MR_MPR{repeat}__GradWarp__N3__Scaled_Br_2007{s:02d}0911_S{s}{n}_I{n}"
            for s in MANY[:9]
            for n, repeat in enumerate(["", "-R"])
        ],
        "002_S_0001",
    ),
    (each("OAS3{s:04d}_MR_d{m}", "0129", "2340"), "OAS30001"),
    (each("OAS1_{s:04d}_MR1_mpr-{m}_anon", 1, 2, 3), "OAS1_0001"),
    (each("OAS1_{s:04d}_MR{m}_mpr-1_anon", 1, 2), "OAS1_0001"),
    (each("miriad_{s}_AD_F_{m}", "01_MR_1", "01_MR_2", "02_MR_1"), "miriad_1"),
    (each("TCGA-02-{s:04d}_{m}", "pre", "post"), "TCGA-02-0001"),
    (each("{m}_{s:03d}", "baseline", "followup"), "001"),
    (each("{m}_{s:03d}", "pre", "post"), "001"),
    (each("{m}-{s:03d}", "BL", "FU"), "001"),
    (each("{m}_{s:03d}", "test", "retest"), "001"),
    (each("visit_{m}_{s:03d}", 1, 2), "001"),
    (each("hip_{m}_{s:03d}", "left", "right"), "001"),
    (each("{m}_P{s:03d}", "20200101", "20210305"), "P001"),
    (["BraTS-GLI-00003-001", *each("BraTS-GLI-{s:05d}-{m}", "000")], "BraTS-GLI-00003"),
    (each("P{s:03d}_{m}", "001", "002"), "P001"),
    (each("P{s:03d}_{m}", 2019, 2021), "P001"),
    (each("{s:03d}_{m}", 2019, 2021), "001"),
    (each("P{s:03d}_{m}", "01-05-2019", "03-06-2021"), "P001"),
    (each("P{s:03d}_{m}", "03.01.2019", "08.07.2020"), "P001"),
    (each("P{s:03d}_{m}", "190501", "210501"), "P001"),
    ([f"P{s:03d}_{y}05{s:02d}" for s in MANY for y in (19, 21)], "P001"),
    (each("P{s:03d}_{m}", "A", "B"), "P001"),
    (each("P{s:03d}{m}", "a", "b"), "P001"),
    (each("{s:03d}{m}", "L", "R"), "001"),
    (each("1003{s:02d}_{m}", "3T", "7T"), "100301"),
    (each("P{s:03d}_{m}", "0m", "12m"), "P001"),
    (each("P{s:03d}_{m}", "12wk", "24wk"), "P001"),
    (each("10000{s:02d}-{m}", "i2", "i3"), "1000001"),
    (each("10000{s:02d}_{m}_2_0", 20251, 20252), "1000001"),
    (each("P{s:03d}{m}", "", "_copy"), "P001"),
    (each("P{s:02d}_visit{m}", *range(1, 10), subjects=range(1, 4)), "P01"),
    (each("P{s:02d}_{m}", "v1_a", "v1_b", "v2_a", "v2_b"), "P01"),
    (each("P{s:02d}_{m}", "v1_3T", "v2_3T", "v1_7T"), "P01"),
    (each("P{s:02d}_{m}", "20190101_1", "20190101_2", "20200202_1"), "P01"),
    ([f"study_20{y}0112_{s:04d}" for s in MANY for y in (10, 13)], "0001"),
    (each("MR_visit{m}_{s:03d}", 1, 2), "001"),
    (each("{m}_{s:03d}", "bl", "m06", "m12"), "001"),
    (each("d{m}_rat{s:02d}", 0, 7), "rat01"),
    (each("patient{s:03d}_frame{m:02d}", *range(1, 14)), "patient001"),
    (each("case{s:02d}_slice{m:03d}", *range(1, 20)), "case01"),
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
    [f"S{site}-{n:02d}" for site in (1, 2, 3) for n in range(1, 6)],
    [f"{site:02d}_{n:02d}" for site in (1, 2, 3) for n in range(1, 9)],
    [f"{year}_{n}" for year in (2019, 2020) for n in range(1, 9)],
    [f"2020-01-{n:02d}" for n in MANY],
    [f"002_S_{n:04d}" for n in MANY],
    [f"{n:07d}_20252_2_0" for n in MANY],
    [f"mr_train_10{n:02d}_image" for n in MANY],
    [f"{site}_{n:07d}" for site in ("Caltech", "NYU") for n in MANY],
    [f"Case{n:02d}" for n in MANY],
    [f"sub-A-{n:03d}" for n in MANY],
    [f"{group}_{n:02d}" for group in ("control", "patient") for n in MANY],
    [f"HC{n:03d}" for n in MANY] + [f"PT{n:03d}" for n in MANY],
    [f"PETCT_{hashlib.sha256(str(n).encode()).hexdigest()[:10]}" for n in range(500)],
    [str(uuid.UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for n in range(500)],
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
    assert ("one_subject_per_file: true" in told) == ("look like scans" in told)
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
    settings = volume_settings(**advised(refused(tmp_path)))
    pairs = find_pairs(settings, tmp_path)
    assert len(pairs) == len(names)
    assert len({pair.subject for pair in pairs}) < len(names)
    assert subject in {pair.subject for pair in pairs}
    assert warnings(pairs, settings) == []


IDS = ["P{s:03d}", "{s:04d}", "BraTS-GLI-{s:05d}", "IXI{s:03d}-Guys", "s{s}"]
ENDS = ["v{v}", "{v}", "visit{v}", "ses-{v}", "2019010{v}", "{v}_{r}", "v{v}_{r}", "d{v}0_run{r}"]


@pytest.mark.parametrize("number", [2, 3, 5, 20])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("identifier", IDS)
def test_no_advice_divides_a_subject(tmp_path, identifier, end, number):
    most = 5 if end == "{v}" else 8  # more may be the subjects of a site
    subjects = [identifier.format(s=s) for s in range(1, number + 1)]
    of = {
        f"{s}_{end.format(v=v, r=r)}": s for s in subjects for v in range(1, most) for r in (1, 2)
    }
    write(tmp_path, list(of))
    told = refused(tmp_path)
    if "subject_table to a TSV file" in told:
        return
    found: dict[str, set[str]] = {}
    for pair in find_pairs(volume_settings(**advised(told)), tmp_path):
        found.setdefault(of[pair.name], set()).add(pair.subject)
    assert all(len(names) == 1 for names in found.values())


@pytest.mark.parametrize(
    "names",
    [
        each("s{m}_p{s}", 1, 2, subjects=(1, 2)),
        each("s{m}_p{s}", 1, 2, 3, subjects=(1, 2, 3)),
        each("day{m}_p{s}", 1, 2, subjects=(1, 2)),
        [f"MR_tp{v}_S{site}_{s:03d}" for site in (1, 2) for s in (3, 4) for v in (0, 1)],
        [f"x{s}_{v}_{r}" for s in (188, 189, 190) for v in range(1, 10) for r in (1, 2)],
    ],
)
def test_no_line_is_advised_where_the_subject_is_unclear(tmp_path, names):
    write(tmp_path, names)
    assert "Set subject_table to a TSV file" in refused(tmp_path)


@pytest.mark.parametrize("names", SUBJECTS[:8], ids=lambda names: str(names)[:40])
def test_folders_of_different_subjects_pass(tmp_path, names):
    write(tmp_path, names)
    assert len({pair.subject for pair in find_pairs(volume_settings(), tmp_path)}) == len(names)


def test_the_message_names_the_scans_and_counts_the_subjects(tmp_path):
    write(tmp_path, two_each("X_00{s}_MR{m}", subjects=("01", "02", "03", "04")))
    told = refused(tmp_path)
    assert "X_0001_MR1.nii.gz and X_0001_MR2.nii.gz look like scans of one subject, X_0001" in told
    assert "(and 2 more subjects likewise)" in told
    assert "Set subject_pattern: '^(X_[0-9]+)'. If each image" in told


def test_a_certain_case_is_stated_as_such(tmp_path):
    write(tmp_path, two_each("OAS1_00{s}_MR{m}"))
    told = refused(tmp_path)
    assert "OAS1_0001_MR1.nii.gz and OAS1_0001_MR2.nii.gz are scans of one subject" in told
    assert told.endswith("Set subject_pattern: '(OAS[123]_?[0-9]{4})'")


def test_a_pattern_that_divides_a_known_subject_is_refused(tmp_path):
    names = [n for names, subject in SCANS_OF_ONE if subject == "002_S_0001" for n in names]
    write(tmp_path, names)
    with pytest.raises(UserError, match="of one subject, 002_S_0001") as caught:
        find_pairs(volume_settings(subject_pattern="^(.+?)[.]"), tmp_path)
    assert advised(str(caught.value)) == {"subject_pattern": "([0-9]{3}_S_[0-9]{4})"}


def test_a_pattern_that_divides_a_likely_subject_is_a_warning(tmp_path, caplog):
    write(tmp_path, each("P{s:02d}_visit{m}_T1", 1, 2, subjects=(1, 2, 3)))
    settings = volume_settings(subject_pattern="^(.+)_T1")
    (warning,) = warnings(find_pairs(settings, tmp_path), settings)
    assert "subject_pattern makes P01_visit1, P01_visit2 different subjects" in warning
    assert "scans of one, P01 (and 2 more subjects likewise)" in warning
    check_files(settings, tmp_path)
    assert warning in caplog.text


def test_a_table_that_divides_a_subject_is_a_warning(tmp_path):
    names = two_each("OAS1_00{s}_MR{m}")
    write(tmp_path, names)
    rows = "".join(f"{name}\t{name}\n" for name in names)
    (tmp_path / "t.tsv").write_text("image\tsubject\n" + rows)
    settings = volume_settings(subject_table="t.tsv")
    (warning,) = warnings(find_pairs(settings, tmp_path), settings)
    assert "subject_table makes OAS1_0001_MR1, OAS1_0001_MR2 different subjects" in warning
    settings = volume_settings(one_subject_per_file=True)
    assert warnings(find_pairs(settings, tmp_path), settings) == []


def test_the_hippocampus_task_has_two_volumes_of_a_subject(tmp_path):
    write_decathlon(tmp_path / "Task04_Hippocampus", [1, 3, 4, 6])
    decathlon = {"images": None, "labels": None, "decathlon": "Task04_Hippocampus"}
    folders = {f"{k}s": f"Task04_Hippocampus/{k}sTr" for k in ("image", "label")}
    patterns = {key: f"{folder}/{{subject}}.nii.gz" for key, folder in folders.items()}
    for changes in (folders, patterns):
        with pytest.raises(UserError, match="use `source: hippocampus`"):
            find_pairs(volume_settings(**changes), tmp_path)
    with pytest.raises(UserError, match="use `source: hippocampus`, with Task04_Hippocampus in"):
        find_pairs(volume_settings(**decathlon), tmp_path)
    settings = volume_settings(**decathlon, one_subject_per_file=True)
    assert len(find_pairs(settings, tmp_path)) == 4


def test_a_folder_per_scan(tmp_path):
    for name in two_each("X00{s}_MR{m}"):
        for kind in ("T1", "seg"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{kind}.nii.gz").touch()
    told = refused(tmp_path, images="{subject}/T1.nii.gz", labels="{subject}/seg.nii.gz")
    assert 'images: "{subject}_{session}/T1.nii.gz"' in told
    pairs = find_pairs(volume_settings(**advised(told)), tmp_path)
    assert {pair.subject for pair in pairs} == {"X0001", "X0002", "X0003"}


def test_subjects_of_one_name_at_several_sites(tmp_path):
    for path in (f"{k}/{site}/{n}.nii" for k in "il" for site in ("A", "B") for n in (1, 2, 3)):
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / path).touch()

    def warned(wildcard):
        patterns = {"images": f"i/{{{wildcard}}}/{{subject}}.nii"}
        patterns["labels"] = patterns["images"].replace("i/", "l/")
        settings = volume_settings(**patterns)
        return warnings(find_pairs(settings, tmp_path), settings)

    (warning,) = warned("site")
    assert "Subject 1 (and 2 more subjects likewise) is in several folders (A, B)" in warning
    assert "one_subject_per_file: true" in warning
    assert warned("session") == []
    patterns = {"images": "i/{site}/{name}.nii", "labels": "l/{site}/{name}.nii"}
    settings = volume_settings(**patterns, one_subject_per_file=True)
    assert len({pair.subject for pair in find_pairs(settings, tmp_path)}) == 6


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
