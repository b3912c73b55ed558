// The events of a machine, the newest last.

import { h, replace } from "./dom.js";
import { stringify } from "./rpc.js";

export default class Events {
  constructor(machine, panel) {
    this.machine = machine;
    this.filter = h("input", { type: "search", placeholder: "Filter, e.g. STOP", "aria-label": "Filter events", dataset: { field: "" }, oninput: () => this.draw() });
    this.rows = h("tbody");
    this.note = h("p", { class: "muted" });
    this.scroll = h("div", { class: "scroll log", role: "log", "aria-label": "Events", tabindex: "0" },
      h("table", { class: "events" }, h("thead", {}, h("tr", {}, h("th", {}, "time"), h("th", {}, "event"), h("th", {}, "data"))), this.rows));
    replace(panel, h("div", { class: "row" }, this.filter, h("span", { class: "grow" }),
      h("button", { type: "button", onclick: () => { machine.events.length = 0; this.draw(); } }, "Clear")), this.note, this.scroll);
    this.unwatch = machine.watch((what, event) => {
      if (what === "event" && this.fits(event)) this.add(event);
    });
    this.draw();
  }

  close() {
    this.unwatch();
  }

  fits(event) {
    const wanted = this.filter.value.trim().toLowerCase();
    return !wanted || `${event.event} ${event.data ? stringify(event.data) : ""}`.toLowerCase().includes(wanted);
  }

  draw() {
    replace(this.rows);
    const fitting = this.machine.events.filter((event) => this.fits(event));
    this.note.textContent = fitting.length ? "" : this.machine.events.length
      ? "No event fits the filter." : "Nothing has happened since this page was opened. Pause or resume the machine, and it shows here.";
    for (const event of fitting) this.add(event);
  }

  add(event) {
    this.note.textContent = "";
    const { seconds, microseconds } = event.timestamp;
    const time = new Date(Number(seconds) * 1000);
    const text = `${time.toLocaleTimeString([], { hour12: false })}.${String(Math.floor(microseconds / 1000)).padStart(3, "0")}`;
    const atEnd = this.scroll.scrollTop + this.scroll.clientHeight >= this.scroll.scrollHeight - 8;
    this.rows.append(h("tr", { dataset: { event: event.event } }, h("td", { class: "mono muted" }, text), h("td", { class: "mono strong" }, event.event),
      h("td", { class: "mono data" }, event.data ? stringify(event.data) : "")));
    while (this.rows.children.length > 1000) this.rows.firstElementChild.remove();
    if (atEnd) this.scroll.scrollTop = this.scroll.scrollHeight;
  }
}
