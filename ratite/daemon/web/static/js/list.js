// All machines.

import { ask, bytes, empty, h, replace, toast } from "./dom.js";

const LOOKED_AT = 60;

export class MachineList {
  constructor(rpc, view) {
    this.rpc = rpc;
    this.view = view;
    this.closed = false;
    this.subscription = null;
    this.busy = false;
    this.again = false;
    this.onNotify = ({ detail }) => {
      if (detail.method === "event" && /^(INSTANCE_|STOP|RESUME|SHUTDOWN|GUEST_PANICKED)/.test(detail.params.event)) this.refresh();
    };
    rpc.addEventListener("notify", this.onNotify);
    this.count = h("span", { class: "count" });
    this.body = h("div", { "aria-live": "polite" }, h("p", { class: "waiting" }, "Looking for machines…"));
    replace(view, h("section", { class: "page" }, h("div", { class: "row" }, h("h1", {}, "Machines"), this.count), this.body));
  }

  close() {
    this.closed = true;
    this.rpc.removeEventListener("notify", this.onNotify);
    if (this.subscription !== null && this.rpc.state === "open") {
      this.rpc.call("instance-unsubscribe", { subscription: this.subscription }).catch(() => {});
    }
  }

  async online() {
    try {
      const { subscription } = await this.rpc.call("instance-subscribe", {});
      this.subscription = subscription;
      if (this.closed) this.close();
      else await this.refresh();
    } catch (error) {
      this.fail(error);
    }
  }

  // One look at a time: however many events come meanwhile, one more follows.
  async refresh() {
    this.again = this.busy;
    if (this.closed || this.busy) return;
    this.busy = true;
    try {
      const rows = await this.rpc.call("instance-list");
      const details = await Promise.all(rows.slice(0, LOOKED_AT).map((row) =>
        this.rpc.call("instance-inspect", { instance: row.instance }).catch(() => null)));
      if (!this.closed) this.draw(rows, details);
    } catch (error) {
      this.fail(error);
    } finally {
      this.busy = false;
    }
    if (this.again) await this.refresh();
  }

  fail(error) {
    if (this.closed || this.rpc.state !== "open") return;
    replace(this.body, empty("The machines can't be listed", h("p", {}, error.message)));
  }

  draw(rows, details) {
    this.count.textContent = rows.length ? String(rows.length) : "";
    if (!rows.length) {
      replace(this.body, empty("No machine runs here yet",
        h("p", {}, "Machines of this daemon appear here as soon as they are made: from a machine file, a profile or by hand over QMP."),
        h("p", {}, "What ratite run starts has a daemon of its own and is not shown. With --control it is made here:"),
        h("pre", { class: "command" }, "ratite run --control FILE")));
      return;
    }
    // What had the keyboard has it again.
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    replace(this.body, h("ul", { class: "cards" }, rows.map((row, number) => this.card(row, details[number] ?? {}))));
    if (focused !== undefined) [...this.body.querySelectorAll("[data-key]")].find((each) => each.dataset.key === focused)?.focus();
  }

  card(row, more) {
    const status = more.status ?? more.phase ?? row.state;
    const facts = [
      ["phase", more.phase],
      ["since", new Date(row.created * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })],
      ["memory", more["private-memory"] ? bytes(more["private-memory"]) : null],
      ["process", row["in-process"] ? "the daemon's own" : row.pid],
    ].filter(([, value]) => value !== undefined && value !== null);
    return h("li", { class: "card" },
      h("a", { class: "card-link", dataset: { key: `show ${row.instance}` }, href: `#/m/${encodeURIComponent(row.instance)}` },
        h("span", { class: "name" }, row.instance), pill(status)),
      h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))),
      h("button", { class: "quiet", dataset: { key: `end ${row.instance}` }, type: "button", onclick: () => this.end(row.instance), "aria-label": `End ${row.instance}` }, "End"));
  }

  async end(instance) {
    if (!await ask(`End ${instance}?`, "Its guests stop at once, as if the power were cut, and the machine is gone.", "End the machine")) return;
    try {
      await this.rpc.call("instance-end", { instance });
    } catch (error) {
      toast(error.message, "error");
    }
  }
}

const TONES = { running: "good", paused: "wait", prelaunch: "wait", created: "wait", initialized: "wait", ready: "wait", "guest-panicked": "bad",
  "internal-error": "bad", "io-error": "bad", shutdown: "off", none: "off", ending: "off" };

export function pill(status) {
  return h("span", { class: `pill ${TONES[status] ?? "wait"}`, dataset: { status } }, status);
}
