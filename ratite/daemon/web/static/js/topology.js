// The picture of a machine.  Arrow keys go from part to part, Enter shows one's details.

import { address, bytes, empty, h, replace, s, short } from "./dom.js";
import { addressMap } from "./memory.js";
import { mipsText, rates, sample } from "./counters.js";
import { buildModel, measure, shorten } from "./topology-model.js";

const NARROW = 720, LETTER = 6.7, EVERY = 1000;

export default class Topology {
  constructor(machine, panel) {
    this.machine = machine;
    this.panel = panel;
    this.selected = null;
    this.focused = null;
    this.scale = 0;
    this.closed = false;
    this.layouts = 0;
    this.worker = new Worker(new URL("layout-worker.js", import.meta.url), { type: "module" });
    this.canvas = h("div", { class: "canvas scroll", tabindex: "-1" });
    this.aside = h("aside", { class: "details", "aria-label": "Details", "aria-live": "polite" });
    const zoom = h("div", { class: "zoom", role: "group", "aria-label": "Size of the picture" },
      [["+", "Larger", 1.2], ["−", "Smaller", 1 / 1.2], ["Fit", "Fit the whole picture", 0]].map(([text, label, factor]) =>
        h("button", { type: "button", "aria-label": label, title: label, onclick: () => this.zoom(factor) }, text)));
    this.stage = h("div", { class: "stage" }, this.canvas, zoom);
    replace(panel, h("div", { class: "topology" }, this.stage, this.aside));
    this.unwatch = machine.watch((what, event) => {
      if (what === "status" || (what === "event" && event.event === "DEVICE_DELETED")) this.load();
    });
    this.resized = new ResizeObserver(() => this.model && this.canvas.clientWidth !== this.drawnFor && this.draw());
    this.load().then(() => this.closed || this.resized.observe(this.canvas));
    this.poll();
  }

  close() {
    this.closed = true;
    this.unwatch();
    this.worker.terminate();
    this.resized.disconnect();
    clearTimeout(this.timer);
  }

  async load() {
    try {
      const [topology, maps] = await Promise.all([this.machine.qmp("query-topology"), this.machine.qmp("query-memory-map")]);
      if (this.closed) return;
      const text = JSON.stringify(topology, (_key, value) => (typeof value === "bigint" ? String(value) : value));
      this.maps = maps;
      if (text !== this.text) {
        this.text = text;
        this.model = buildModel(topology);
        await this.draw();
      }
      this.details();
    } catch (error) {
      if (this.closed) return;
      this.text = null;
      replace(this.canvas, empty("The machine can't be drawn", h("p", {}, error.message)));
      replace(this.aside);
    }
  }

  // -- drawing

