"""The one configuration file."""

import pytest

from appliance.config import Config, load_config, split_address, use_kernel_cache
from appliance.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "holdfast.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(autouse=True)
def no_system_config(monkeypatch, tmp_path):
    monkeypatch.setattr("appliance.config.SYSTEM_CONFIG", tmp_path / "none.toml")
    monkeypatch.delenv("HOLDFAST_CONFIG", raising=False)


def test_without_a_file_the_embedded_default_runs_on_loopback():
    config = load_config()
    assert config == Config()
    assert config.server.address.startswith("127.0.0.1:")
    assert config.state.directory == "./holdfast-data"


def test_a_file_changes_what_it_names_and_nothing_else(write):
    config = load_config(write("[batching]\nrows_max = 4\n"))
    assert config.batching.rows_max == 4
    assert config.server == Config().server


def test_the_variable_names_the_file_and_the_option_wins(write, monkeypatch, tmp_path):
    path = write('[server]\nname = "triton"\n')
    monkeypatch.setenv("HOLDFAST_CONFIG", str(path))
    assert load_config().server.name == "triton"
    other = tmp_path / "other.toml"
    other.write_text("")
    assert load_config(other).server.name == "holdfast"


def test_the_system_file_is_read_when_there_is_one(write, monkeypatch):
    monkeypatch.setattr("appliance.config.SYSTEM_CONFIG", write('[server]\nname = "box"\n'))
    assert load_config().server.name == "box"


def test_the_state_directory_can_be_given_on_its_own(tmp_path):
    config = load_config(state=tmp_path)
    assert config.state.audit_log == tmp_path / "audit" / "log.db"
    assert config.server == Config().server


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("[server]\nadress = '1:2'\n", "unknown field `adress`", "did you mean `address`?"),
        ("[sever]\n", "unknown field `sever`", "did you mean `server`?"),
        ("[zzz]\n", "unknown field `zzz`", "remove the key"),
        ("[batching]\nrows_max = 0\n", "`int` >= 1", "correct the value"),
        ("[batching]\nrows_max = 'many'\n", "$.batching.rows_max", "correct the value"),
        ("[server\n", "is not TOML", "correct the file"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_and_the_cure(write, text, message, remedy):
    with pytest.raises(ConfigError) as refused:
        load_config(write(text))
    assert message in str(refused.value)
    assert "holdfast.toml" in str(refused.value)
    assert refused.value.remedy == remedy


def test_a_file_that_was_asked_for_must_exist(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "missing.toml")


def test_the_digest_tells_settings_apart():
    assert Config().digest == Config().digest
    assert Config().digest != load_config(state="elsewhere").digest


@pytest.mark.parametrize("address", ["localhost", ":1", "host:", "host:x", "host:70000"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ConfigError, match="is not an address"):
        split_address(address)


def test_addresses_are_split():
    assert split_address("127.0.0.1:8001") == ("127.0.0.1", 8001)
    assert split_address("[::1]:0") == ("[::1]", 0)


def test_the_kernel_cache_is_in_the_state_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    state = load_config(state=tmp_path).state
    use_kernel_cache(state.kernel_cache)
    assert state.kernel_cache.is_dir()
    monkeypatch.undo()
