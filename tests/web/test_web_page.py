"""The page in a real Chromium.  Each test also asserts (fixture `page`) that nothing complained: no script error, no broken
policy, no request to anybody else."""

from __future__ import annotations

import base64
import json

import pytest
from control_kit import ControlProcess
from web_kit import drawn, show, status

from ratite.clients.bench.chromium import BrowserError, Chromium, Page
from ratite.clients.bench.large import count, large
from ratite.clients.control import ControlClient

TABS = ("topology", "consoles", "speed", "registers", "memory", "events", "qmp")


def rows(page: Page) -> str:
    """What the terminal shows."""
    return str(page.eval("document.querySelector('.xterm-rows')?.innerText ?? ''"))


# ---------------------------------------------------------------- signing in


def test_a_url_signs_one_browser_in(chromium: Chromium, control: ControlClient) -> None:
    url = control.web_open()["url"]
    with chromium.page() as first:
        first.go(url)
        first.wait("document.querySelector('#link-state').dataset.state === 'open'")
        assert first.eval("location.hash") == "#/", "the code has left the address"
        (cookie,) = first.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
        assert first.eval("document.cookie") == ""
        first.go(url.partition("#")[0] + "?again")
        first.wait("document.querySelector('#link-state').dataset.state === 'open'")
        assert first.complaints == []
    with chromium.page() as second:
        second.go(url)
        assert "not signed in" in second.text("main h2")
        second.wait("document.querySelector('#link-state').dataset.state === 'signed-out'")
        assert second.cookies() == []
        # A new address, typed into the same window, helps.
        second.eval(f"location.hash = {json.dumps(control.web_open()['url'].partition('#')[2])}")
        second.wait("document.querySelector('#link-state').dataset.state === 'open'")
        second.wait("document.querySelector('.card')")


def test_signing_out_is_for_all_tabs_of_the_browser(chromium: Chromium, control: ControlClient) -> None:
    with chromium.page() as page:
        page.go(control.web_open()["url"])
        page.wait("document.querySelector('#link-state').dataset.state === 'open'")
        page.eval("window.other = new WebSocket(location.origin.replace('http', 'ws') + '/rpc')")
        page.wait("other.readyState === WebSocket.OPEN")
        page.click("#sign-out")
        assert "not signed in" in page.text("main h2")
        page.wait("document.querySelector('#link-state').dataset.state === 'signed-out'")
        page.wait("other.readyState === WebSocket.CLOSED")
        assert page.eval("document.querySelector('#sign-out').hidden")
        assert page.cookies() == []
        page.eval("fetch('session').then((answer) => { window.session = answer.status; })")
        page.wait("window.session === 401")


def test_without_a_session_there_is_only_the_way_to_one(chromium: Chromium, control: ControlClient) -> None:
    with chromium.page() as page:
        page.go(control.web_open()["url"].partition("#")[0] + "#/m/echo/qmp")
        assert "ratite web" in page.text(".command")
        assert not page.eval("document.querySelector('.machine')")


def test_a_foreign_page_gets_nothing(chromium: Chromium, control: ControlClient) -> None:
    """A page of another origin (localhost is another one) in the same browser, with the cookie in its jar."""
    url = control.web_open()["url"]
    with chromium.page() as page:
        page.go(url)
        page.wait("document.querySelector('#link-state').dataset.state === 'open'")
        own = url.partition("#")[0].rstrip("/")
        page.go("data:text/html,<h1>evil</h1>")
        socket = f"const s = new WebSocket('{own.replace('http', 'ws')}/rpc')"
        assert page.eval(_promise(f"{socket}; s.onopen = () => done('open'); s.onerror = () => done('refused')")) == "refused"
        assert page.eval(f"fetch('{own}/session').then(() => 'read', () => 'refused')") == "refused"
        frame = f"const f = document.createElement('iframe'); f.src = '{own}/'"
        shown = "f.onload = () => done(f.contentDocument === null); document.body.append(f)"
        assert page.eval(_promise(f"{frame}; {shown}")) is True


