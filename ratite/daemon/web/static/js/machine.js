// One machine: its state, what can be done with it, and the tabs.

import { ask, empty, h, replace, toast } from "./dom.js";
import { pill } from "./list.js";

const TABS = [
  ["topology", "Topology", () => import("./topology.js")],
  ["consoles", "Consoles", () => import("./consoles.js")],
  ["speed", "Speed", () => import("./speed.js")],
  ["registers", "Registers", () => import("./registers.js")],
  ["memory", "Memory", () => import("./memory.js")],
  ["events", "Events", () => import("./events.js")],
  ["qmp", "QMP", () => import("./qmp.js")],
];
const EVENTS_KEPT = 1000;

export class MachineView {
  constructor(rpc, view, instance, tab) {
    this.rpc = rpc;
    this.instance = instance;
    this.wanted = tab;
    this.current = null;
    this.closed = false;
    this.isOnline = false;
    this.status = null;
    this.phase = null;
    this.events = [];
    this.watchers = new Set();
    this.onNotify = ({ detail }) => this.notified(detail);
    rpc.addEventListener("notify", this.onNotify);
    this.build(view);
  }

  build(view) {
    this.state = h("span", { class: "state", role: "status" });
    this.pause = h("button", { type: "button", class: "primary", disabled: true, onclick: () => this.toggle() }, "Pause");
    this.reset = h("button", { type: "button", disabled: true, onclick: () => this.doReset() }, "Reset");
    this.tabs = h("div", { class: "tabs", role: "tablist", "aria-label": "Views of the machine", onkeydown: (event) => this.tabKey(event) },
      TABS.map(([id, name], number) => h("a", { id: `tab-${id}`, role: "tab", href: this.href(id), "aria-controls": "panel",
        "aria-selected": "false", tabindex: "-1", "aria-keyshortcuts": String(number + 1) }, name)));
    this.panel = h("div", { id: "panel", class: "panel", role: "tabpanel", tabindex: "-1" });
    replace(view, h("section", { class: "machine" },
      h("div", { class: "row toolbar" }, h("h1", {}, this.instance), this.state, h("span", { class: "grow" }), this.pause, this.reset),
      this.tabs, this.panel));
  }

  href(tab) {
    return `#/m/${encodeURIComponent(this.instance)}/${tab}`;
  }

  close() {
    this.closed = true;
    this.rpc.removeEventListener("notify", this.onNotify);
    this.current?.close?.();
    this.unsubscribe();
  }

  unsubscribe() {
    if (this.subscription !== undefined && this.rpc.state === "open") {
      this.rpc.call("instance-unsubscribe", { subscription: this.subscription }).catch(() => {});
    }
    this.subscription = undefined;
  }

  // -- connection

  async online() {
    try {
      const { subscription } = await this.rpc.call("instance-subscribe", { instance: this.instance });
      this.subscription = subscription;
      if (this.closed) {
        this.unsubscribe();
        return;
      }
      await this.look();
      this.isOnline = true;
    } catch (error) {
      if (!this.closed) this.gone(error);
      return;
    }
    if (this.closed) return;
    this.shownTab = null;
    await this.show(this.wanted);
  }

  offline() {
    this.isOnline = false;
    this.subscription = undefined; // it ended with its connection
    this.pause.disabled = this.reset.disabled = true;
  }

  gone(error) {
    this.isOnline = false;
    this.current?.close?.();
    this.current = null;
    this.pause.disabled = this.reset.disabled = true;
    replace(this.state, pill("gone"));
    replace(this.panel, empty(`${this.instance} is not there`, h("p", {}, error.message), h("p", {}, h("a", { href: "#/" }, "All machines"))));
  }

  qmp(command, args) {
    return this.rpc.qmp(this.instance, command, args);
  }

  // -- what state it is in

  async look() {
    const [{ status }, { phase }] = await Promise.all([this.qmp("query-status"), this.qmp("query-machine-phase")]);
    this.setStatus(status, phase);
  }

