// The registers of one CPU at a time; what changed since the last look is marked.

import { empty, h, replace, short } from "./dom.js";

export default class Registers {
  constructor(machine, panel) {
    this.machine = machine;
    this.panel = panel;
    this.before = new Map();
    this.timer = 0;
    this.start();
  }

  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.unwatch?.();
  }

  async start() {
    let cpus;
    try {
      cpus = await this.machine.qmp("query-cpus-fast");
    } catch (error) {
      replace(this.panel, empty("No registers yet", h("p", {}, `A machine has registers once it is realized: ${error.message}`)));
      return;
    }
    if (this.closed) return;
    if (!cpus.length) {
      replace(this.panel, empty("This machine has no CPU"));
      return;
    }
    this.select = h("select", { "aria-label": "CPU", dataset: { field: "" }, onchange: () => { this.before.clear(); this.look(); } },
      cpus.map((cpu) => h("option", { value: cpu["qom-path"] }, `${short(cpu["qom-path"])}${cpu.target ? ` · ${cpu.target}` : ""}`)));
    this.live = h("input", { type: "checkbox", id: "live", onchange: () => this.tick() });
    this.body = h("div", { class: "register-groups" });
    this.unwatch = this.machine.watch((what) => what === "status" && this.look());
    replace(this.panel, h("div", { class: "row" }, this.select, h("button", { type: "button", onclick: () => this.look() }, "Read again"),
      h("label", { class: "check", for: "live" }, this.live, " every second")), this.body);
    await this.look();
  }

  tick() {
    clearInterval(this.timer);
    if (this.live.checked) this.timer = setInterval(() => document.hidden || this.look(), 1000);
  }

  async look() {
    try {
      this.draw(await this.machine.qmp("query-registers", { cpu: this.select.value }));
    } catch (error) {
      replace(this.body, empty("The registers can't be read", h("p", {}, error.message)));
    }
  }

  draw(rows) {
    const groups = new Map();
    // Fields of one register each stand together: a box of its own for every one would be a desert.
    const sizes = new Map();
    for (const { group } of rows) sizes.set(group, (sizes.get(group) ?? 0) + 1);
    for (const row of rows) {
      const group = sizes.get(row.group) > 3 ? row.group : "control and state";
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(row);
    }
    replace(this.body, [...groups].map(([group, members]) => h("section", {}, h("h2", {}, group.length < 3 ? `${group} registers` : group),
      h("dl", { class: "registers", css: { "--digits": String(Math.max(...members.map((row) => row.value.length)) + 1) } },
        members.map((row) => {
          const old = this.before.get(row.name);
          return h("div", { class: old !== undefined && old !== row.value ? "changed" : "", dataset: { register: row.name } },
            h("dt", {}, row.name), h("dd", { title: `${row.bits} bits, ${BigInt(`0x${row.value}`)}` }, dim(row.value)));
        })))));
    this.before = new Map(rows.map((row) => [row.name, row.value]));
  }
}

// Leading zeros step back, so that the number is seen.
function dim(value) {
  const zeros = value.match(/^0*/)[0].slice(0, value.length - 1);
  return [h("span", { class: "zeros" }, zeros), value.slice(zeros.length)];
}