  layout(mode) {
    const id = ++this.layouts;
    const { groups, edges } = this.model;
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data }) => data.id === this.layouts && resolve(data);
      this.worker.onerror = (event) => reject(new Error(event.message ?? "the layout failed"));
      this.worker.postMessage({ id, mode, edges: edges.map(({ from, to, kind }) => ({ from, to, kind })),
        groups: groups.map((group) => ({ id: group.id, width: group.width, height: group.height, rank: group.rank })) });
    });
  }

  async draw() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    this.drawnFor = width;
    if (!this.model.groups.length) {
      const none = this.machine.phase === "none";
      replace(this.canvas, empty(none ? "An empty instance" : "Nothing is in this machine yet",
        h("p", {}, none ? "No machine is made in it yet: machine-create on the QMP tab begins one." : "Objects appear as object-add and device_add make them.")));
      return;
    }
    const narrow = width < NARROW;
    measure(this.model, narrow ? width - 12 - lanes(this.model) * 6 - 10 : width - 32, narrow);
    const layout = await this.layout(narrow ? "stack" : "layers");
    if (this.closed) return;
    this.size = layout;
    this.chips = new Map();
    this.marks = s("g", { class: "marks" });
    const svg = s("svg", { class: "topology-picture", viewBox: `0 0 ${layout.width} ${layout.height}`, role: "group",
      "aria-label": `${this.machine.instance}: ${this.model.parts.size} parts in ${this.model.groups.length} groups`, onkeydown: (event) => this.arrow(event) },
    s("g", { class: "edges" }, this.model.edges.map((edge, number) => s("path", { class: `edge ${edge.kind}`, d: rounded(layout.edges[number]) }))),
    this.model.groups.map((group) => this.group(group, layout.groups[group.id])),
    narrow ? [] : this.model.edges.map((edge, number) => this.tag(edge, layout.edges[number])), this.marks);
    this.svg = svg;
    replace(this.canvas, svg);
    this.zoom(this.scale ? 1 : null);
    this.setFocus(this.chips.has(this.focused) ? this.focused : this.chips.keys().next().value, false);
    this.mark();
    this.stage.dataset.drawn = String(this.model.parts.size);
  }

  tag(edge, points) {
    if (edge.kind !== "irq") return [];
    const at = points.at(-1), text = edge.count > 1 ? `${edge.count} irq` : "irq", width = text.length * 5.6 + 12;
    return s("g", { class: "tag", "aria-hidden": "true" }, s("rect", { x: at.x - width / 2, y: at.y - 19, width, height: 15, rx: 7.5 }), s("text", { x: at.x, y: at.y - 8 }, text));
  }

  group(group, { x, y }) {
    group.x = x;
    group.y = y;
    const box = s("g", { class: `group ${group.kind}`, transform: `translate(${x} ${y})`, role: "group", "aria-label": `${group.title}, ${group.subtitle}` },
      s("rect", { class: "box", width: group.width, height: group.height, rx: group.kind === "space" ? group.height / 2 : 12 }));
    if (group.kind === "space") {
      box.append(s("text", { class: "title", x: group.width / 2, y: 18, "text-anchor": "middle" }, group.title),
        s("text", { class: "subtitle", x: group.width / 2, y: 32, "text-anchor": "middle" }, group.subtitle));
      return box;
    }
    const room = Math.floor((group.width - 24) / LETTER);
    box.append(s("text", { class: "title", x: 12, y: 19 }, shorten(group.title, room)), s("text", { class: "subtitle", x: 12, y: 33 }, shorten(group.subtitle, room + 3)));
    if (group.parts.length > 6) box.append(s("text", { class: "subtitle", x: group.width - 12, y: 19, "text-anchor": "end" }, String(group.parts.length)));
    for (const caption of group.captions) {
      box.append(s("text", { class: "caption", x: caption.x, y: caption.y }, shorten(caption.text, room - 5), s("tspan", { class: "count" }, `  ${caption.count}`)));
    }
    box.append(...group.chips.map((chip) => this.chip(chip)));
    return box;
  }

  chip({ part, x, y, width, height, small }) {
    const room = Math.floor((width - 20) / LETTER);
    const g = s("g", { class: `chip ${part.kind}${small ? " small" : ""}`, transform: `translate(${x} ${y})`, tabindex: "-1", role: "button",
      "aria-label": this.label(part), dataset: { part: part.path }, onclick: () => { this.setFocus(part.path, true); this.select(part.path); },
      onfocus: () => this.setFocus(part.path, false) },
    s("title", {}, this.label(part)), s("rect", { class: "face", width, height, rx: 7 }), s("rect", { class: "edge-bar", width: 4, height: height - 12, x: 5, y: 6, rx: 2 }));
    if (small) g.append(s("text", { class: "name", x: 15, y: height / 2 + 4 }, shorten(part.name, room)));
    else {
      g.append(s("text", { class: "name", x: 16, y: 19 }, shorten(part.name, room)), s("text", { class: "type", x: 16, y: 35 }, shorten(this.second(part), room + 2)));
    }
    if (part.kind === "cpu" && !small) g.append(s("rect", { class: "speed", x: 16, y: height - 6, width: 0, height: 2.5, rx: 1 }));
    this.chips.set(part.path, { g, part, width, height, x, y });
    return g;
  }

  second(part) {
    if (part.kind === "memory") return `${bytes(part.size ?? 0)}${part.maps.length ? ` at ${address(part.maps[0].offset)}` : ""}`;
    if (part.inner.length) return `› ${part.inner.map((row) => row.name).join(", ")}`;
    if (part.kind === "cpu") return part.type;
    return part.maps.length ? `${part.type}` : part.type;
  }

  label(part) {
    const where = part.maps.slice(0, 2).map((map) => `at 0x${map.offset.toString(16)} of ${short(map.space)}`);
    const out = part.wires.filter((wire) => wire.from === part).slice(0, 3).map((wire) => `${wire.output} to ${wire.to.name} ${wire.input}`);
    const inner = part.inner.map((row) => `with ${row.name} (${row.type})`);
    return [part.name, part.type, ...inner, ...where, ...out].join(", ");
  }

  // -- size

  // factor 0: the whole picture; null: its width; else so much larger.
  zoom(factor) {
    if (!this.svg) return;
    const { width, height } = this.size;
    const fitting = Math.min(1, (this.canvas.clientWidth - 2) / width);
    if (factor === null) this.shown = Math.max(fitting, 0.62);
    else if (factor === 0) this.shown = Math.min(fitting, (this.canvas.clientHeight - 2) / height);
    else {
      this.shown = Math.min(3, Math.max(0.15, this.shown * factor));
      if (factor !== 1) this.scale = this.shown;
    }
    if (factor === 0) this.scale = this.shown;
    this.svg.setAttribute("width", Math.floor(width * this.shown));
    this.svg.setAttribute("height", Math.floor(height * this.shown));
  }

  // -- keyboard

  setFocus(path, move) {
    if (!path) return;
    this.chips.get(this.focused)?.g.setAttribute("tabindex", "-1");
    this.focused = path;
    const { g } = this.chips.get(path);
    g.setAttribute("tabindex", "0");
    if (move) {
      g.focus({ preventScroll: true });
      g.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  arrow(event) {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (event.key === "Enter" || event.key === " ") this.select(this.focused);
    else if (event.key === "Escape" && this.selected) this.select(null);
    else if (dx || dy) {
      const here = this.centre(this.focused);
      let best = null, least = Infinity;
      for (const path of this.chips.keys()) {
        const there = this.centre(path);
        const along = (there.x - here.x) * dx + (there.y - here.y) * dy;
        const across = Math.abs((there.x - here.x) * dy) + Math.abs((there.y - here.y) * dx);
        if (along > 4 && along + across * 2.5 < least) { best = path; least = along + across * 2.5; }
      }
      if (best) this.setFocus(best, true);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  key(event) {
    const factor = { "+": 1.2, "=": 1.2, "-": 1 / 1.2, 0: 0 }[event.key];
    if (event.key === "Escape" && this.selected) this.select(null);
    else if (factor !== undefined) this.zoom(factor);
    else return false;
    return true;
  }

  centre(path) {
    const { part, x, y, width, height } = this.chips.get(path);
    return { x: part.group.x + x + width / 2, y: part.group.y + y + height / 2 };
  }

  // -- one part

  select(path) {
    this.selected = this.selected === path ? null : path;
    this.mark();
    this.details();
  }

  // The wires of the part that is looked at, each by itself; all else steps back.
  mark() {
    const part = this.selected && this.model.parts.get(this.selected);
    this.svg?.classList.toggle("looking", Boolean(part));
    const near = new Set();
    replace(this.marks);
    if (part) {
      near.add(part.path);
      for (const { from, to, output, input } of part.wires) {
        near.add(from.path).add(to.path);
        if (from === to) continue;
        const a = this.centre(from.path), b = this.centre(to.path), middle = (a.y + b.y) / 2;
        this.marks.append(s("path", { class: "wire", d: `M${a.x} ${a.y}C${a.x} ${middle} ${b.x} ${middle} ${b.x} ${b.y}` }, s("title", {}, `${from.name} ${output} → ${to.name} ${input}`)),
          s("circle", { class: "end", cx: a.x, cy: a.y, r: 3 }), s("circle", { class: "end", cx: b.x, cy: b.y, r: 3 }));
      }
    } else this.selected = null;
    for (const [path, { g }] of this.chips) {
      g.classList.toggle("near", near.has(path));
      g.setAttribute("aria-pressed", String(path === this.selected));
      g.classList.toggle("selected", path === this.selected);
    }
  }

  details() {
    const part = this.selected && this.model?.parts.get(this.selected);
    if (part) this.partDetails(part);
    else this.overview();
  }

  overview() {
    const maps = (this.maps ?? []).filter((map) => map.ranges.length);
    replace(this.aside, h("h2", {}, "Address map"),
      maps.length ? maps.map((map) => h("details", { open: maps.length < 4 }, h("summary", {}, short(map.space), h("span", { class: "muted" }, ` ${map.ranges.length} ranges`)),
        addressMap(map.ranges, (range) => range.owner && this.choose(range.owner))))
        : h("p", { class: "muted" }, "Nothing is mapped until the machine is wired."));
  }

  choose(path) {
    const row = [...this.model.parts.keys()].find((each) => path === each || path.startsWith(`${each}/`));
    if (!row) return;
    this.setFocus(row, true);
    if (this.selected !== row) this.select(row);
  }

  async partDetails(part) {
    const row = (name, value) => h("div", {}, h("dt", {}, name), h("dd", { class: "mono" }, value));
    const jump = (other) => h("button", { type: "button", class: "inline", onclick: () => this.choose(other.path) }, other.name);
    const inward = part.wires.filter((wire) => wire.to === part), outward = part.wires.filter((wire) => wire.from === part);
    const properties = h("dl", { class: "facts tall" });
    replace(this.aside,
      h("div", { class: "row" }, h("h2", {}, part.name), h("span", { class: "grow" }), h("button", { class: "icon", type: "button", "aria-label": "Close the details", onclick: () => this.select(null) }, "×")),
      h("p", { class: "mono muted" }, part.type),
      part.maps.length ? [h("h3", {}, "Mapped"), h("dl", { class: "facts tall" }, part.maps.map((map) => row(short(map.space), `${address(map.offset)}${map.region.startsWith(`${part.path}/`) ? ` ${short(map.region).slice(part.name.length + 1)}` : ""}`)))] : [],
      outward.length ? [h("h3", {}, "Drives"), h("ul", { class: "wires" }, outward.map((wire) => h("li", {}, h("span", { class: "mono" }, wire.output), " → ", jump(wire.to), h("span", { class: "mono" }, ` ${wire.input}`))))] : [],
      inward.length ? [h("h3", {}, "Listens to"), h("ul", { class: "wires" }, inward.slice(0, 64).map((wire) => h("li", {}, h("span", { class: "mono" }, wire.input), " ← ", jump(wire.from), h("span", { class: "mono" }, ` ${wire.output}`))),
        inward.length > 64 ? h("li", { class: "muted" }, `and ${inward.length - 64} more`) : [])] : [],
      part.inner.length ? [h("h3", {}, "On it"), h("dl", { class: "facts tall" }, part.inner.map((each) => row(each.name, each.type)))] : [],
      part.backends.length ? [h("h3", {}, "Host side"), h("dl", { class: "facts tall" }, part.backends.map((each) => row(each.property, each.name)))] : [],
      h("h3", {}, "Properties"), properties);
    try {
      const [answer] = await this.machine.qmp("qom-list-get", { paths: [part.path] });
      const shown = answer.properties.filter((property) => !/^(child<|link<)/.test(property.type) && property.name !== "type" && property.value !== undefined);
      replace(properties, shown.slice(0, 80).map((property) => row(property.name, String(typeof property.value === "object" ? JSON.stringify(property.value) : property.value))));
    } catch (error) {
      replace(properties, h("p", { class: "muted" }, error.message));
    }
  }

  // -- speed of the CPUs, in their chips

  async poll() {
    if (this.machine.status === "running" && !document.hidden && this.model?.groups.some((group) => group.kind === "cluster")) {
      try {
        const after = await sample(this.machine);
        if (this.before && !this.closed) {
          const found = rates(this.before, after);
          const top = Math.max(1, ...[...found.values()].map((each) => each.mips));
          for (const [path, { mips }] of found) this.showSpeed(path, mips, mips / top);
        }
        this.before = after;
      } catch {
        this.before = null;
      }
    } else this.before = null;
    if (!this.closed) this.timer = setTimeout(() => this.poll(), EVERY);
  }

  showSpeed(path, mips, share) {
    const chip = this.chips?.get(path);
    const line = chip?.g.querySelector(".type");
    if (!line) return;
    line.textContent = `${mipsText(mips)} MIPS`;
    chip.g.querySelector(".speed")?.setAttribute("width", (share * (chip.width - 28)).toFixed(1));
  }
}

// Room for the lanes of a narrow picture, as the layout makes them at most.
const lanes = (model) => Math.min(new Set(model.edges.map((edge) => `${edge.kind}|${edge.from}`)).size, 9);

// A path of right angles with round corners.
function rounded(points) {
  const kept = points.filter((point, at) => at === 0 || Math.abs(point.x - points[at - 1].x) + Math.abs(point.y - points[at - 1].y) > 0.5);
  let path = `M${kept[0].x} ${kept[0].y}`;
  for (let at = 1; at < kept.length - 1; at += 1) {
    const [a, b, c] = [kept[at - 1], kept[at], kept[at + 1]];
    const into = Math.hypot(b.x - a.x, b.y - a.y), out = Math.hypot(c.x - b.x, c.y - b.y), r = Math.min(8, into / 2, out / 2);
    path += `L${b.x - ((b.x - a.x) / into) * r} ${b.y - ((b.y - a.y) / into) * r}Q${b.x} ${b.y} ${b.x + ((c.x - b.x) / out) * r} ${b.y + ((c.y - b.y) / out) * r}`;
  }
  const last = kept.at(-1);
  return `${path}L${last.x} ${last.y}`;
}
