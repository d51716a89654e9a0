from zoo_gen.errors import ZooError, unknown_name


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


def test_an_unknown_name_answers_with_the_nearest_and_with_all_where_a_line_has_the_room():
    keys = [f"key_{number}" for number in range(30)]
    near = unknown_name("key", "key_7x", keys)
    assert near == "unknown key 'key_7x'; did you mean 'key_7'? valid: key_7 and 29 more"
    far = unknown_name("key", "lr", keys)
    assert far == f"unknown key 'lr'; valid: {', '.join(sorted(keys))}"
    of_many = unknown_name("key", "lr", [f"key_{number}" for number in range(60)])
    assert of_many.endswith(" and 55 more")
