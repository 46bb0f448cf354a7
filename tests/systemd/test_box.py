"""The units under a real systemd: from a bundle in the inbox to a sealed key, kills, hangs and faults.

The tests share one box and follow one another.
"""

import json

import pytest

from tests.systemd.box import HOME, Box, NotHere

RUNTIME = "holdfast-runtime.service"
STATE = "/var/lib/holdfast"
SETTINGS = "/etc/holdfast/holdfast.toml"
ASK = f"""
import sys, numpy, tritonclient.grpc as triton
images = numpy.load("{HOME}/source/examples/digits/traffic.npz")["image"][:4]
pixels = triton.InferInput("image", images.shape, "UINT8")
pixels.set_data_from_numpy(images)
files = dict(zip(("root_certificates", "private_key", "certificate_chain"), sys.argv[1:]))
client = triton.InferenceServerClient("127.0.0.1:8001", ssl=bool(files), **files)
answer = client.infer("digits", [pixels])
print(answer.get_response().model_version, answer.as_numpy("labels").shape)
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A box that serves version 1 of digits, which came by the inbox."""
    directory = tmp_path_factory.mktemp("box")
    try:
        box = Box(directory / "boot.log")
    except NotHere as reason:
        pytest.skip(str(reason))
    try:
        box.run("mkdir /run/test && cd /run/test && holdfast-compile keygen engineer")
        box.run(f"cp /run/test/engineer.pub {STATE}/trust/")
        box.run(f"cat > /run/test/ask.py <<'END'\n{ASK}END")
        box.run(f"systemctl start {RUNTIME} holdfast-build.path")
        deliver(box, 1)
        box.run("holdfast activate digits 1 --reason first --yes")
        yield box
    finally:
        box.close()


def deliver(box, number):
    """Pack a version as the engineer does, lay it in the inbox as the operator does, and wait until it is built."""
    model = f"{HOME}/source/examples/digits/digits-{number}"
    box.run(
        f"holdfast-compile pack {model}.onnx --spec {model}.toml --key /run/test/engineer.pem -o /run/test/a.holdfast"
    )
    lay(box, "/run/test/a.holdfast", f"digits-{number}")
    box.until(f"test -e {STATE}/inbox/built/digits-{number}.holdfast")


def lay(box, file, name):
    box.run(f"cp {file} {STATE}/inbox/{name}.part")
    box.run(f"mv {STATE}/inbox/{name}.part {STATE}/inbox/{name}.holdfast")


def answers(box, version, *files):
    """Ask as any client does; `files` are its certificates."""
    told = box.run(f"cd /run/test && python ask.py {' '.join(files)}")
    assert told == f"{version} (4, 3)\n"


def change(box, before, after):
    """Set a setting that is as delivered."""
    assert box.run(f"grep -cFx '{before}' {SETTINGS}") == "1\n"
    line = before.replace("[", "\\[").replace("]", "\\]")
    box.run(f"sed -i 's|^{line}$|{after}|' {SETTINGS}")


def restart(box):
    """As an operator who does so more often than the unit's limit of starts allows."""
    box.run(f"systemctl reset-failed {RUNTIME} && systemctl restart {RUNTIME}")


def status(box):
    return json.loads(box.run("holdfast status --json"))


def test_a_bundle_of_the_inbox_answers(box):
    answers(box, 1)
    assert box.shown(RUNTIME, "StatusText") == "serving on 127.0.0.1:8001"
    assert "tried" in box.run(f"cat {STATE}/inbox/built/digits-1.log")
    assert status(box)["models"][0]["answered"] == 1
    assert box.run(f"stat -c %U {STATE}/store {STATE}/audit").split() == [
        "holdfast-build",
        "holdfast",
    ]


def test_what_is_no_bundle_is_refused_beside_its_reason(box):
    lay(box, "/etc/hostname", "nonsense")
    box.until(f"test -e {STATE}/inbox/refused/nonsense.holdfast")
    assert "error [bundle.format]" in box.run(f"cat {STATE}/inbox/refused/nonsense.log")
    answers(box, 1)


def test_a_killed_runtime_is_started_again_with_what_it_served(box):
    box.run(f"systemctl kill --signal=KILL {RUNTIME}")
    box.until(f"test $(systemctl show --value --property=NRestarts {RUNTIME}) = 1")
    box.until(f"systemctl is-active {RUNTIME}")
    answers(box, 1)
    box.run("holdfast audit verify")


def test_a_runtime_that_hangs_is_ended_and_started_again(box):
    seconds = f"/run/systemd/system/{RUNTIME}.d/soon.conf"
    box.run(f"mkdir -p $(dirname {seconds}) && printf '[Service]\\nWatchdogSec=5\\n' > {seconds}")
    box.run("systemctl daemon-reload")
    restart(box)
    box.run(f"kill -STOP {box.shown(RUNTIME, 'MainPID')}")
    box.until(f"test $(systemctl show --value --property=NRestarts {RUNTIME}) = 1")
    box.until(f"systemctl is-active {RUNTIME}")
    assert "Watchdog timeout" in box.run(f"journalctl --unit={RUNTIME}")
    answers(box, 1)
    box.run(f"rm {seconds} && systemctl daemon-reload")
    restart(box)