def _promise(work: str) -> str:
    return f"new Promise(done => {{ {work}; }})"


# ---------------------------------------------------------------- the list


MARKUP = "<img src=x onerror=alert`1`>"


def test_text_of_others_is_no_markup(page: Page, control: ControlClient) -> None:
    """In an address, an answer, an event and a console; `page` also sees what the policy had to stop."""
    for wrong in "%", "m/%E0%A4%A/topology", f"m/{MARKUP}/qmp":
        page.eval(f"location.hash = {json.dumps('#/' + wrong)}")
        page.wait("document.querySelector('h1')")
    page.wait(f"document.querySelector('h1').innerText === {json.dumps(MARKUP)}")
    show(page, "echo", "qmp")
    page.wait("document.querySelector('#qmp-line')?.dataset.ready")
    page.click("#qmp-line")
    page.type(f'qom-get {{"path": "{MARKUP}", "property": "{MARKUP}"}}\n')
    assert MARKUP in page.text(".transcript pre.refused")
    show(page, "echo", "consoles")
    page.wait("document.querySelector('.xterm-rows')?.innerText.includes('echo')")
    page.type(MARKUP + "\r")
    page.wait("document.querySelector('.xterm-rows').innerText.includes('ONERROR=ALERT`1`>')")
    assert not page.eval("document.querySelector('img')")


def test_an_instance_of_the_same_name_comes_back(page: Page, control: ControlClient) -> None:
    control.instance_create(instance="twice")
    show(page, "twice", "events")
    page.wait("document.querySelector('.panel input')")
    control.instance_end(instance="twice")
    assert "is not there" in page.text(".panel h2")
    control.instance_create(instance="twice")
    page.wait("document.querySelector('.panel input')")
    assert page.text(".state .pill") == "empty"


def test_the_keyboard_keeps_its_place_in_the_list(page: Page, control: ControlClient) -> None:
    page.wait("document.querySelector('.card-link')")
    page.eval("document.querySelector(\"button[aria-label='End echo']\").focus()")
    control.instance_create(instance="another")
    page.wait("document.querySelectorAll('.card').length === 2")
    assert page.eval("document.activeElement.getAttribute('aria-label')") == "End echo"


def test_list_follows_what_is_made_and_ended(page: Page, control: ControlClient) -> None:
    page.wait("[...document.querySelectorAll('.card .name')].map(e => e.innerText).join() === 'echo'")
    assert page.text(".card .pill") == "running"
    control.instance_create(instance="second")
    page.wait("[...document.querySelectorAll('.card .name')].map(e => e.innerText).join() === 'echo,second'")
    page.click("button[aria-label='End second']")
    page.click("dialog button[value=no]")
    page.wait("!document.querySelector('dialog')")
    assert len(control.instance_list()) == 2
    page.click("button[aria-label='End second']")
    page.click("dialog button[value=yes]")
    page.wait("[...document.querySelectorAll('.card .name')].map(e => e.innerText).join() === 'echo'")
    assert len(control.instance_list()) == 1


def test_an_instance_without_a_machine_and_one_that_is_gone(page: Page, control: ControlClient) -> None:
    control.instance_create(instance="bare")
    show(page, "bare", "topology")
    assert "empty instance" in page.text(".canvas h2").lower()
    assert page.eval("[...document.querySelectorAll('.toolbar button')].every(e => e.disabled)")
    for tab in TABS[1:-1]:
        show(page, "bare", tab)
        page.wait("document.querySelector('.panel')?.innerText.trim().length > 10")
    control.instance_end(instance="bare")
    page.wait("document.querySelector('.panel h2')?.innerText.includes('is not there')")
    page.eval("location.hash = '#/m/never-was/topology'")
    page.wait("document.querySelector('h1')?.innerText === 'never-was'")
    assert "is not there" in page.text(".panel h2")


