// Address map and contents of memory.

import { address, bytes, empty, h, replace, short } from "./dom.js";

const ROWS = 32, WIDTH = 16, SIZE = ROWS * WIDTH;
const SMALL_HOLE = 1n << 22n;

export default class Memory {
  constructor(machine, panel) {
    this.machine = machine;
    this.panel = panel;
    this.at = 0n;
    this.start();
  }

  close() {
    this.closed = true;
    this.unwatch?.();
  }

  async start() {
    let maps;
    try {
      maps = await this.machine.qmp("query-memory-map");
    } catch (error) {
      replace(this.panel, empty("No memory yet", h("p", {}, error.message)));
      return;
    }
    if (this.closed) return;
    maps = maps.filter((map) => map.ranges.length);
    if (!maps.length) {
      replace(this.panel, empty("Nothing is mapped", h("p", {}, "Address spaces show their contents once the machine is wired.")));
      return;
    }
    this.maps = maps;
    this.select = h("select", { "aria-label": "Address space", onchange: () => { this.first(); this.look(); } },
      maps.map((map) => h("option", { value: map.space }, short(map.space))));
    this.field = h("input", { class: "mono", "aria-label": "Address", spellcheck: "false", autocomplete: "off", dataset: { field: "" }, size: "20" });
    this.dump = h("div", { class: "scroll hex mono", tabindex: "0", role: "region", "aria-label": "Contents", onkeydown: (event) => this.scrollKey(event) });
    this.map = h("div", { class: "map-list" });
    this.unwatch = this.machine.watch((what) => what === "status" && this.look());
    replace(this.panel,
      h("form", { class: "row", onsubmit: (event) => { event.preventDefault(); this.go(); } }, this.select, this.field,
        h("button", { type: "submit" }, "Go"),
        h("button", { type: "button", onclick: () => this.move(-SIZE), "aria-label": "Page back" }, "←"),
        h("button", { type: "button", onclick: () => this.move(SIZE), "aria-label": "Page on" }, "→"),
        h("button", { type: "button", onclick: () => this.look() }, "Read again")),
      h("div", { class: "memory-split" }, this.dump, h("aside", {}, h("h2", {}, "Address map"), this.map)));
    this.first();
    await this.look();
  }

  ranges() {
    return this.maps.find((map) => map.space === this.select.value).ranges;
  }

  first() {
    const memory = this.ranges().find((range) => range.kind !== "device") ?? this.ranges()[0];
    this.at = BigInt(memory.first);
    replace(this.map, addressMap(this.ranges(), (range) => { this.at = BigInt(range.first); this.look(); }));
  }

  go() {
    const text = this.field.value.replaceAll("_", "").trim();
    try {
      this.at = BigInt(/^[0-9a-f]*[a-f][0-9a-f]*$/i.test(text) || (/^[0-9a-f]+$/i.test(text) && text.length > 2) ? `0x${text}` : text) & ~15n;
      this.field.setCustomValidity("");
    } catch {
      this.field.setCustomValidity("An address is hexadecimal: 80000000 or 0x8000_0000");
      this.field.reportValidity();
      return;
    }
    this.look();
  }

  move(count) {
    this.at = BigInt.asUintN(64, this.at + BigInt(count));
    this.look();
  }

  scrollKey(event) {
    const step = { PageDown: SIZE, PageUp: -SIZE }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    this.move(step);
  }

  async look() {
    this.field.value = address(this.at);
    try {
      const pieces = await this.machine.qmp("query-memory", { address: this.at, size: SIZE, space: this.select.value });
      this.draw(pieces);
    } catch (error) {
      replace(this.dump, empty("The memory can't be read", h("p", {}, error.message)));
    }
  }

  draw(pieces) {
    const data = new Array(SIZE).fill(null);
    for (const piece of pieces) {
      const from = Number(BigInt(piece.address) - this.at);
      [...atob(piece.data)].forEach((letter, number) => { data[from + number] = letter.charCodeAt(0); });
    }
    const lines = [];
    for (let row = 0; row < ROWS; row += 1) {
      const cells = data.slice(row * WIDTH, (row + 1) * WIDTH);
      const pairs = cells.map((byte, column) => h("span", { class: byte === null ? "none" : byte === 0 ? "zero" : "" },
        (column === 8 ? " " : "") + (byte === null ? "··" : byte.toString(16).padStart(2, "0")) + " "));
      const text = cells.map((byte) => (byte === null ? " " : byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".")).join("");
      lines.push(h("div", { class: "hex-row" }, h("span", { class: "addr" }, address(this.at + BigInt(row * WIDTH))), h("span", {}, pairs), h("span", { class: "ascii" }, text)));
    }
    replace(this.dump, lines, pieces.length ? [] : h("p", { class: "muted" },
      "No memory answers here. Devices are not read, since reading may change them."));
  }
}

// A map as a list, holes included; heights follow the logarithm of sizes, or one RAM would be all there is.
export function addressMap(ranges, chosen) {
  const rows = [];
  let next = 0n;
  for (const range of ranges) {
    const first = BigInt(range.first), last = BigInt(range.last);
    if (first > next) rows.push(h("li", { class: first - next < SMALL_HOLE ? "hole small" : "hole", title: bytes(first - next) }, first - next < SMALL_HOLE ? "" : bytes(first - next)));
    const size = last - first + 1n;
    const height = 26 + Math.max(0, Math.log2(Number(size)) - 12) * 1.6;
    rows.push(h("li", { class: range.kind },
      h("button", { type: "button", css: { "min-height": `${Math.round(height)}px` }, onclick: () => chosen(range), dataset: { owner: range.owner ?? "" } },
        h("span", { class: "addr" }, address(first)), h("span", { class: "what" }, short(range.owner ?? range.region)), h("span", { class: "size" }, bytes(size)))));
    next = last + 1n;
  }
  return h("ol", { class: "address-map" }, rows);
}
