"""Archives and pickles that mean harm, and what a failed download leaves: one clear line, nothing written."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from fewshot_env.data import archive as archives
from fewshot_env.data.source import SourceImage
from fewshot_env.data.unpickle import read_pickle
from fewshot_env.errors import FewShotError
from fewshot_env.prepare import prepare


def refuses(match, file, tmp_path, name="mini"):
    with pytest.raises(FewShotError, match=match) as caught:
        prepare(name, file, tmp_path / "s")
    assert "\n" not in str(caught.value)
    assert [p.name for p in (tmp_path / "s").iterdir()] == [f".{name}.lock"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({file.name, "s"})


def member(name, kind=tarfile.REGTYPE, link="", size=0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def tar_of(file, *members):
    with tarfile.open(file, "w:gz" if file.suffix == ".tgz" else "w") as out:
        for info in members:
            out.addfile(info, io.BytesIO(b"x" * info.size))
    return file


@pytest.mark.parametrize("ending", [".tar", ".tgz"])
@pytest.mark.parametrize(
    "name", ["../outside.txt", "a/../../outside.txt", "/tmp/outside.txt", "..\\outside.txt", "C:\\x"]
)
def test_tar_members_that_lead_out(name, ending, tmp_path):
    file = tar_of(tmp_path / f"a{ending}", member("train.csv", size=3), member(name, size=5))
    refuses("is not safe to unpack: its member .* leads outside the folder", file, tmp_path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_tar_links_and_devices(kind, tmp_path):
    for link in ("/etc/passwd", "../..", "train.csv"):
        file = tar_of(tmp_path / "a.tar", member("train.csv", size=3), member("images", kind, link))
        refuses("its member 'images' is a link or a device", file, tmp_path)


def test_writing_through_a_link(tmp_path):
    file = tar_of(tmp_path / "a.tar", member("d", tarfile.SYMTYPE, str(tmp_path)), member("d/outside", size=5))
    refuses("is a link or a device", file, tmp_path)


@pytest.mark.parametrize("name", ["../outside.txt", "/outside.txt", "a/../../outside"])
def test_zip_members_that_lead_out(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("train.csv", "filename,label\n")
        out.writestr(name, "x")
    refuses("leads outside the folder", tmp_path / "a.zip", tmp_path)


def test_zip_links(tmp_path):
    link = zipfile.ZipInfo("images")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr(link, "/etc")
    refuses("its member 'images' is a link or a device", tmp_path / "a.zip", tmp_path)


def test_members_without_a_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("train.csv", "filename,label\n")
    raw = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(raw.replace(b"train.csv", b"\0rain.csv"))  # a name ends at its first NUL
    refuses("is not safe to unpack: it has a member without a name", tmp_path / "a.zip", tmp_path)
    (tmp_path / "a.zip").unlink()
    refuses("it has a member without a name", tar_of(tmp_path / "a.tar", member("", size=5)), tmp_path)


def test_zip_with_a_password(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("train.csv", "filename,label\n")
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[raw.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(raw)
    refuses("it has a password", tmp_path / "a.zip", tmp_path)


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_BYTES", 10_000_000)
    monkeypatch.setattr(archives, "MAX_MEMBERS", 50)
    zeros = bytes(4_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        for i in range(3):
            out.writestr(f"{i}.txt", zeros)
    assert (tmp_path / "a.zip").stat().st_size < 20_000
    refuses("it holds more than 50 members or 0 GiB", tmp_path / "a.zip", tmp_path)
    (tmp_path / "a.zip").unlink()
    big = tar_of(tmp_path / "a.tgz", *(member(f"{i}.txt", size=4_000_000) for i in range(3)))
    refuses("it holds more than", big, tmp_path)
    refuses("it holds more than", tar_of(tmp_path / "a.tgz", *(member(f"{i}") for i in range(51))), tmp_path)


def test_a_zip_that_lies_about_its_sizes(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("train.csv", bytes(1_000_000))
    raw = (tmp_path / "a.zip").read_bytes().replace(struct.pack("<L", 1_000_000), struct.pack("<L", 10))
    (tmp_path / "a.zip").write_bytes(raw)
    refuses("is truncated, damaged or not a zip", tmp_path / "a.zip", tmp_path)


def test_a_tar_header_that_would_fill_the_memory(tmp_path):
    name = member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=2**33)
    with gzip.open(tmp_path / "a.tgz", "wb") as out:
        out.write(name.tobuf(tarfile.GNU_FORMAT) + bytes(100_000))
    refuses("it has a header of 8589934592 bytes", tmp_path / "a.tgz", tmp_path)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("ending", [".tar", ".tgz", ".zip"])
def test_truncated_archives(ending, keep, tmp_path):
    file = tmp_path / f"a{ending}"
    noise = np.random.default_rng(0).bytes(20_000)
    if ending == ".zip":
        with zipfile.ZipFile(file, "w") as out:
            out.writestr("train.csv", noise)
    else:
        with tarfile.open(file, "w:gz" if ending == ".tgz" else "w", format=tarfile.USTAR_FORMAT) as out:
            info = member("train.csv", size=len(noise))
            out.addfile(info, io.BytesIO(noise))
    whole = file.read_bytes()
    end = len(whole) if ending != ".tar" else 20_992 + 512  # the rest of a tar is padding
    file.write_bytes(whole[: int(end * keep)])
    refuses("is truncated, damaged or not a zip, tar or tar.gz", file, tmp_path)


def test_a_tar_cut_between_two_members(tmp_path):
    file = tar_of(tmp_path / "a.tar", member("train.csv", size=100), member("val.csv", size=100))
    file.write_bytes(file.read_bytes()[:1024])
    refuses(r"is truncated, damaged or not a zip, tar or tar.gz \(it ends early\)", file, tmp_path)


def test_damaged_bytes(tmp_path):
    file = tar_of(tmp_path / "a.tgz", member("train.csv", size=30_000))
    raw = bytearray(file.read_bytes())
    raw[-6] ^= 255  # in the checksum of the whole
    file.write_bytes(raw)
    refuses("CRC check failed", file, tmp_path)


@pytest.mark.parametrize("name", ["mini-imagenet.tar.gz", "CUB_200_2011.tgz", "images.zip"])
def test_a_web_page_saved_as_data(name, tmp_path):
    (tmp_path / name).write_text("\n  <!DOCTYPE html>\n<html><body>Quota exceeded</body></html>")
    refuses("is a web page, not data: its download failed", tmp_path / name, tmp_path)
    (tmp_path / name).write_text("")
    refuses("is empty: its download failed", tmp_path / name, tmp_path)
    (tmp_path / name).write_text("Not found")
    refuses("is neither a folder nor a zip, tar or tar.gz file", tmp_path / name, tmp_path)


def test_a_web_page_saved_as_a_pickle(tmp_path):
    source = tmp_path / "p"
    source.mkdir()
    (source / "mini-imagenet-cache-train.pkl").write_text("<html>Sign in</html>")
    refuses("is a web page, not data", source, tmp_path)


class Calls:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "data",
    [
        Calls(os.system, ("touch outside",)),
        Calls(eval, ("open('outside', 'w')",)),
        {"image_data": Calls(getattr, ("text", "join"))},
        Calls(bytearray, (2**40,)),
        np.random.default_rng(0),
        {"a": np.array([object])},
        np.ma.masked_array([1]),
    ],
)
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickles_that_call(data, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.pkl"
    file.write_bytes(pickle.dumps(data, protocol))
    with pytest.raises(FewShotError, match="is not a pickle of arrays and plain containers"):
        read_pickle(file)
    assert not (tmp_path / "outside").exists()


def test_forged_arrays(tmp_path):
    """An object array, a dtype that hides objects, and an array larger than its bytes."""
    file = tmp_path / "a.pkl"
    for raw in (
        pickle.dumps({"a": np.array([{}, "x"], dtype=object)}, 2),
        pickle.dumps({"a": np.zeros(3, [("x", "O")])}, 2),
        pickle.dumps({"a": np.zeros(3, "u1")}, 2).replace(b"u1", b"O8"),
        pickle.dumps({"a": np.zeros(3, "u1")}, 2).replace(b"K\x03\x85", b"M\xff\xff\x85"),
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R.",
    ):
        file.write_bytes(raw)
        with pytest.raises(FewShotError, match="is not a pickle of arrays and plain containers"):
            read_pickle(file)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.98])
def test_truncated_pickles(cut, tmp_path):
    raw = pickle.dumps({"image_data": np.zeros((9, 84, 84, 3), np.uint8), "class_dict": {"n1": [0]}}, 2)
    (tmp_path / "a.pkl").write_bytes(raw[: int(cut * len(raw))])
    with pytest.raises(FewShotError, match="is not a pickle"):
        read_pickle(tmp_path / "a.pkl")


def python_2_pickle(array):
    """An array as Python 2 and an old numpy write it: its bytes as str, its names those of their time."""
    raw = array.tobytes()
    return (
        b"\x80\x02}q\x00U\x0aimage_dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85"
        b"U\x01b\x87R(K\x01("
        + b"".join(b"K" + bytes([n]) for n in array.shape)
        + b"tcnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", len(raw)) + raw + b"tbs."
    )


def test_what_a_pickle_may_hold(tmp_path):
    file = tmp_path / "a.pkl"
    array = np.arange(60, dtype=np.uint8).reshape(5, 4, 3) + 190
    file.write_bytes(python_2_pickle(array))
    assert (read_pickle(file)["image_data"] == array).all()
    from collections import OrderedDict

    data = {
        "images": array, "fortran": np.asfortranarray(array), "big": array.astype(">i4"), "flags": array > 200,
        "names": OrderedDict(a=np.array([1, 2]), b=[3, np.int64(4)]), "scalar": np.float32(0.5), "none": None,
    }  # fmt: skip
    for protocol in range(6):
        file.write_bytes(pickle.dumps(data, protocol))
        found = read_pickle(file)
        for key in ("images", "fortran", "big", "flags"):
            assert found[key].dtype == data[key].dtype
            assert (found[key] == data[key]).all()
        assert found["names"]["a"].tolist() == [1, 2]
        assert found["names"]["b"] == [3, 4]
        assert (found["scalar"], found["none"]) == (0.5, None)


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tgz", ".pkl"])
def test_any_damage_ends_in_one_line(kind, tmp_path):
    """Random bytes changed, in 150 copies: an archive or pickle is read, or refused with a FewShotError."""
    rng = np.random.default_rng(0)
    whole = tmp_path / f"whole{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as out:
            for i in range(3):
                out.writestr(f"d/{i}.txt", rng.bytes(300))
    elif kind == ".pkl":
        held = {"image_data": np.zeros((1, 8, 8, 3), np.uint8), "class_dict": {"n1": [0]}, "x": [np.int64(1), None]}
        whole.write_bytes(pickle.dumps(held, 2))
    else:
        whole = tar_of(whole, *(member(f"d/{i}.txt", size=300) for i in range(3)))
    raw = whole.read_bytes()
    messages = []
    for i in range(150):
        damaged = bytearray(raw)
        for place in rng.integers(len(raw), size=rng.integers(1, 5)):
            damaged[place] = rng.integers(256)
        file = tmp_path / f"{i}{kind}"
        file.write_bytes(damaged)
        try:
            if kind == ".pkl":
                read_pickle(file)
            else:
                archives.unpack(file, tmp_path / "in" / str(i), archives.Budget())
        except FewShotError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(message.isprintable() for message in messages)


def test_an_image_that_is_a_program(tmp_path):
    file = tmp_path / "a.jpg"
    file.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 84 84\n%%EndComments\nshowpage\n")
    with pytest.raises(FewShotError, match="is not a readable image"):
        SourceImage("a.jpg", "c", "train", file).read()


def test_names_cannot_write_to_the_terminal(tmp_path):
    file = tar_of(tmp_path / "a.tar", member("../a\n\x1b[2Jfsl: all is well", size=3))
    refuses("leads outside the folder", file, tmp_path)
    (tmp_path / "a.tar").unlink()
    (tmp_path / "\x1b[2J").mkdir()
    with pytest.raises(FewShotError, match="has none of the known layouts") as caught:
        prepare("mini", tmp_path / "\x1b[2J", tmp_path / "s")
    assert str(caught.value).isprintable()