# ---------------------------------------------------------------- one machine


def test_topology_draws_what_the_machine_has(page: Page) -> None:
    show(page, "echo", "topology")
    assert drawn(page) == 4, "a CPU, RAM, a UART, the finisher"
    parts = page.eval("[...document.querySelectorAll('[data-part]')].map(e => e.dataset.part).sort()")
    assert parts == ["/machine/peripheral/cpu", "/machine/peripheral/finisher", "/machine/peripheral/uart", "/objects/ram"]
    assert page.eval("document.querySelectorAll('.edge').length") >= 3
    page.click("[data-part$='/uart']")
    assert page.text(".details h2") == "uart"
    page.wait("document.querySelector('.details .facts:last-of-type div')")
    details = page.text(".details")
    assert "ns16550" in details and "1000_0000" in details and "regshift" in details
    assert page.eval("document.querySelector('.chip.selected').dataset.part") == "/machine/peripheral/uart"
    page.click("button[aria-label='Close the details']")
    page.wait("document.querySelector('.address-map')")
    assert "8000_0000" in page.eval("document.querySelector('.address-map').innerText")


def test_topology_of_200_devices_is_readable(page: Page, control: ControlClient) -> None:
    assert count(large()) == 200
    control.instance_create(instance="large")
    for command, arguments in large():
        control.instance_qmp(instance="large", execute=command, arguments=arguments)
    control.instance_qmp(instance="large", execute="machine-wire")
    page.size(1440, 900)
    show(page, "large", "topology")
    assert drawn(page) > 150
    # Every device is in the picture: a chip of its own, or named in the chip that it is plugged into.
    text = page.eval("[...document.querySelectorAll('.chip')].map(e => e.getAttribute('aria-label')).join('\\n')")
    for command, arguments in large():
        if command == "device_add":
            assert arguments["id"] in text, arguments["id"]
    faults = page.eval("""(() => {
      const chips = [...document.querySelectorAll('.chip')].map(e => [e, e.querySelector('.face').getBoundingClientRect()]);
      const faults = [];
      for (const [e, box] of chips) for (const t of e.querySelectorAll('text')) {
        const r = t.getBoundingClientRect();
        if (r.right > box.right + 0.5 || r.left < box.left || r.height < 9) faults.push('text ' + t.textContent);
      }
      chips.sort((a, b) => a[1].left - b[1].left);
      chips.forEach(([e, a], i) => { for (const [f, b] of chips.slice(i + 1)) {
        if (b.left >= a.right) break;
        if (b.top < a.bottom && b.bottom > a.top) faults.push('overlap ' + e.dataset.part + ' ' + f.dataset.part);
      }});
      const boxes = [...document.querySelectorAll('.group > .box')].map(e => e.getBoundingClientRect());
      boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
        if (b.left < a.right && b.right > a.left && b.top < a.bottom && b.bottom > a.top) faults.push('groups overlap');
      }));
      return faults; })()""")
    assert faults == []
    width = page.eval("document.querySelector('.canvas').scrollWidth - document.querySelector('.canvas').clientWidth")
    assert width <= 0, "as wide as the window, to be scrolled in one direction"


def test_console_echoes_what_is_typed(page: Page) -> None:
    show(page, "echo", "consoles")
    page.wait("document.querySelector('.xterm-helper-textarea') === document.activeElement")
    page.type("hello, ratite\n")
    page.wait("document.querySelector('.xterm-rows').innerText.includes('HELLO, RATITE')"), "the guest answers in capitals"
    # The style sheets of xterm are in effect, its own and those that it makes.
    assert page.eval("getComputedStyle(document.querySelector('.xterm-screen')).position") == "relative"
    assert page.eval("getComputedStyle(document.querySelector('.xterm-rows')).fontFamily").find("mono") >= 0
    assert page.eval("getComputedStyle(document.querySelector('.xterm-rows span')).display") == "inline-block"
    # What the console has kept is there for who comes later.
    show(page, "echo", "events")
    assert not page.eval("document.querySelector('.xterm')")
    show(page, "echo", "consoles")
    page.wait("document.querySelector('.xterm-rows')?.innerText.includes('HELLO, RATITE')")
    page.press("E", "Control", "Shift")
    page.wait("document.activeElement.id === 'tab-consoles'")


