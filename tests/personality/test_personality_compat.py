"""-compat: what is deprecated or unstable is refused, or hidden from introspection."""

from __future__ import annotations

import pytest
from personality_kit import Shims

from ratite.clients.qmp import CommandError


def test_policies_of_monitors(shims: Shims) -> None:
    policy = "deprecated-input=reject,deprecated-output=hide,unstable-input=reject,unstable-output=hide"
    _process, qmp = shims.start("riscv64", "-M", "none", "-compat", policy)
    with qmp:
        with pytest.raises(CommandError, match="Unstable command x-query-ramblock disabled by policy") as told:
            qmp.execute("x-query-ramblock")
        assert told.value.error_class == "CommandNotFound"
        backend = {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": "/nowhere/at/all"}},
                                              "server": False, "reconnect": 1}}  # fmt: skip
        with pytest.raises(CommandError, match="Deprecated parameter reconnect disabled by policy"):
            qmp.execute("chardev-add", {"id": "c", "backend": backend})
        entries = qmp.execute("query-qmp-schema")
        assert "x-query-ramblock" in [entry["name"] for entry in entries]
        assert not [entry for entry in entries if "values" in entry or "deprecated" in entry.get("features", ())]
        members = [row for entry in entries if entry["meta-type"] == "object" for row in entry["members"]]
        assert members and not [row for row in members if "deprecated" in row.get("features", ())]
        # The human monitor is for people.
        assert qmp.hmp("info status").startswith("VM status")
        qmp.execute("quit")


def test_values_are_checked(shims: Shims) -> None:
    done = shims.run("riscv64", "-M", "none", "-compat", "deprecated-input=hide")
    assert done.returncode == 1 and "Parameter 'deprecated-input' does not accept value 'hide'" in done.stderr