def test_a_drift_check_is_reported_and_recorded(box):
    box.run("systemctl start holdfast-drift@digits.service")
    told = box.run("journalctl --output=cat --unit=holdfast-drift@digits.service")
    assert "Verdict: too little data" in told
    assert "not recorded" not in told
    box.until("holdfast audit tail --category drift --json | grep -q digits")


def test_a_sealed_key_is_opened_by_the_service_manager_alone(box):
    box.run(f"systemctl stop {RUNTIME}")
    box.run("holdfast key seal --with host --yes")
    box.run(f"test ! -e {STATE}/keys/box.pem && systemctl start {RUNTIME}")
    answers(box, 1)
    assert "sealed" in box.run("holdfast key status")
    sealed = "/etc/credstore.encrypted/holdfast.box-key"
    box.run(f"test -s {sealed} && runuser -u holdfast cat {sealed}", fails=True)


def test_a_sealed_key_is_rotated(box):
    before = json.loads(box.run("holdfast key status --json"))
    box.run("holdfast key rotate --reason yearly")
    restart(box)
    after = json.loads(box.run("holdfast key status --json"))
    assert before != after
    answers(box, 1)
    restart(box)
    box.run("holdfast audit verify")


def test_a_second_version_takes_over(box):
    deliver(box, 2)
    box.run("holdfast activate digits 2 --reason better --yes")
    answers(box, 2)


def test_a_refresh_finds_nothing_to_do(box):
    box.run("systemctl start holdfast-refresh.service")
    assert "nothing was done" in box.run("journalctl --unit=holdfast-refresh.service")


def test_a_wrong_setting_is_for_a_person_and_not_for_another_start(box):
    change(box, 'name = "holdfast"', "nonsense = 1")
    box.run(f"systemctl restart {RUNTIME}", fails=True)
    assert (box.shown(RUNTIME, "ActiveState"), box.shown(RUNTIME, "NRestarts")) == ("failed", "0")
    change(box, "nonsense = 1", 'name = "holdfast"')
    box.run(f"systemctl start {RUNTIME}")
    answers(box, 2)


def test_root_and_the_boxs_user_act_by_turns(box):
    secret = box.run("holdfast token issue line-3 --days 9 2> /dev/null")
    other = box.run("runuser -u holdfast -- holdfast token issue line-4 --days 9 2> /dev/null")
    assert secret != other
    assert box.run("holdfast token list").count("holds") == 2
    for user in ("root", "holdfast"):
        told = box.run(f"runuser -u {user} -- holdfast replay digits --version 1 2>&1 || true")
        assert "denied" not in told
    assert box.run(f"stat -c %U {STATE}/work").split() == ["holdfast"]


def test_operators_decide_under_their_own_accounts(box):
    box.run("groupadd holdfast-operators")
    box.run("useradd --groups holdfast,holdfast-operators maria && useradd --groups holdfast joe")
    change(box, 'control_group = ""', 'control_group = "holdfast"')
    change(box, "operator_groups = []", 'operator_groups = ["holdfast-operators"]')
    restart(box)
    told = box.run("runuser -u joe -- holdfast rollback digits --reason no --yes", fails=True)
    assert "error [" in told
    answers(box, 2)
    box.run("runuser -u maria -- holdfast rollback digits --reason mine --yes")
    answers(box, 1)
    newest = box.run("holdfast audit tail --category decision --json -n 1")
    assert json.loads(newest)[0]["record"]["actor"] == "maria"


def test_the_network_is_served_over_tls_both_ways(box):
    box.run("cd /run/test && holdfast ca init site --site plant.example")
    box.run("cd /run/test && holdfast ca issue site server box --address 127.0.0.1 -o own")
    box.run("cd /run/test && holdfast ca issue site client line -o own")
    box.run("install -d -m 750 -g holdfast /etc/holdfast/tls")
    files = "own/box.pem own/box.key site/authority.pem site/denied.txt"
    box.run(f"cd /run/test && install -m 640 -g holdfast {files} /etc/holdfast/tls/")
    for name, file in (("certificate", "box.pem"), ("key", "box.key"), ("denied", "denied.txt")):
        change(box, f'{name} = ""', f'{name} = "/etc/holdfast/tls/{file}"')
    change(box, 'client_ca = ""', 'client_ca = "/etc/holdfast/tls/authority.pem"')
    change(box, 'address = "127.0.0.1:8001"', 'address = "0.0.0.0:8001"')
    restart(box)
    ask = "cd /run/test && python ask.py"
    for nobody in (ask, f"{ask} site/authority.pem"):
        box.run(nobody, fails=True)
    own = "site/authority.pem", "own/line.key", "own/line.pem"
    answers(box, 1, *own)
    assert "spiffe://plant.example/client/line" in box.run("holdfast audit tail --json")
    box.run(
        "cd /run/test && holdfast ca revoke site line --reason lost && cp site/denied.txt /etc/holdfast/tls/"
    )
    box.until(f"! ({ask} {' '.join(own)})")


def test_a_stop_drains_and_leaves_a_closed_log(box):
    box.run(f"systemctl stop {RUNTIME}")
    assert box.shown(RUNTIME, "Result") == "success"
    assert "runtime.stopped" in box.run(f"journalctl --output=cat --unit={RUNTIME} | tail -n 4")
    box.run("holdfast audit verify")
