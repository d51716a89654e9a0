import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.published.push import LICENCES
from zoo_gen.published.sources import registry

FILES = Path(__file__).parents[4] / "manifests" / "published"
WHOLE = """
name = "one"
title = "One"
paper = "Someone, Something, 2020"
architecture = "an MLP"
citation = "Someone. Something. 2020."

[licence]
name = "cc-by-4.0"
redistribution = true

[[parts]]
name = "all"
description = "all of it"
format = "folder"
files = [{ name = "a.zip", urls = ["https://example.org/a.zip"] }]
"""


@pytest.fixture
def read(tmp_path):
    def read(text):
        (tmp_path / "one.toml").write_text(text)
        return registry.read_publication(tmp_path / "one.toml")

    return read


def test_every_publication_of_the_overview_is_there():
    names = {
        "small_cnn_zoo",
        "nws",
        "cnn_filter_db",
        "hyper_representations",
        "model_zoos",
        "ghrp",
        "sane",
        "phase_transitions",
        "vit_zoo",
        "weight_clip",
        "cnn_wild_park",
        "dwsnets",
        "nfn",
        "implicit_zoo",
        "neural_field_arena",
        "shapenerf_text",
        "small_transformer_zoo",
        "model_j",
        "vthr",
        "lowra_bench",
        "weights2weights",
        "g_pt",
        "tans",
        "nas_bench_201",
        "model_zoo_jax",
    }
    assert set(registry.publications()) == names == {path.stem for path in FILES.glob("*.toml")}


def test_what_may_be_passed_on_has_a_licence_that_a_push_takes():
    for publication in registry.publications().values():
        assert publication.licence.redistribution == (publication.licence.name in LICENCES), publication.name


def test_the_small_cnn_zoos_have_whole_runs_only():
    for zoo in registry.publications()["small_cnn_zoo"].zoos.values():
        assert zoo.part.checkpoints == 9 * zoo.part.models
    assert registry.find_published("small_cnn_zoo/svhn_cropped").part.checkpoints == 269_892


def test_no_digest_or_size_is_stated_that_nobody_has_seen():
    # None of the archives was at hand when this was written: sizes and digests come with the first download.
    for zoo in registry.list_published_zoos().values():
        assert [(file.bytes, file.sha256) for file in zoo.part.files] in ([], [(None, None)])


def test_a_zoo_is_named_by_its_publication_and_its_part():
    assert registry.find_published("cnn_wild_park").part.zenodo.record == 12_797_219
    with pytest.raises(
        ZooError, match=r"^nfn: has several zoos; expected one of nfn/mnist, nfn/fashion_mnist, nfn/cif"
    ):
        registry.find_published("nfn")
    with pytest.raises(ZooError, match=r"unknown published zoo 'nfn/mnits'; did you mean 'nfn/mnist'\?"):
        registry.find_published("nfn/mnits")


def test_the_list_shows_all_as_a_table():
    result = CliRunner().invoke(main, ["list", "--published"])
    assert result.exit_code == 0
    assert re.search(
        r"small_cnn_zoo/mnist +29,997 +269,973 +small_cnn_zoo +storage.googleapis.com +cc-by-4.0 +yes", result.output
    )
    assert re.search(r"nws/main +13,000 +260,000 +nws +by hand +unknown +no", result.output)
    assert len(result.output.splitlines()) == 2 + len(registry.list_published_zoos())


def test_a_whole_publication_is_read(read):
    assert read(WHOLE).zoos["one"].part.way == "example.org"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title", "titel", r"unknown key 'titel'; did you mean 'title'\?"),
        ('"folder"', '"foldre"', r"parts\[0\].format: unknown format 'foldre'; did you mean 'folder'\?"),
        ('"https://', '"ftp://', r"parts\[0\].files\[0\].urls\[0\]: .*pattern"),
        ("redistribution = true", "redistribution = 1", "licence.redistribution: .*boolean"),
        ('"cc-by-4.0"', '"unknown"', "an unknown licence allows none; expected false"),
        ('name = "one"', 'name = "two"', "name: is 'two'; expected the file's name, 'one'"),
        ('"a.zip"', '"../a.zip"', r"parts\[0\].files\[0\].name: .*pattern"),
        ("files = [", "zenodo = { record = 1 }\nfiles = [", "all: expected exactly one of .*; found files and zenodo"),
        ("files = [", "x = [", r"unknown key 'x'"),
        ("urls = [", 'sha256 = "ab", urls = [', r"parts\[0\].files\[0\].sha256: .*pattern"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(read, tmp_path, old, new, message):
    assert old in WHOLE
    with pytest.raises(ZooError, match=f"^{re.escape(str(tmp_path))}/one.toml: .*{message}") as caught:
        read(WHOLE.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_a_part_stands_once(read):
    part = WHOLE[WHOLE.index("[[parts]]") :]
    with pytest.raises(ZooError, match="'all' stands twice"):
        read(WHOLE + part)
