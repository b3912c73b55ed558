"""What is wrong is told with its place, its rule and its value, all of it in one run; nothing that a file says does harm."""

from __future__ import annotations

import random

import pytest
from machinefile_kit import Kit

from ratite.qapi.machinefile import files
from ratite.qapi.machinefile import problems as problems_module
from ratite.qapi.machinefile.compile import Compiler
from ratite.qapi.machinefile.expand import DOCUMENTS_LETTERS_MAX, DOCUMENTS_MAX, LETTERS_MAX, NESTING_MAX, VALUES_MAX, WORK_MAX
from ratite.qapi.machinefile.problems import PROBLEMS_MAX, MachineFileError

EVERYTHING = """\
ratite: 2
parameters:
  harts: {type: int, default: two}
objects:
  view: {type: address-spce}
  ram: {type: memory-backend-ram}
  spaces: {type: address-space}
  cluster: {type: cpu-cluster, target: t, address-space: space}
  big: {type: memory-backend-ram, size: 5X}
  neg: {type: memory-backend-ram, size: -1}
devices:
  uart0: {type: ns16550, chardev: consol, regshft: 2, baudbase: 0, endianness: middle}
  mtimer: {type: riscv.aclint.mtimer, num-harts: two}
  9x: {type: or-irq}
  b: 5
  intc: {type: xlnx.xps-intc, num-intr-inputs: 4}
  disk: {type: virtio-blk-device, drive: uart0, bus: nowhere, serial: 12}
chardevs:
  console: {type: sockt}
  file: {type: file, in: /a, outt: /b}
  sock: {type: socket, addr: {type: unix, data: {path: /x}}}
maps:
  spaces:
    ram: -5
    uart: 0x10000000
    intc/reg: 0
    spaces: 0
  nospace:
    intc: 0
wires:
  uart0/irqq: intc/irq[0]
  intc/irq: mtimer/foo
  mtimer/mtip[0]: intc/irq[4]
  mtimer/mtip[1]: intc/irq[1]
  mtimer/mtip[2]: intc/irq[1]
  uart0: x
colour: red
"""
EXPECTED = """\
1:9: ratite: must be 1, the version of the format, not 2
3:31: parameters.harts.default: must be an integer, not "two"
5:16: objects.view.type: must be a type of objects, not "address-spce" (did you mean 'address-space'?)
6:8: objects.ram: 'size' is missing
8:58: objects.cluster.address-space: must name an object of type address-space of this machine, not "space"\
 (did you mean 'spaces'?)
9:41: objects.big.size: must be a size in bytes from 0 to 0xffffffffffffffff: SIZE, not "5X"
10:41: objects.neg.size: must be a size in bytes from 0 to 0xffffffffffffffff: SIZE, not -1
12:35: devices.uart0.chardev: must name one of the chardevs of this machine, not "consol" (did you mean 'console'?)
12:43: devices.uart0.regshft: type 'ns16550' has no 'regshft' (did you mean 'regshift'?)
12:65: devices.uart0.baudbase: must be an integer from 1 to 0xffffffff baud, not 0
12:80: devices.uart0.endianness: must be one of "little", "big", not "middle"
13:50: devices.mtimer.num-harts: must be an integer from 1 to 4095, not "two"
14:3: devices.9x: must be an id (a letter, then letters, digits, . _ -), not "9x"
15:6: devices.b: must be a mapping with 'type' and the properties of that type, not 5
17:42: devices.disk.drive: must name one of the blockdevs of this machine, not "uart0"
17:54: devices.disk.bus: must name an object of type bus of this machine, or a part of one as ID/PART, not "nowhere"
17:71: devices.disk.serial: must be a text (in quotes where it looks like a number, true, false or null), not 12
19:19: chardevs.console.type: must be a type of chardevs, not "sockt" (did you mean 'socket'?)
20:9: chardevs.file: 'out' is missing
20:30: chardevs.file.outt: type 'file' of chardevs has no 'outt' (did you mean 'out'?)
21:30: chardevs.sock.addr: 'path' is missing
21:43: chardevs.sock.addr.data: a SocketAddressLegacy of type 'unix' has no 'data' (it has: abstract, path, tight, type)
24:10: maps.spaces.ram: must be an address, {offset, priority}, or a list of these, not -5
25:5: maps.spaces.uart: must name a device or memory of this machine, not "uart" (did you mean 'uart0'?)
26:5: maps.spaces.intc/reg: type 'xlnx.xps-intc' has no region 'reg' (it has: intc/regs) (did you mean 'regs'?)
27:5: maps.spaces.spaces: type 'address-space' has no region that could be mapped
29:5: maps.nospace.intc: 'nospace' must be an address space of this machine (did you mean 'spaces'?)
31:3: wires.uart0/irqq: type 'ns16550' has no output 'irqq' (it has: irq) (did you mean 'irq'?)
32:13: wires.intc/irq: type 'riscv.aclint.mtimer' has no input 'foo' (it has: none)
33:19: wires.mtimer/mtip[0]: 'intc' has 4 inputs 'irq', counted from 0, not "intc/irq[4]"
35:19: wires.mtimer/mtip[2]: an input has one driver; another one is at top.yaml:34:19, not "intc/irq[1]"
36:3: wires.uart0: must be ID/LINE, like plic/irq[10], not "uart0"
36:10: wires.uart0: must be ID/LINE, like plic/irq[10], not "x"
37:1: colour: a machine file has no 'colour'"""


