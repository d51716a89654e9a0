from zoo_gen.errors import ZooError


def raised() -> ZooError:
    try:
        raise ZooError("zoo.toml: name: is missing")
    except ZooError as error:
        return error


def test_a_notebook_shows_one_line_unless_the_traceback_is_asked_for(monkeypatch):
    assert raised()._render_traceback_() == ["ZooError: zoo.toml: name: is missing"]
    monkeypatch.setattr(ZooError, "show_traceback", True)
    lines = raised()._render_traceback_()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("in raised" in line for line in lines)
    assert lines[-1].endswith("ZooError: zoo.toml: name: is missing")
