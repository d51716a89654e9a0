import shutil
import subprocess

import pytest
from click.testing import CliRunner

from tests.conftest import files_of
from zoo_gen import engine
from zoo_gen.cli.main import main
from zoo_gen.errors import ZooError
from zoo_gen.store import checksums
from zoo_gen.zoo.verify import verify


@pytest.fixture
def copy(tmp_path, tiny_zoo):
    return shutil.copytree(tiny_zoo, tmp_path / "tiny")


def test_the_list_is_what_sha256sum_checks(copy):
    completed = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=copy, capture_output=True, text=True, check=True
    )
    named = {line.removesuffix(": OK") for line in completed.stdout.splitlines()}
    shards = {name for name in files_of(copy) if name.endswith(".parquet") or ("/c/" in name and "epoch" not in name)}
    assert named == set(files_of(copy)) - shards - {"SHA256SUMS"}


def test_a_zoo_that_another_manifest_would_mend_wrongly_is_refused_and_left_as_it_is(copy, tiny_manifest):
    (copy / "manifest.toml").write_text("name = 'tin")
    tiny_manifest.write_text(tiny_manifest.read_text() + "# a remark\n")
    before = files_of(copy)
    with pytest.raises(ZooError, match=r"manifest\.toml: is damaged, and this manifest .* gives other bytes"):
        engine.run(tiny_manifest, copy, workers=1, repair=True)
    assert files_of(copy) == before


def test_a_name_in_the_list_that_leads_out_of_the_zoo_is_not_read(copy):
    (copy.parent / "secret").write_text("x")
    text = (copy / "SHA256SUMS").read_text()
    (copy / "SHA256SUMS").write_text(f"{'0' * 64}  ../secret\n" + text)
    assert ("../secret", "is listed in SHA256SUMS and not there") in checksums.findings(copy)


def test_the_card_written_later_approves_no_other_file(copy, tiny_manifest):
    metadata = copy / "weights.zarr" / "weights" / "zarr.json"
    metadata.write_bytes(metadata.read_bytes() + b" ")
    (copy / "README.md").unlink()
    engine.run(tiny_manifest, copy, workers=1)
    assert verify(copy, sample=0).findings == ("weights.zarr/weights/zarr.json: has other bytes than SHA256SUMS says",)


def test_the_command_repairs_exactly_what_is_damaged(copy, tiny_zoo, tiny_manifest):
    for name in ("models/part-00001.parquet", "weights.zarr/test_loss/c/3/0"):
        (copy / name).write_bytes(b"damaged")
    (copy / "weights.zarr" / "zarr.json").write_bytes(b"{}")
    times = {path: path.stat().st_mtime_ns for path in copy.glob("models/part-0000[02].parquet")}
    result = CliRunner().invoke(main, ["run", str(tiny_manifest), "--out", str(copy), "--workers", "1", "--repair"])
    assert result.exit_code == 0, result.output
    assert "trained 16 models" in result.output  # the twelve of shard 1 and the four of shard 3
    assert files_of(copy) == files_of(tiny_zoo)
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_a_lost_part_of_a_complete_zoo_is_found(copy):
    (copy / "models" / "part-00002.parquet").unlink()
    assert verify(copy).findings == ("models/part-00002.parquet: is not there any more",)