def test_everything_that_is_wrong_is_told_at_once(kit: Kit) -> None:
    size = 'an integer, or a text like "512M" (K, M, G, T)'
    assert kit.problems(EVERYTHING) == EXPECTED.replace("SIZE", size).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "5", "[]", "null", "ratite: 1\ndevices: 5", "ratite: 1\nmaps: {a: [b]}", "ratite: 1\nwires: []",
        "ratite: 1\ngroups: {}", "ratite: 1\ninclude: 7", "ratite: 1\nparts: [1]", "ratite: 1\nmachine: []",
        "ratite: 1\nparameters: {a: 5, b: {type: 7}}", "ratite: 1\ngroups: [5, {for: 3}, {if: 3}]",
        "ratite: 1\ninclude: [3, {part: 5}, {file: [], with: 3}]", "ratite: 1\ndevices: {a: {type: []}}",
        "ratite: 1\nobjects: {a: {type: {}}}", "ratite: 1\nblockdevs: {b: {type: raw, file: {file: 5}}}",
    ],
)  # fmt: skip
def test_wrong_shapes_are_told_not_tripped_over(kit: Kit, text: str) -> None:
    assert kit.problems(text)


def test_faults_of_an_included_file_are_told_where_they_are(kit: Kit) -> None:
    kit.others["b.yaml"] = (
        "ratite: 1\nparameters: {n: {type: int}}\ndevices: {d: {type: or-irq, num-lines: $(n)}, e: {typ: x}}\n"
    )
    text = "ratite: 1\ninclude:\n  - {file: b.yaml, with: {n: 5000}}\n  - {file: c.yaml}\n  - {file: b.yaml, prefix: a}\n"
    assert kit.problems(text) == [
        "b.yaml:3:50: devices.e: 'type' is missing",
        "4:12: include.1.file: can't be read: there is no 'c.yaml'",
        "5:5: parameters.n: a value must be given (int: )",
    ]
    assert kit.problems("ratite: 1\ninclude:\n  - {file: b.yaml, with: {n: 5000}}\n") == [
        "b.yaml:3:40: devices.d.num-lines: must be an integer from 1 to 1024, not 5000",
        "b.yaml:3:50: devices.e: 'type' is missing",
    ]


def test_what_an_include_brings_again_is_told_at_the_include(kit: Kit) -> None:
    kit.others = {"b.yaml": "ratite: 1\nobjects: {o: {type: address-space}}\n"}
    assert kit.problems("ratite: 1\ninclude: [{file: b.yaml}, {file: b.yaml}]\n") == [
        "2:27: include.1: 'o' is there already, at b.yaml:2:11"
    ]