  setStatus(status, phase) {
    this.status = status;
    this.phase = phase;
    const ready = ["ready", "running", "paused"].includes(phase);
    replace(this.state, pill(ready ? status : phase === "none" ? "empty" : phase));
    this.pause.textContent = status === "running" ? "Pause" : "Resume";
    this.pause.disabled = this.reset.disabled = !ready;
    this.tell("status");
  }

  notified({ method, params }) {
    if (method !== "event" || params.instance !== this.instance || !params.subscriptions.includes(this.subscription)) return;
    if (params.event === "INSTANCE_CREATED" && !this.isOnline) { // another of this name, after one that ended
      this.unsubscribe();
      this.online();
      return;
    }
    this.events.push(params);
    if (this.events.length > EVENTS_KEPT) this.events.shift();
    this.tell("event", params);
    if (params.event === "INSTANCE_ENDED") {
      const why = params.data?.reason ?? "ended";
      toast(`${this.instance}: ${why}`, why === "crashed" ? "error" : "info");
      this.gone({ message: `The machine has ended (${why}).` });
      return;
    }
    if (/^(STOP|RESUME|SHUTDOWN|RESET|GUEST_PANICKED|DEVICE_DELETED|VIEW_CHANGED|INSTANCE_CREATED)$/.test(params.event)) {
      this.look().catch(() => {});
      if (params.event === "GUEST_PANICKED") toast(`${this.instance}: the guest panicked`, "error");
    }
  }

  // Tabs register here for "status", "event" and "key".
  watch(watcher) {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }

  tell(what, detail) {
    for (const watcher of this.watchers) watcher(what, detail);
  }

  // -- what can be done

  async run(command) {
    try {
      await this.qmp(command);
      await this.look();
    } catch (error) {
      toast(error.message, "error");
    }
  }

  toggle() {
    return this.run(this.status === "running" ? "stop" : "cont");
  }

  async doReset() {
    if (await ask(`Reset ${this.instance}?`, "All CPUs and devices start afresh; what guests had in memory alone is lost.", "Reset")) await this.run("system_reset");
  }

  // -- tabs

  async show(tab) {
    if (!TABS.some(([id]) => id === tab)) tab = "topology";
    this.wanted = tab;
    for (const link of this.tabs.children) {
      const on = link.id === `tab-${tab}`;
      link.setAttribute("aria-selected", String(on));
      link.tabIndex = on ? 0 : -1;
      if (on) link.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
    if (!this.isOnline || this.shownTab === tab) return;
    this.shownTab = tab;
    this.current?.close?.();
    this.current = null;
    this.panel.setAttribute("aria-labelledby", `tab-${tab}`);
    this.panel.className = `panel panel-${tab}`;
    const { default: Tab } = await TABS.find(([id]) => id === tab)[2]();
    if (this.closed || this.shownTab !== tab || !this.isOnline) return;
    // A place of its own: what a tab that was left still has to say is said where nobody looks.
    const place = h("div", { class: "tab" });
    replace(this.panel, place);
    this.current = new Tab(this, place);
  }

  tabKey(event) {
    const ids = TABS.map(([id]) => id), at = ids.indexOf(this.wanted);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + ids.length, Home: 0, End: ids.length - 1 }[event.key];
    if (to === undefined) {
      if (event.key !== " ") return;
      event.target.click();
    } else {
      const id = ids[to % ids.length];
      location.hash = this.href(id);
      document.getElementById(`tab-${id}`).focus();
    }
    event.preventDefault();
  }

  key(event) {
    const number = Number(event.key);
    if (number >= 1 && number <= TABS.length) {
      location.hash = this.href(TABS[number - 1][0]);
      document.getElementById(`tab-${TABS[number - 1][0]}`).focus();
    } else if (event.key === "p" && !this.pause.disabled) this.toggle();
    else if (event.key === "r" && !this.reset.disabled) this.doReset();
    else if (event.key === "/") this.panel.querySelector("[data-field]")?.focus();
    else return this.current?.key?.(event) ?? false;
    return true;
  }
}