def test_colours_of_a_terminal_break_no_policy(page: Page) -> None:
    page.eval("""(async () => {
      const { openTerminal } = await import("/js/terminal.js");
      const place = document.createElement("div");
      place.className = "screen";
      document.querySelector("main").append(place);
      globalThis.opened = await openTerminal(place);
      opened.terminal.write("\\x1b[38;2;10;200;30mgreen\\x1b[0m \\x1b[1;31mred\\x1b[0m \\x1b[4:3;58;2;1;2;3munder\\x1b[0m");
    })()""")
    page.wait("""[...document.querySelectorAll('.xterm-rows span')].some(e => e.textContent === 'green'
      && getComputedStyle(e).color === 'rgb(10, 200, 30)')""")
    sheets = page.eval("document.adoptedStyleSheets.length")
    assert sheets >= 2
    assert page.eval("(opened.close(), document.adoptedStyleSheets.length)") == 0, "and nothing of it stays"


def test_pause_and_resume(page: Page, control: ControlClient) -> None:
    show(page, "echo", "events")
    page.wait("document.querySelector('.toolbar .pill')?.innerText === 'running'")
    page.click(".toolbar button")
    page.wait("document.querySelector('.toolbar .pill')?.innerText === 'paused'")
    assert status(control, "echo") == "paused"
    page.wait("document.querySelector('tr[data-event=STOP]')")
    control.instance_qmp(instance="echo", execute="cont")
    page.wait("document.querySelector('.toolbar .pill')?.innerText === 'running'"), "somebody else has resumed it"
    page.wait("document.querySelector('tr[data-event=RESUME]')")
    page.click(".toolbar button:last-child")
    page.click("dialog button[value=yes]")
    page.wait("document.querySelector('tr[data-event=RESET]')")
    page.eval("document.querySelector('[data-field]').focus()")
    page.type("reset")
    assert page.eval("[...document.querySelectorAll('tbody tr')].map(e => e.dataset.event)") == ["RESET"]


def test_qmp_line_completes_from_the_schema(page: Page) -> None:
    show(page, "echo", "qmp")
    page.wait("document.querySelector('#qmp-line')?.dataset.ready")
    page.eval("document.querySelector('#qmp-line').focus()")
    page.type("query-sta")
    page.wait("[...document.querySelectorAll('#qmp-options [role=option]')].some(e => e.innerText.trim() === 'query-status')")
    page.press("Tab")
    assert page.eval("document.querySelector('#qmp-line').value").strip() in ("query-status", "query-stat")
    page.eval("(() => { const e = document.querySelector('#qmp-line'); e.value = ''; })()")
    page.type("qom-get pa")
    page.wait("document.querySelector('#qmp-options')?.innerText.includes('path=')")
    page.press("Tab")
    page.type("/machine ")
    page.wait("document.querySelector('#qmp-options')?.innerText.includes('property=')")
    page.press("Tab")
    assert page.eval("document.querySelector('#qmp-line').value") == "qom-get path=/machine property="
    page.type("status\n")
    assert page.text(".transcript pre:not(.waiting)") == '"running"'
    page.type("view-select personality=r")
    page.wait("document.querySelector('#qmp-options')?.innerText.trim() === 'ratite'")
    page.press("Escape")
    page.eval("document.querySelector('#qmp-line').value = ''")
    page.type('query-memory {"address":18446744073709551600,"size":16}\n')
    page.wait("document.querySelector('.transcript pre')?.innerText === '[]'")
    page.type("no-such-command\n")
    page.wait("document.querySelector('.transcript .refused')?.innerText.includes('CommandNotFound')")
    page.press("ArrowUp")
    assert page.eval("document.querySelector('#qmp-line').value") == "no-such-command"


