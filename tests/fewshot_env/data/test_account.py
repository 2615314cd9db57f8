"""Every image file below the source is in the data set or in a counted reason, whatever the folders look like."""

import json
import zipfile

import pytest
from PIL import Image

from fewshot_env.data.inventory import take_stock
from fewshot_env.data.source import PrepareOptions
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare
from fewshot_env.rng import SPLITS
from tests.helpers.cli import main
from tests.helpers.images import write_image


def draw(root, *files):
    """Images at these places below `root`; {n} stands for 0, 1 and 2."""
    for place in (f.replace("{n}", n) for f in files for n in ("012" if "{n}" in f else "0")):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        write_image(root / place, abs(hash(place)) % 999, len(place) % 9 / 9)
    return root


def holds(store):
    return {s: {c.name: c.count for c in store.of_split(s)} for s in SPLITS if store.of_split(s)}


def all_accounted(store, root):
    stock = take_stock(root)
    everything = sum(map(len, (stock.images, stock.no_decoder, stock.hidden, stock.dangling)))
    return len(store.images) + sum(store.index["left_out"].values()) + len(store.index["skipped"]) == everything


LAYOUTS = {
    "omniglot's zip in one folder": (
        ["Latin/a/{n}.png", "Latin/b/{n}.png", "Greek/alpha/{n}.png"],
        {"split": "test"},
        {"test": {"Greek/alpha": 3, "Latin/a": 3, "Latin/b": 3}},
        {},
    ),
    "super-classes as classes": (
        ["Latin/a/{n}.png", "Latin/b/{n}.png", "Greek/alpha/{n}.png"],
        {"split": "test", "classes": "top"},
        {"test": {"Greek": 3, "Latin": 6}},
        {},
    ),
    "capitals": (
        ["Train/a/{n}.jpg", "Val/b/{n}.jpg", "Test/c/{n}.jpg"],
        {},
        {"train": {"a": 3}, "val": {"b": 3}, "test": {"c": 3}},
        {},
    ),
    "base, val, novel": (
        ["base/a/{n}.jpg", "val/b/{n}.jpg", "novel/c/{n}.jpg"],
        {},
        {"train": {"a": 3}, "val": {"b": 3}, "test": {"c": 3}},
        {},
    ),
    "source, dev, target": (
        ["source/a/{n}.jpg", "DEV/b/{n}.jpg", "target/c/{n}.jpg"],
        {},
        {"train": {"a": 3}, "val": {"b": 3}, "test": {"c": 3}},
        {},
    ),
    "train and val": (["train/a/{n}.jpg", "val/b/{n}.jpg"], {}, {"train": {"a": 3}, "val": {"b": 3}}, {}),
    "train and test": (["train/a/{n}.jpg", "test/b/{n}.jpg"], {}, {"train": {"a": 3}, "test": {"b": 3}}, {}),
    "test alone": (["test/a/{n}.jpg", "test/b/{n}.jpg"], {}, {"test": {"a": 3, "b": 3}}, {}),
    "two folders of one split": (
        ["train/a/{n}.jpg", "val/b/{n}.jpg", "valid/c/{n}.jpg", "test/d/{n}.jpg"],
        {},
        {"train": {"a": 3}, "val": {"b": 3, "c": 3}, "test": {"d": 3}},
        {},
    ),
    "splits a level below": (
        ["data/my/train/a/{n}.jpg", "data/my/test/b/{n}.jpg"],
        {},
        {"train": {"a": 3}, "test": {"b": 3}},
        {},
    ),
    "a folder beside the splits": (
        ["train/a/{n}.jpg", "test/b/{n}.jpg", "extra/c/{n}.jpg"],
        {},
        {"train": {"a": 3}, "test": {"b": 3}},
        {"beside test/, train/": 3},
    ),
    "splits pooled": (
        ["train/a/{n}.jpg", "test/a/{n}.png", "test/b/{n}.jpg"],
        {"split": "test"},
        {"test": {"a": 6, "b": 3}},
        {},
    ),
    "nested in a class": (
        ["a/{n}.jpg", "a/more/{n}.jpg", "b/{n}.jpg"],
        {"split": "test"},
        {"test": {"a": 6, "b": 3}},
        {},
    ),
    "class/images": (["a/images/{n}.jpg", "b/images/{n}.jpg"], {"split": "test"}, {"test": {"a": 3, "b": 3}}, {}),
    "images outside the classes": (
        ["a/{n}.jpg", "b/{n}.jpg", "logo.png"],
        {"split": "test"},
        {"test": {"a": 3, "b": 3}},
        {"in source/ itself, in no class folder": 1},
    ),
    "folders that systems add": (
        ["a/{n}.jpg", "b/{n}.jpg", "@eaDir/{n}.jpg", "a/@eaDir/{n}.jpg", ".thumbs/1.jpg", "__MACOSX/a/2.jpg"],
        {"split": "test"},
        {"test": {"a": 3, "b": 3}},
        {"hidden or in system folders": 8},
    ),
    "other endings": (
        ["a/{n}.jfif", "a/5.jpe", "b/{n}.webp", "b/7.jp2"],
        {"split": "test"},
        {"test": {"a": 4, "b": 4}},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_your_own(name, tmp_path):
    files, options, expected, left_out = LAYOUTS[name]
    root = tmp_path / "source"
    for file in files:  # formats without an encoder of that name are written as JPEG
        draw(root, file if not file.endswith((".jfif", ".jpe")) else file.rpartition(".")[0] + ".jpg")
        if file.endswith((".jfif", ".jpe")):
            for made in list(root.rglob("*.jpg")):
                made.rename(made.with_suffix("." + file.rpartition(".")[2]))
    store = prepare("my-set", root, tmp_path / "s", options=PrepareOptions(**options))
    assert holds(store) == expected
    assert store.index["left_out"] == left_out
    assert all_accounted(store, root)


def test_files_without_a_known_ending_are_read_by_their_content(tmp_path):
    root = draw(tmp_path / "r", "a/{n}.png", "b/{n}.png")
    (root / "a/0.png").rename(root / "a/0")
    (root / "a/1.png").rename(root / "a/1.scan")
    (root / "a/notes").write_text("no image")
    store = prepare("my-set", root, tmp_path / "s", options=PrepareOptions("test"))
    assert holds(store) == {"test": {"a": 3, "b": 3}}


def test_the_account_is_printed_stored_and_checked(tmp_path, capsys):
    root = draw(tmp_path / "r", "a/{n}.png", "b/{n}.png", ".trash/1.png")
    for n in range(4):
        (root / f"a/{n}.nef").write_bytes(b"x")
    (root / "b/9.cr2").write_bytes(b"x")
    (root / "b/gone.png").symlink_to("nowhere.png")
    (root / "nothing").mkdir()
    (root / "more.zip").write_bytes(b"PK\x03\x04")
    words = ["data", "prepare", "my-set", "--source", root, "--split", "test", "--data-dir", tmp_path / "s"]
    assert main(*words) == 0
    out = capsys.readouterr().out
    said = (
        "left out: 7 files: 4 .nef (no decoder installed), 1 .cr2 (no decoder installed), "
        "1 hidden or in system folders, 1 links to files that are not there"
    )
    assert said in out
    assert "1 folder without images: nothing" in out
    assert "archives beside the images are not opened: more.zip" in out
    assert main("data", "check", "my-set", "--data-dir", tmp_path / "s") == 0
    checked = capsys.readouterr().out
    assert said in checked
    assert "1 folder without images: nothing" in checked
    index = json.loads((tmp_path / "s/my-set/index.json").read_text())
    assert sum(index["left_out"].values()) == 7


TABLES = {
    "train.csv": ("filename,label\n", "{file},{label}\n"),
    "Train.csv": ("FileName; Label\n", "{file}; {label}\n"),
    "TRAINING.csv": ("\ufeffimage\tclass\r\n", "{file}\t{label}\r\n"),
    "base.csv": ("", "{file},{label}\n"),
}


@pytest.mark.parametrize("name", TABLES)
def test_split_csvs_as_people_write_them(name, tmp_path):
    header, line = TABLES[name]
    root = draw(tmp_path / "r", "images/a{n}.jpg", "images/b{n}.jpg", "images/c{n}.jpg")
    for table, label in ((name, "a"), ("val.csv", "b"), ("test.csv", "c")):
        lines = "".join(line.format(file=f"{label}{n}.jpg", label=label) for n in range(2 if label == "c" else 3))
        (root / table).write_text(header + lines)
    store = prepare("my-set", root, tmp_path / "s")
    assert holds(store) == {"train": {"a": 3}, "val": {"b": 3}, "test": {"c": 2}}
    assert sum(store.index["left_out"].values()) == 1  # c2.jpg
    assert all_accounted(store, root)


@pytest.mark.parametrize("choice", ["leaf", "top"])
def test_meta_albums_labels(choice, tmp_path):
    root = draw(tmp_path / "r", "images/{n}.jpg", "images/x{n}.jpg")
    rows = [f"{n}.jpg,wren,bird" for n in range(3)] + [f"x{n}.jpg,{'cat' if n else 'robin'},{'mammal' if n else 'bird'}"
                                                        for n in range(3)]  # fmt: skip
    (root / "labels.csv").write_text("FILE_NAME,CATEGORY,SUPER_CATEGORY\n" + "\n".join(rows) + "\n")
    (root / "info.json").write_text("{}")
    store = prepare("my-set", root, tmp_path / "s", options=PrepareOptions("test", classes=choice))
    leaf, top = {"cat": 2, "robin": 1, "wren": 3}, {"bird": 4, "mammal": 2}
    assert holds(store) == {"test": leaf if choice == "leaf" else top}


def test_tables_that_do_not_say_enough(tmp_path):
    root = draw(tmp_path / "r", "images/a{n}.jpg", "images/b{n}.jpg")
    for content, match in (
        ({}, "holds 6 images, but no folder for each class, and no CSV file"),
        ({"a.csv": "file,label\na0.jpg,x\n", "b.csv": "file,label\na0.jpg,x\n"}, "several lists of images, a.csv, b"),
        ({"l.csv": "file,label\na0.jpg,x\na0.jpg,y\n"}, r"l.csv, line 3: a0.jpg is y in no split, but before it was x"),
        ({"l.csv": "file,label\na0.jpg,\n"}, "l.csv, line 2: expected a file and its label"),
        ({"l.csv": "file,label,split\na0.jpg,x,later\n"}, "line 2: the split is 'later', but must be"),
        ({"l.csv": "file,label,split\na0.jpg,x,test\na1.jpg,x,\n"}, "class x has no split, but others have one"),
    ):  # fmt: skip
        for old in root.glob("*.csv"):
            old.unlink()
        for name, text in content.items():
            (root / name).write_text(text)
        with pytest.raises(FewShotError, match=match):
            prepare("my-set", root, tmp_path / "s", options=PrepareOptions(split=None))


def test_a_csv_cannot_name_files_outside(tmp_path):
    root = draw(tmp_path / "r", "images/a{n}.jpg")
    write_image(tmp_path / "secret.jpg", 1, 0.5)
    lines = "".join(f"a{n}.jpg,a\n" for n in range(3))
    (root / "labels.csv").write_text(f"file,label\n{lines}../secret.jpg,a\n{tmp_path}/secret.jpg,a\n")
    store = prepare("my-set", root, tmp_path / "s", options=PrepareOptions("test"))
    assert holds(store) == {"test": {"a": 3}}
    assert store.index["absent"] == 2


def zipped(file, names):
    image = file.with_suffix(".jpg")
    write_image(image, 1, 0.5)
    with zipfile.ZipFile(file, "w") as out:
        for name in names:
            out.writestr(name, image.read_bytes())
    image.unlink()
    return file


def test_a_zip_made_by_powershell(tmp_path):
    source = zipped(tmp_path / "a.zip", [f"my\\{split}\\{c}\\{n}.jpg" for split, c in (("train", "a"), ("test", "b"))
                                         for n in "012"])  # fmt: skip
    store = prepare("my-set", source, tmp_path / "s")
    assert holds(store) == {"train": {"a": 3}, "test": {"b": 3}}


def test_zips_in_a_zip_once_and_within_the_limits(tmp_path, monkeypatch):
    inner = {s: zipped(tmp_path / f"{s}.zip", [f"{s}/{s}{c}/{n}.jpg" for c in "ab" for n in "01"])
             for s in ("train", "test")}  # fmt: skip
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as out:
        for file in inner.values():
            out.write(file, f"set/{file.name}")
    store = prepare("my-set", tmp_path / "all.zip", tmp_path / "s")
    assert holds(store) == {"train": {"traina": 2, "trainb": 2}, "test": {"testa": 2, "testb": 2}}
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as out:
        out.write(tmp_path / "all.zip", "all.zip")
    with pytest.raises(FewShotError, match="none of the known layouts"):
        prepare("my-set", tmp_path / "twice.zip", tmp_path / "t")
    monkeypatch.setattr("fewshot_env.data.archive.MAX_MEMBERS", 6)  # 2 and 4 and 4
    with pytest.raises(FewShotError, match="more than 6 members"):
        prepare("my-set", tmp_path / "all.zip", tmp_path / "t")


def test_archives_side_by_side_stay_apart(tmp_path):
    """train.zip and test.zip hold class folders only: the archives' names are the splits."""
    (tmp_path / "z").mkdir()
    for split in ("train", "test"):
        zipped(tmp_path / "z" / f"{split}.zip", [f"{split}{c}/{n}.jpg" for c in "ab" for n in "01"])
    store = prepare("my-set", tmp_path / "z", tmp_path / "s")
    assert holds(store) == {"train": {"traina": 2, "trainb": 2}, "test": {"testa": 2, "testb": 2}}


def test_several_published_data_sets_at_one_depth_are_refused(tmp_path):
    from tests.helpers.images import write_mini

    for name in ("one", "two"):
        write_mini(tmp_path / "r" / name, n_images=1)
    with pytest.raises(FewShotError, match="holds several data sets: one, two; give one of them with --source"):
        prepare("mini", tmp_path / "r", tmp_path / "s")


def test_a_class_that_two_splits_have_names_the_way_out(tmp_path):
    root = draw(tmp_path / "r", "train/a/{n}.jpg", "test/a/{n}.png", "test/b/{n}.jpg", "train/c/{n}.jpg")
    with pytest.raises(FewShotError, match=r"class a is in test and in train .* add --split 60/20/20"):
        prepare("my-set", root, tmp_path / "s")
    store = prepare("my-set", root, tmp_path / "s", options=PrepareOptions("60/20/20"))
    assert {c.name: c.count for c in store.classes} == {"a": 6, "b": 3, "c": 3}


def test_only_images_of_a_known_decoder_are_opened(tmp_path):
    root = draw(tmp_path / "r", "a/{n}.png", "b/{n}.png")
    (root / "a/3.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n")
    store = prepare("my-set", root, tmp_path / "s", options=PrepareOptions("test"))
    assert store.index["left_out"] == {".eps (no decoder installed)": 1}


def test_heic_where_its_plugin_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    root = draw(tmp_path / "r", "a/{n}.png", "b/{n}.png")
    heif.register_heif_opener()
    Image.open(root / "a/0.png").save(root / "a/3.heic")
    store = prepare("my-set", root, tmp_path / "s", options=PrepareOptions("test"))
    assert holds(store) == {"test": {"a": 4, "b": 3}}
    assert store.index["left_out"] == {}


LISTS = {
    "train.csv": "file,label\n" + "".join(f"c{c}/{n}.png,c{c}\n" for c in (2, 3) for n in (0, 1, 2)),
    "val.csv": "file,label\n" + "".join(f"c{c}/{n}.png,c{c}\n" for c in (0,) for n in (0, 1, 2)),
    "test.csv": "file,label\n" + "".join(f"c{c}/{n}.png,c{c}\n" for c in (1,) for n in (0, 1, 2)),
}
LISTED = {"train": {"c2": 3, "c3": 3}, "val": {"c0": 3}, "test": {"c1": 3}}
SPLIT_COLUMN = "file,label,split\n" + "".join(
    f"c{c}/{n}.png,c{c},{split}\n" for c, split in ((2, "train"), (3, "train"), (0, "val"), (1, "test")) for n in "012"
)


@pytest.mark.parametrize("place", ["images/c{c}", "c{c}", "data/images/c{c}"])
@pytest.mark.parametrize("lists", [LISTS, {"labels.csv": SPLIT_COLUMN}], ids=["three lists", "a split column"])
@pytest.mark.parametrize("more", [[], ["overview.png", "figures/sample.png"]], ids=["alone", "with other images"])
def test_lists_decide_though_there_are_class_folders(place, lists, more, tmp_path):
    root = draw(tmp_path / "r", *(f"{place.format(c=c)}/{{n}}.png" for c in range(4)), *more)
    for name, text in lists.items():
        (root / name).write_text(text)
    store = prepare("s", root, tmp_path / "data")
    assert holds(store) == LISTED
    assert sum(store.index["left_out"].values()) == len(more)
    assert all(reason.startswith("not listed in ") for reason in store.index["left_out"])
    assert all_accounted(store, root)


def test_a_list_of_few_images_does_not_decide_and_that_is_said(tmp_path):
    root = draw(tmp_path / "r", *(f"c{c}/{{n}}.png" for c in range(4)))
    (root / "bad.csv").write_text("file,label\nc0/0.png,blurred\n")
    store = prepare("s", root, tmp_path / "data")
    assert sum(map(len, holds(store).values())) == 4
    assert any("bad.csv is not read" in note for note in store.index["notes"])


def test_a_listed_image_without_a_decoder_is_counted_once(tmp_path):
    root = draw(tmp_path / "r", *(f"{c}{{n}}.png" for c in "abc"))
    (root / "d0.cr2").write_bytes(b"II*\0raw")
    rows = [f"{c}{n}.png,{c}" for c in "abc" for n in "012"] + ["d0.cr2,a"]
    (root / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    store = prepare("s", root, tmp_path / "data")
    assert store.index.get("absent", 0) == 0
    assert store.index["left_out"] == {".cr2 (no decoder installed)": 1}


def test_split_folders_deeper_than_what_lies_beside_them(tmp_path):
    root = draw(tmp_path / "r", "data/train/a{n}/{n}.png", "data/test/b{n}/{n}.png", "docs/f/{n}.png")
    store = prepare("s", root, tmp_path / "data")
    assert holds(store) == {"train": {f"a{n}": 1 for n in "012"}, "test": {f"b{n}": 1 for n in "012"}}
    assert store.index["left_out"] == {"beside test/, train/": 3}
    draw(root, "more/train/x/{n}.png", "more/test/y/{n}.png")
    several = prepare("s2", root, tmp_path / "data")
    assert len(several.images) == 9 + 3 + 3  # none is lost
    assert any("the splits in data/, more/ are read as folders of classes" in note for note in several.index["notes"])


def test_a_class_with_split_folders_beside_other_classes(tmp_path):
    root = draw(tmp_path / "r", *(f"{c}/{{n}}.png" for c in "abcdef"), "g/train/{n}.png", "g/test/{n}.png")
    store = prepare("s", root, tmp_path / "data")
    assert len(store.images) == 24


def test_files_that_are_no_lists_do_not_stop_the_class_folders(tmp_path):
    root = draw(tmp_path / "r", *(f"{c}/{{n}}.png" for c in "abc"), "gnu.csv/{n}.png")
    (root / "notes.csv").write_bytes("file,label\nfl\xfcgel,x\n".encode("latin-1"))
    (root / "long.csv").write_text("file,label\n" + "x" * 200_000 + ",y\n")
    store = prepare("s", root, tmp_path / "data")
    assert sorted(c.name for c in store.classes) == ["a", "b", "c", "gnu.csv"]


def test_a_split_file_in_the_folder_is_not_said_to_be_unread(tmp_path):
    root = draw(tmp_path / "r", *(f"{c}/{{n}}.png" for c in "abc"))
    (root / "classes.csv").write_text("class,split\na,train\nb,val\nc,test\n")
    store = prepare("s", root, tmp_path / "data", options=PrepareOptions(split=str(root / "classes.csv")))
    assert store.index["notes"] == []


@pytest.mark.parametrize(
    ("files", "classes", "expected"),
    [
        (["train/s1/a/{n}.png", "train/s1/b/{n}.png", "test/s2/c/{n}.png", "test/s3/d/{n}.png"], "top",
         {"train": {"s1": 6}, "test": {"s2": 3, "s3": 3}}),
        (["train/bird/images/{n}.png", "val/cat/images/{n}.png", "test/dog/images/{n}.png"], "leaf",
         {"train": {"bird": 3}, "val": {"cat": 3}, "test": {"dog": 3}}),
        (["train/images/a/{n}.png", "test/images/b/{n}.png"], "leaf", {"train": {"a": 3}, "test": {"b": 3}}),
    ],
)  # fmt: skip
def test_split_folders_with_one_folder_in_them(files, classes, expected, tmp_path):
    store = prepare("s", draw(tmp_path / "r", *files), tmp_path / "data", options=PrepareOptions(classes=classes))
    assert holds(store) == expected


def test_usual_additions_to_the_names_of_splits(tmp_path):
    root = draw(tmp_path / "r", "meta_train/a/{n}.png", "Meta-Val/b/{n}.png", "test_set/c/{n}.png")
    store = prepare("s", root, tmp_path / "data")
    assert holds(store) == {"train": {"a": 3}, "val": {"b": 3}, "test": {"c": 3}}


def test_one_folder_named_like_a_split_is_said_to_be_none(tmp_path):
    root = draw(tmp_path / "r", "train/a/{n}.png", "train/b/{n}.png", "extra/c/{n}.png")
    store = prepare("s", root, tmp_path / "data")
    assert sum(map(len, holds(store).values())) == 3
    assert any(
        note.startswith("train/ is read as a folder of classes, not as a split") for note in store.index["notes"]
    )


def test_a_class_with_a_folder_of_images_has_all_its_folders(tmp_path):
    root = draw(tmp_path / "r", *(f"{c}/images/{{n}}.png" for c in "abc"), *(f"{c}/more/{{n}}.png" for c in "abc"))
    store = prepare("s", root, tmp_path / "data")
    assert sorted(c.name for c in store.classes) == ["a", "b", "c"]
    assert {c.count for c in store.classes} == {6}


def test_names_that_differ_in_their_unicode_form_are_said_to_be_joined(tmp_path):
    root = draw(tmp_path / "r", "Caf\u00e9/{n}.png", "Cafe\u0301/x{n}.png", "a/{n}.png", "b/{n}.png")
    store = prepare("s", root, tmp_path / "data")
    assert any("differ only in their Unicode form are one class: Caf\u00e9" in note for note in store.index["notes"])


def test_the_printed_command_keeps_what_was_chosen(tmp_path, capsys):
    root = draw(tmp_path / "r", *(f"train/{c}/{{n}}.png" for c in "abcd"))
    words = ["--source", str(root), "--data-dir", str(tmp_path / "d"), "--background", "#808080", "--classes", "top"]
    main("data", "prepare", "s", *words, "--skip-broken")
    lines = capsys.readouterr().out.splitlines()
    (anew,) = [line for line in lines if line.startswith("to split the classes anew: ")]
    assert "--classes top --background '#808080' --skip-broken" in anew
    assert anew.endswith("--split 50/0/50")
