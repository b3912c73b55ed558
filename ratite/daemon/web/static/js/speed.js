// How fast each CPU runs, and what the tiers of each cluster do, over the last two minutes.

import { bytes, empty, h, replace, s, short } from "./dom.js";
import { mipsText, rates, sample, tierRates } from "./counters.js";

const KEPT = 120, EVERY = 1000, WIDTH = 360, HEIGHT = 72;
const TIERS = ["interpreted", "tier 1", "tier 2"];

export default class Speed {
  constructor(machine, panel) {
    this.machine = machine;
    this.panel = panel;
    this.cpus = new Map();
    this.clusters = new Map();
    this.before = null;
    this.closed = false;
    this.look();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
  }

  async look() {
    if (!document.hidden) {
      try {
        const after = await sample(this.machine);
        if (this.closed) return;
        if (!this.before) this.build(after);
        else this.add(after);
        this.before = after;
      } catch (error) {
        if (this.closed) return;
        this.before = null;
        replace(this.panel, empty("No speed yet", h("p", {}, `CPUs are counted once the machine is realized: ${error.message}`)));
      }
    }
    this.timer = setTimeout(() => this.look(), EVERY);
  }

  build(first) {
    this.total = h("strong", { class: "total" }, "–");
    const cpus = h("div", { class: "plots" }), tiers = h("div", { class: "plots" });
    for (const [path, { target }] of first.cpus) {
      const row = this.cpus.get(path) ?? { history: [] };
      row.plot = plot();
      row.value = h("span", { class: "value" }, "–");
      this.cpus.set(path, row);
      cpus.append(h("figure", { class: "plot", dataset: { cpu: path } }, h("figcaption", {}, h("span", { class: "name" }, short(path)),
        h("span", { class: "muted" }, target ?? ""), h("span", { class: "grow" }), row.value, h("span", { class: "unit" }, "MIPS")), row.plot));
    }
    for (const cluster of first.clusters) {
      const row = this.clusters.get(cluster.cluster) ?? { history: [] };
      row.plot = plot();
      row.facts = h("table", { class: "tiers" });
      this.clusters.set(cluster.cluster, row);
      tiers.append(h("figure", { class: "plot" }, h("figcaption", {}, h("span", { class: "name" }, short(cluster.cluster)),
        h("span", { class: "grow" }), TIERS.map((name, tier) => h("span", { class: `key tier${tier}` }, name))), row.plot, row.facts));
    }
    replace(this.panel, h("p", { class: "lead" }, this.total, h("span", { class: "muted" }, " million instructions a second, all CPUs together")),
      cpus, first.clusters.length ? [h("h2", {}, "Tiers"), tiers] : h("p", { class: "muted" }, "No cluster compiles: its accelerator has no tiers."));
    if (!first.cpus.size) replace(this.panel, empty("This machine has no CPU"));
    for (const cluster of first.clusters) this.facts(cluster);
  }

  add(after) {
    if ([...after.cpus.keys()].join() !== [...this.before.cpus.keys()].join()) {
      this.build(after);
      return;
    }
    let total = 0, top = 1;
    for (const [path, { mips }] of rates(this.before, after)) {
      const row = this.cpus.get(path);
      push(row.history, [mips]);
      row.value.textContent = mipsText(mips);
      total += mips;
      for (const [value] of row.history) top = Math.max(top, value);
    }
    this.total.textContent = mipsText(total);
    for (const row of this.cpus.values()) draw(row.plot, row.history, top, ["cpu"]);
    for (const cluster of after.clusters) {
      const row = this.clusters.get(cluster.cluster);
      if (!row) continue;
      push(row.history, tierRates(this.before, after, cluster));
      const most = Math.max(1, ...row.history.map((values) => values.reduce((a, b) => a + b, 0)));
      draw(row.plot, row.history, most, ["tier0", "tier1", "tier2"]);
      this.facts(cluster);
    }
  }

  facts(cluster) {
    const row = this.clusters.get(cluster.cluster);
    replace(row.facts, h("thead", {}, h("tr", {}, ["tier", "regions", "code", "compiled", "from disk", "left early", "discarded"].map((name) => h("th", {}, name)))),
      h("tbody", {}, cluster.tiers.map((tier) => h("tr", {}, [tier.tier, tier.regions, bytes(tier.bytes), tier.compiled, tier.cached, tier.deopts, tier.invalidations]
        .map((value) => h("td", {}, String(value)))))));
  }
}

function push(history, values) {
  history.push(values);
  if (history.length > KEPT) history.shift();
}

function plot() {
  return s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": "the last two minutes" });
}

// Areas on top of one another, the newest sample at the right.
function draw(svg, history, top, classes) {
  const x = (number) => WIDTH - (history.length - 1 - number) * (WIDTH / (KEPT - 1));
  const y = (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 8);
  const lower = history.map(() => 0);
  const shapes = [s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top), y2: y(top) }), s("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top / 2), y2: y(top / 2) })];
  for (const [number, name] of classes.entries()) {
    const upper = history.map((values, at) => lower[at] + values[number]);
    const line = upper.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    const back = lower.map((value, at) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`).reverse();
    shapes.push(s("polygon", { class: `area ${name}`, points: [...line, ...back].join(" ") }), s("polyline", { class: `line ${name}`, points: line.join(" ") }));
    upper.forEach((value, at) => { lower[at] = value; });
  }
  replace(svg, ...shapes);
}
