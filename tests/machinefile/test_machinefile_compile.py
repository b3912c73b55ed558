"""The language: what each thing compiles to."""

from __future__ import annotations

from machinefile_kit import Kit


def test_the_commands_are_those_of_a_client(kit: Kit) -> None:
    made = kit.commands("""
        chardevs:
          con: {type: socket, addr: {type: unix, path: /run/x}, server: false}
          log: {type: "null"}
        blockdevs:
          top: {type: raw, file: below, read-only: true}
          below: {type: file, filename: /img, cache: {direct: true}}
          inline: {type: raw, file: {type: file, filename: /other}}
        netdevs:
          net: {type: stream, addr: {type: inet, host: localhost, port: "4444"}}
        objects:
          view: {type: address-space}
          ram: {type: memory-backend-ram, size: 16M}
        devices:
          uart0: {type: ns16550, chardev: con, regshift: 2}
          gate: {type: or-irq, num-lines: 2}
        maps:
          view:
            ram: {offset: 0x80000000, priority: -1}
            uart0/regs: [0x1000, 0x2000]
        wires:
          uart0/irq: gate/in[1]
    """)
    unix = {"type": "unix", "data": {"path": "/run/x"}}
    assert made == [
        ("chardev-add", {"id": "con", "backend": {"type": "socket", "data": {"addr": unix, "server": False}}}),
        ("chardev-add", {"id": "log", "backend": {"type": "null", "data": {}}}),
        ("blockdev-add", {"driver": "file", "node-name": "below", "filename": "/img", "cache": {"direct": True}}),
        ("blockdev-add", {"driver": "raw", "node-name": "top", "read-only": True, "file": "below"}),
        ("blockdev-add", {"driver": "raw", "node-name": "inline", "file": {"driver": "file", "filename": "/other"}}),
        ("netdev_add", {"type": "stream", "id": "net", "addr": {"type": "inet", "host": "localhost", "port": "4444"}}),
        ("object-add", {"qom-type": "address-space", "id": "view"}),
        ("object-add", {"qom-type": "memory-backend-ram", "id": "ram", "size": 16 << 20}),
        ("device_add", {"driver": "ns16550", "id": "uart0", "chardev": "con", "regshift": 2}),
        ("device_add", {"driver": "or-irq", "id": "gate", "num-lines": 2}),
        ("map-region", {"space": "view", "region": "ram", "offset": 0x80000000, "priority": -1}),
        ("map-region", {"space": "view", "region": "uart0/regs", "offset": 0x1000}),
        ("map-region", {"space": "view", "region": "uart0/regs", "offset": 0x2000}),
        ("wire-irq", {"from": "uart0", "output": "irq", "to": "gate", "input": "in[1]"}),
    ]


def test_json_is_yaml(kit: Kit) -> None:
    text = '{"ratite": 1, "machine": {"primary-target": "riscv64"}, "objects": {"view": {"type": "address-space"}}}'
    assert kit.compiler.compile_text(text).commands == [
        ("machine-create", {"primary-target": "riscv64"}),
        ("object-add", {"qom-type": "address-space", "id": "view"}),
        ("x-exit-preconfig", {}),
    ]


def test_parameters_have_types_defaults_and_bounds(kit: Kit) -> None:
    body = """
        parameters:
          ram: {type: size, default: 16M, minimum: 4K}
          twice: {type: size, default: $(2 * ram)}
          name: {type: str, default: x}
          share: {type: bool, default: false}
          con: {type: chardev, default: "null"}
        chardevs:
          con: $(con)
        objects:
          $(name)0: {type: memory-backend-ram, size: $(ram), share: $(share)}
          $(name)1: {type: memory-backend-ram, size: $(twice)}
    """
    assert [arguments for _, arguments in kit.commands(body)] == [
        {"id": "con", "backend": {"type": "null", "data": {}}},
        {"qom-type": "memory-backend-ram", "id": "x0", "size": 16 << 20, "share": False},
        {"qom-type": "memory-backend-ram", "id": "x1", "size": 32 << 20},
    ]
    given = {"ram": "0x1000", "name": "y", "share": "true", "con": "{type: file, out: /tmp/x}"}
    assert [arguments for _, arguments in kit.commands(body, given)] == [
        {"id": "con", "backend": {"type": "file", "data": {"out": "/tmp/x"}}},
        {"qom-type": "memory-backend-ram", "id": "y0", "size": 4096, "share": True},
        {"qom-type": "memory-backend-ram", "id": "y1", "size": 8192},
    ]
    text = "ratite: 1\n" + "\n".join(line[8:] for line in body.splitlines())
    assert kit.problems(text, {"ram": "1K", "share": "yes", "con": 5, "nam": "z"}) == [
        "parameters.con: must be a character backend: its type, or a mapping with 'type' and its members, not 5",
        "parameters.nam: there is no such parameter (did you mean 'name'?)",
        'parameters.ram: must be a size in bytes: an integer, or a text like "512M" (K, M, G, T), at least 4096, not "1K"',
        'parameters.share: must be true or false, not "yes"',
    ]