def test_registers_and_memory_are_the_machine_s(page: Page, control: ControlClient) -> None:
    control.instance_qmp(instance="echo", execute="stop")
    try:
        asked = control.instance_qmp(instance="echo", execute="query-registers", arguments={"cpu": "cpu"})
        show(page, "echo", "registers")
        page.wait("document.querySelector('[data-register=pc]')")
        shown = page.eval("""[...document.querySelectorAll('[data-register]')].map(
          e => [e.dataset.register, e.querySelector('dd').textContent])""")
        assert dict(shown) == {row["name"]: row["value"] for row in asked}
        name = asked[9]["name"]
        arguments = {"path": "/machine/peripheral/cpu", "property": name, "value": 0x1234}
        control.instance_qmp(instance="echo", execute="qom-set", arguments=arguments)
        page.click(".panel .row button")
        page.wait(f"document.querySelector('[data-register={name}].changed')?.innerText.includes('1234')")
    finally:
        control.instance_qmp(instance="echo", execute="cont")
    show(page, "echo", "memory")
    first = page.wait("document.querySelector('.hex-row')?.innerText")
    image = control.instance_qmp(instance="echo", execute="query-memory", arguments={"address": 0x80000000, "size": 16})
    there = base64.b64decode(image[0]["data"])
    assert first.replace("\n", " ").split()[:17] == ["8000_0000", *(f"{byte:02x}" for byte in there)]
    page.eval("document.querySelector('[data-field]').focus(); document.querySelector('[data-field]').select()")
    page.type("10000000\n")
    page.wait("document.querySelector('.hex')?.innerText.includes('Devices are not read')")


def test_speed_is_plotted(page: Page, control: ControlClient) -> None:
    show(page, "echo", "speed")
    page.wait("document.querySelector('[data-cpu$=\"/cpu\"] .value')?.innerText.match(/^[0-9.]+$/)", 60)
    assert page.eval("document.querySelectorAll('[data-cpu] .chart polyline').length") == 1
    assert "No cluster compiles" in page.eval("document.querySelector('.panel').innerText"), "this one's accelerator is interp"


# ---------------------------------------------------------------- keyboard, colours, width


def test_everything_is_reached_by_the_keyboard(page: Page, control: ControlClient) -> None:
    page.wait("document.querySelector('.card-link')")
    for _ in range(12):
        page.press("Tab")
        if page.eval("document.activeElement.matches('.card-link')"):
            break
    page.press("Enter")
    page.wait("document.querySelector('[role=tab][aria-selected=true]')?.id === 'tab-topology'")
    drawn(page)
    page.press("7")
    page.wait("document.querySelector('#qmp-line')?.dataset.ready")
    page.press("/")
    page.wait("document.activeElement.id === 'qmp-line'")
    page.type("query-status\n")
    assert "running" in page.text(".transcript pre:not(.waiting)")
    page.press("Tab", "Shift")
    page.wait("document.activeElement.id === 'tab-qmp'")
    page.press("Home")
    page.wait("document.activeElement.id === 'tab-topology'")
    drawn(page)
    page.press("Tab")
    page.wait("document.activeElement.matches('.chip')")
    seen = set()
    for key in ("ArrowDown", "ArrowDown", "ArrowLeft", "ArrowRight", "ArrowUp"):
        seen.add(page.eval("document.activeElement.dataset.part"))
        page.press(key)
    assert len(seen) >= 3, "arrows go from part to part"
    part = page.eval("document.activeElement.dataset.part")
    page.press("Enter")
    assert page.text(".details h2") == part.rpartition("/")[2]
    page.press("Escape")
    page.wait("document.querySelector('.details h2')?.innerText === 'Address map'")
    page.press("p")
    page.wait("document.querySelector('.toolbar .pill')?.innerText === 'paused'")
    page.press("p")
    page.wait("document.querySelector('.toolbar .pill')?.innerText === 'running'")
    page.press("?")
    assert "Keyboard shortcuts" in page.text("dialog[open] h2")
    page.press("Escape")
    page.wait("!document.querySelector('dialog')")
    page.press("m")
    page.wait("document.querySelector('.card')")