def test_an_id_that_comes_twice(kit: Kit) -> None:
    text = (
        "ratite: 1\nobjects: {a1: {type: address-space}}\ngroups:\n- for: {n: 2}\n  objects: {a$(n): {type: address-space}}\n"
    )
    assert kit.problems(text) == ["5:13: groups.0.objects.a$(n): 'a1' is there already, at top.yaml:2:11"]


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"b.yaml": "ratite: 1\ninclude: [{file: top.yaml}]"}, "b.yaml -> top.yaml"),
        ({"b.yaml": "ratite: 1\ninclude: [{file: b.yaml}]"}, "it includes itself: b.yaml -> b.yaml"),
        ({"b.yaml": "ratite: 1\ninclude: [{file: c.yaml}]", "c.yaml": "ratite: 1\ninclude: [{file: b.yaml}]"},
         "b.yaml -> c.yaml -> b.yaml"),
        ({"b.yaml": "ratite: 1\nparts: {p: {include: [{part: q}]}, q: {include: [{part: p}]}}\ninclude: [{part: p}]"},
         "b.yaml#p -> b.yaml#q -> b.yaml#p"),
    ],
)  # fmt: skip
def test_cycles_are_refused(kit: Kit, others: dict[str, str], message: str) -> None:
    text = "ratite: 1\ninclude: [{file: b.yaml}]\n"
    kit.others = {"top.yaml": text, **others}
    (problem,) = kit.problems(text)
    assert problem.endswith(message)
    assert "it includes itself" in problem


def test_chains_and_numbers_of_includes_are_bounded(kit: Kit) -> None:
    kit.others = {f"{n}.yaml": f"ratite: 1\ninclude: [{{file: {n + 1}.yaml}}]" for n in range(40)}
    assert any(f"nested {NESTING_MAX} deep" in each for each in kit.problems("ratite: 1\ninclude: [{file: 0.yaml}]"))
    kit.others = {f"{n}.yaml": "ratite: 1" for n in range(100)}
    many = ", ".join(f"{{file: {n}.yaml}}" for n in range(100))
    assert any(f"at most {DOCUMENTS_MAX} files" in each for each in kit.problems(f"ratite: 1\ninclude: [{many}]"))


@pytest.mark.parametrize(
    "body",
    [
        "groups: [{for: {a: 4096, b: 4096, c: 4096}}]",
        "groups: [{for: {a: 4096, b: 4096}, objects: {o$(a)-$(b): {type: address-space}}}]",
        "parts: {p: {groups: [{for: {a: 4096}, objects: {o$(a): {type: address-space}}}]}}\n"
        "groups: [{for: {b: 4096}, include: [{part: p, prefix: x$(b)-}]}]",
        "parts:\n" + "".join(
            f"  p{n}: {{include: [{', '.join(f'{{part: p{n + 1}, prefix: a{k}}}' for k in range(9))}]}}\n" for n in range(10)
        ) + "  p10: {}\ninclude: [{part: p0}]",
    ],
)  # fmt: skip
def test_bombs_of_repetitions_are_bounded(kit: Kit, body: str) -> None:
    assert kit.problems(f"ratite: 1\n{body}") == [f"1:1: repetitions and includes make more than {WORK_MAX} things"]


ONES = ", ".join("1" for _ in range(10_000))


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (f"groups: [{{for: {{a: 4096}}, objects: {{o$(a): {{type: address-space, l: [{ONES}]}}}}}}]", f"{VALUES_MAX} values"),
        (f"groups: [{{for: {{a: 4096}}, if: [{ONES}]}}]", f"{VALUES_MAX} values"),
        ("groups: [{for: {a: 4096}, objects: {'$(repeat(\"x\", 9999, \"\"))$(a)': {type: address-space}}}]",
         f"{LETTERS_MAX} letters of texts"),
        ("groups: [{for: {a: 4096}, objects: {o$(a): {type: '$(repeat(\"x\", 9999, \"\"))'}}}]",
         f"{LETTERS_MAX} letters of texts"),
        ("parts: {p: {groups: [{for: {a: 4096}, objects: {o$(a): {type: address-space}}}]}}\n"
         "include: [{part: p, prefix: '$(repeat(\"x\", 9999, \"\"))'}]", f"{LETTERS_MAX} letters of texts"),
    ],
)  # fmt: skip
def test_what_entries_hold_is_bounded_too(kit: Kit, body: str, what: str) -> None:
    assert f"1:1: repetitions and includes make more than {what}" in kit.problems(f"ratite: 1\n{body}")