def test_a_parameter_without_a_default_must_be_given(kit: Kit) -> None:
    text = "ratite: 1\nparameters:\n  image: {type: str, description: the program}\n"
    assert kit.problems(text) == ["parameters.image: a value must be given (str: the program)"]


def test_groups_repeat_and_choose(kit: Kit) -> None:
    made = kit.commands("""
        parameters:
          n: {type: int, default: 2}
        groups:
          - for: {a: $(n), b: [x, y]}
            if: $(not (a == 1 and b == "x"))
            objects:
              v$(a)$(b): {type: address-space, address-bits: $(32 + a)}
          - if: $(n > 5)
            objects:
              many: {type: address-space}
            groups:
              - for: {i: $(n - 6)}
                objects: {deep$(i): {type: address-space}}
          - for: {none: 0}
            objects: {never: {type: address-space}}
    """)
    assert [(arguments["id"], arguments.get("address-bits")) for _, arguments in made] == [
        ("v0x", 32),
        ("v0y", 32),
        ("v1y", 33),
    ]


PART = """
parts:
  core:
    parameters:
      target: {type: str}
      lines: {type: int, default: 1}
    objects:
      view: {type: address-space}
      cluster: {type: cpu-cluster, target: $(target), address-space: view}
    blockdevs:
      img: {type: raw, file: base}
      base: {type: file, filename: /base}
    devices:
      gate: {type: or-irq, num-lines: $(lines)}
      port: {type: pcie-root-port, bus: pci0/pcie.0}
      other: {type: pcie-root-port, bus: host/pcie.0}
      pci0: {type: gpex-pcihost, address-space: /objects/view}
    maps:
      view: {ram: 0, pci0/pio: 0x1000000}
    wires:
      gate/out: all/in[$(lines)]
include:
  - {part: core, prefix: a-, with: {target: riscv64}}
  - {part: core, prefix: b., with: {target: microblaze, lines: 2}}
objects:
  ram: {type: memory-backend-ram, size: 1M}
devices:
  all: {type: or-irq, num-lines: 3}
  host: {type: gpex-pcihost, address-space: a-view}
"""


def test_a_part_is_used_often_and_names_its_own_first(kit: Kit) -> None:
    made = kit.commands(PART)
    by_id = {arguments.get("id", arguments.get("node-name")): arguments for _, arguments in made if "space" not in arguments}
    assert by_id["a-cluster"]["address-space"] == "a-view"
    assert by_id["b.cluster"]["address-space"] == "b.view"
    assert by_id["b.cluster"]["target"] == "microblaze"
    assert by_id["b.img"]["file"] == "b.base"
    assert by_id["a-port"]["bus"] == "/machine/peripheral/a-pci0/pcie.0"
    assert by_id["a-other"]["bus"] == "/machine/peripheral/host/pcie.0"
    assert by_id["b.pci0"]["address-space"] == "/objects/b.view"
    assert by_id["b.gate"]["num-lines"] == 2
    assert ("map-region", {"space": "b.view", "region": "ram", "offset": 0}) in made
    assert ("map-region", {"space": "b.view", "region": "b.pci0/pio", "offset": 0x1000000}) in made
    assert ("wire-irq", {"from": "b.gate", "output": "out", "to": "all", "input": "in[2]"}) in made


def test_files_are_included_from_where_they_are(kit: Kit) -> None:
    kit.others = {
        "board.yaml": "ratite: 1\ninclude: [{file: deep.yaml}]\nparameters: {n: {type: int}}\n"
        "objects: {o$(n): {type: address-space}}\n",
        "deep.yaml": "ratite: 1\nobjects: {deep: {type: address-space}}\n",
    }
    made = kit.commands("include: [{file: board.yaml, with: {n: 1}}]")
    assert [arguments["id"] for _, arguments in made] == ["deep", "o1"]
    assert kit.asked == [("file", "board.yaml", "top.yaml"), ("file", "deep.yaml", "board.yaml")]


def test_a_file_read_twice_is_read_once(kit: Kit) -> None:
    kit.others = {"b.yaml": "ratite: 1\nparameters: {n: {type: int}}\nobjects: {o$(n): {type: address-space}}\n"}
    made = kit.commands("""
        groups:
          - for: {n: 3}
            include: [{file: b.yaml, with: {n: $(n)}}]
    """)
    assert [arguments["id"] for _, arguments in made] == ["o0", "o1", "o2"]
    assert len(kit.asked) == 1


def test_texts_that_look_like_expressions_can_be_said(kit: Kit) -> None:
    ((_, arguments),) = kit.commands("chardevs: {c: {type: file, out: /tmp/$$(x)}}")
    assert arguments["backend"]["data"] == {"out": "/tmp/$(x)"}


def test_paths_are_left_alone(kit: Kit) -> None:
    path = "../~/$HOME/%s//a b/ü"
    ((_, arguments),) = kit.commands(f"chardevs: {{c: {{type: file, out: '{path}'}}}}")
    assert arguments["backend"]["data"] == {"out": path}