def test_light_and_dark(page: Page) -> None:
    page.prefer("light")
    light = page.wait("getComputedStyle(document.documentElement).backgroundColor")
    page.prefer("dark")
    dark = page.wait(f"(c => c !== {json.dumps(light)} && c)(getComputedStyle(document.documentElement).backgroundColor)")
    page.press("t")
    assert page.eval("document.documentElement.dataset.theme") == "light"
    page.wait(f"getComputedStyle(document.documentElement).backgroundColor === {json.dumps(light)}")
    page.go(page.eval("location.origin") + "/?again")
    page.wait("document.querySelector('.card') && document.documentElement.dataset.theme === 'light'"), "it is remembered"
    page.press("t")
    page.wait(f"getComputedStyle(document.documentElement).backgroundColor === {json.dumps(dark)}")
    for scheme in "light", "dark":
        page.prefer(scheme)
        page.eval("document.documentElement.removeAttribute('data-theme')")
        assert page.eval(_CONTRAST) >= 4.5, f"text must be readable in {scheme}"


_CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d');
  const light = colour => { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255)
      .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const probe = document.createElement('i'); document.body.append(probe);
  const of = name => { probe.style.color = `var(${name})`; return light(getComputedStyle(probe).color); };
  const pairs = ['text bg', 'text surface', 'muted bg', 'muted surface', 'muted raised', 'on-accent accent', 'good good-soft',
    'wait wait-soft', 'bad bad-soft', 'accent surface', 'term-fg term-bg'];
  const worst = pairs.map(pair => {
    const [a, b] = pair.split(' ').map(name => '--' + name);
    const [x, y] = [of(a), of(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); });
  probe.remove();
  return Math.min(...worst); })()"""


@pytest.mark.parametrize("width", [390, 320])
def test_narrow_windows_scroll_in_one_direction(page: Page, width: int) -> None:
    page.size(width, 800)
    wide = "document.documentElement.scrollWidth - innerWidth"
    assert page.eval(wide) <= 0
    for tab in TABS:
        show(page, "echo", tab)
        page.wait("document.querySelector('.panel')?.innerText.trim().length > 5")
        assert page.eval(wide) <= 0, tab
    show(page, "echo", "topology")
    drawn(page)
    assert page.eval("document.querySelector('.canvas').scrollWidth - document.querySelector('.canvas').clientWidth") <= 0
    page.press("?")
    page.wait("document.querySelector('dialog[open]')")
    assert page.eval(wide) <= 0
    page.press("Escape")


# ---------------------------------------------------------------- the daemon goes


def test_a_daemon_that_goes_is_told(chromium: Chromium, tmp_path_factory: pytest.TempPathFactory) -> None:
    with ControlProcess(tmp_path_factory.mktemp("gone") / "sock") as process, chromium.page() as page:
        with process.client() as control:
            page.go(control.web_open()["url"])
        page.wait("document.querySelector('#link-state').dataset.state === 'open'")
        assert "No machine runs here yet" in page.text("main h2")
        process.stop()
        page.wait("document.querySelector('#link-state').dataset.state === 'lost'")
        assert "not connected" in page.text("#link-state")
        assert "ratite web" in page.eval("document.querySelector('#link-state').title")


def test_a_condition_that_never_comes_true_fails(page: Page) -> None:
    with pytest.raises(BrowserError, match="does not come true"):
        page.wait("document.querySelector('#no-such-thing')", 0.05)