def test_letters_of_included_files_are_bounded(kit: Kit) -> None:
    kit.others = {f"{n}.yaml": "ratite: 1\n" + "#" * (DOCUMENTS_LETTERS_MAX // 8) for n in range(8)}
    many = ", ".join(f"{{file: {n}.yaml}}" for n in range(8))
    rule = f"repetitions and includes make more than {DOCUMENTS_LETTERS_MAX} letters of included files"
    assert kit.problems(f"ratite: 1\ninclude: [{many}]") == [f"1:1: {rule}"]


def test_faults_without_end_are_told_up_to_a_number(kit: Kit) -> None:
    many = ", ".join(f"x{n}: 1" for n in range(PROBLEMS_MAX + 1))
    problems = kit.problems(f"ratite: 1\nobjects: {{o: {{type: address-space, {many}}}}}\n")
    assert len(problems) == PROBLEMS_MAX + 1
    assert f"there is more that is wrong; {PROBLEMS_MAX} faults are told at once" in problems


def test_hints_of_many_names_are_looked_for_once_a_place(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(problems_module, "nearest", lambda name, names: asked.append(len(names)) or "")
    turns = "for: {a: 4000}, devices: {u$(a): {type: ns16550, chardev: v$(a)}}, chardevs: {w$(a): {type: 'null'}}"
    assert len(kit.problems(f"ratite: 1\ngroups: [{{{turns}}}]\n")) == 1
    assert len(asked) == 1
    assert asked[0] < 4000


@pytest.mark.parametrize(
    ("declared", "problem"),
    [
        ("{type: int, default: 5, minimum: x}", '2:50: parameters.a.minimum: must be an integer, not "x"'),
        ("{type: str, default: x, minimum: 4}", "2:41: parameters.a.minimum: a parameter of type str has no bounds"),
        ("{type: str, values: [5, x], default: x}", "2:38: parameters.a.values.0: must be a text, not 5"),
        ("{type: int, default: 5, maximum: 3}", "2:38: parameters.a.default: must be an integer, at most 3, not 5"),
        ("{type: bool, default: 5}", "2:39: parameters.a.default: must be true or false, not 5"),
    ],
)
def test_parameters_declared_wrongly_are_told_though_a_value_is_given(kit: Kit, declared: str, problem: str) -> None:
    given = {"a": "true" if "bool" in declared else "x" if "str" in declared else 1}
    assert kit.problems(f"ratite: 1\nparameters: {{a: {declared}}}\n", given) == [problem]


@pytest.mark.parametrize("name", ["if", "true", "not", "a-b", "A", "a\\n"])
def test_names_that_no_expression_can_say_are_refused(kit: Kit, name: str) -> None:
    (problem,) = kit.problems(f'ratite: 1\nparameters: {{"{name}": {{type: int}}}}\n')
    assert problem.startswith("2:14: parameters.")
    assert "must be a name of a parameter" in problem


@pytest.mark.parametrize(
    "text",
    [
        'objects: {"o\\n": {type: address-space}}', 'objects: {o: {type: memory-backend-ram, size: "1M\\n"}}',
        "devices: {u: {type: ns16550, regshift: 2.0}}",
    ],
)  # fmt: skip
def test_what_only_looks_like_an_id_a_size_an_integer_is_refused(kit: Kit, text: str) -> None:
    assert len(kit.problems(f"ratite: 1\n{text}\n")) == 1


@pytest.mark.parametrize("count", ["-1", "4097", "99999999999", "$(4097)", "$(1 << 100)", "x", "1.5", "{}"])
def test_counts_are_bounded(kit: Kit, count: str) -> None:
    (problem,) = kit.problems(f"ratite: 1\ngroups:\n  - for: {{n: {count}}}\n")
    assert problem.startswith("3:14: groups.0.for.n: must be a count")


def test_a_variable_hides_no_parameter(kit: Kit) -> None:
    text = "ratite: 1\nparameters: {n: {type: int, default: 1}}\ngroups: [{for: {n: 2}}]\n"
    assert kit.problems(text) == ["3:17: groups.0.for.n: the name is taken by a parameter or variable"]


def test_without_a_reader_nothing_is_included(compiler: Compiler) -> None:
    with pytest.raises(Exception, match="other files can't be included here, not"):
        compiler.compile_text("ratite: 1\ninclude: [{file: x.yaml}]")


def test_a_parameter_given_wrongly_is_told_once_however_deep_it_is_handed_on(kit: Kit) -> None:
    kit.others["b.yaml"] = "ratite: 1\nparameters: {c: {type: chardev}}\nchardevs: {c: $(c)}\n"
    text = "ratite: 1\nparameters: {c: {type: chardev}}\ninclude: [{file: b.yaml, with: {c: $(c)}}]\n"
    (problem,) = kit.problems(text, {"c": "{a"})
    assert problem.startswith("parameters.c: must be a character backend")


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_given_is_one_that_qmp_can_hold(kit: Kit, text: str) -> None:
    declared = "ratite: 1\nparameters: {s: {type: str, default: x}, c: {type: chardev, default: pty}}\n"
    problems = kit.problems(declared, {"s": text, "c": {"type": "file", "out": text}})
    assert [problem.partition(": ")[0] for problem in problems] == ["parameters.c", "parameters.s"]
    assert all("must be without NUL characters" in problem and problem.isprintable() for problem in problems)


@pytest.mark.parametrize("text", [" 2", "2_0", "0b1", "٢", "2\n", "0X2", ""])
def test_an_integer_given_as_text_is_what_it_is_in_a_file(kit: Kit, text: str) -> None:
    (problem,) = kit.problems("ratite: 1\nparameters: {n: {type: int}}\n", {"n": text})
    assert problem.startswith("parameters.n: must be an integer, not")


def test_a_name_that_is_no_profile_s_says_how_files_are_named(compiler: Compiler) -> None:
    with pytest.raises(MachineFileError, match=r"board: there is no profile 'board'.*; the name of a file ends in \.yaml"):
        compiler.compile_named("board", {}, files.read)


def test_changed_files_are_told_or_taken(compiler: Compiler) -> None:
    """Values of real profiles replaced, keys moved, lines lost: a MachineFileError or commands, nothing else."""
    source = random.Random(2)
    junk = [
        "5", "-1", "[]", "{}", "null", "true", "x", "$(", "$(harts", "$(1 << 99)", "1.5", '""', "[1, {a: 2}]",
        "{type: ns16550}", "/a/b",
    ]  # fmt: skip
    texts = [profile.path.read_text() for profile in files.profiles()]
    outcomes = set()
    for _ in range(250):
        lines = source.choice(texts).splitlines()
        for _ in range(source.randint(1, 4)):
            number = source.randrange(len(lines))
            key, colon, _ = lines[number].partition(": ")
            what = source.randrange(4)
            if what == 0 and colon:
                lines[number] = f"{key}: {source.choice(junk)}"
            elif what == 1:
                del lines[number]
            elif what == 2:
                lines.insert(number, source.choice(lines))
            else:
                lines[number] = lines[number].replace(source.choice("abcdeimnrst$(:{"), source.choice("xyz)}:"), 1)
            lines = lines or ["ratite: 1"]
        try:
            compiler.compile_text("\n".join(lines), {}, files.read)
            outcomes.add("taken")
        except MachineFileError as error:
            outcomes.add("told")
            assert error.problems
    assert outcomes == {"taken", "told"}
