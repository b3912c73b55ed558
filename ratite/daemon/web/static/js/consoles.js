// The machine's consoles: chardevs of kind console, one terminal at a time.

import { empty, h, replace, short, toast } from "./dom.js";

const CHUNK = 3072;

export default class Consoles {
  constructor(machine, panel) {
    this.machine = machine;
    this.panel = panel;
    this.number = null;
    this.early = [];
    this.generation = 0;
    this.onNotify = ({ detail }) => this.notified(detail);
    machine.rpc.addEventListener("notify", this.onNotify);
    this.start();
  }

  close() {
    this.closed = true;
    this.machine.rpc.removeEventListener("notify", this.onNotify);
    this.generation += 1;
    this.detach();
  }

  detach() {
    if (this.number !== null && this.machine.rpc.state === "open") this.machine.rpc.call("console-detach", { console: this.number }).catch(() => {});
    this.number = null;
    this.opened?.close();
    this.opened = null;
  }

  async start() {
    let objects;
    try {
      ({ objects } = await this.machine.qmp("query-topology"));
    } catch (error) {
      replace(this.panel, empty("No console yet", h("p", {}, error.message)));
      return;
    }
    if (this.closed) return;
    const backends = objects.filter((row) => row.kind === "chardev");
    const consoles = backends.filter((row) => row.type === "chardev-console");
    if (!consoles.length) {
      const others = backends.map((row) => `${short(row.path)} (${row.type.replace("chardev-", "")})`).join(", ");
      replace(this.panel, empty("No console to show", h("p", {}, "Here are the character devices of kind console, which any number of people can watch",
        others ? `; this machine has ${others}.` : "."), h("pre", { class: "command" }, 'chardev-add id=con backend={"type":"console","data":{}}')));
      return;
    }
    const users = new Map();
    for (const row of objects) for (const link of row.links) users.set(link.to, row);
    this.choose = h("div", { class: "chips", role: "group", "aria-label": "Consoles" }, consoles.map((row) => h("button", { type: "button", "aria-pressed": "false",
      dataset: { path: row.path }, onclick: () => this.attach(row) }, short(row.path),
    users.has(row.path) ? h("span", { class: "muted" }, ` · ${short(users.get(row.path).path)}`) : [])));
    this.place = h("div", { class: "screen" });
    this.note = h("p", { class: "muted note" }, "Ctrl+Shift+E leaves the console.");
    replace(this.panel, this.choose, this.place, this.note);
    await this.attach(consoles[0]);
  }

  async attach(row) {
    const generation = ++this.generation;
    this.detach();
    for (const button of this.choose.children) button.setAttribute("aria-pressed", String(button.dataset.path === row.path));
    const { openTerminal } = await import("./terminal.js");
    replace(this.place);
    const opened = await openTerminal(this.place);
    if (generation !== this.generation) {
      opened.close();
      return;
    }
    this.opened = opened;
    const { terminal } = this.opened;
    terminal.attachCustomKeyEventHandler((event) => {
      if (event.type !== "keydown" || !event.ctrlKey || !event.shiftKey || event.code !== "KeyE") return true;
      event.preventDefault();
      document.getElementById("tab-consoles").focus();
      return false;
    });
    terminal.onData((text) => this.send(new TextEncoder().encode(text)));
    terminal.onBinary((text) => this.send(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
    this.early = [];
    try {
      const answer = await this.machine.rpc.call("console-attach", { instance: this.machine.instance, chardev: short(row.path) });
      if (generation !== this.generation) {
        this.machine.rpc.call("console-detach", { console: answer.console }).catch(() => {});
        return;
      }
      this.number = answer.console;
    } catch (error) {
      if (generation === this.generation) terminal.write(`\x1b[31mThis console can't be attached: ${error.message}\x1b[0m\r\n`);
      return;
    }
    for (const params of this.early.splice(0)) if (params.console === this.number) terminal.write(decode(params.data));
    terminal.focus();
  }

  send(data) {
    if (this.number === null) return;
    for (let at = 0; at < data.length; at += CHUNK) {
      const text = String.fromCharCode(...data.subarray(at, at + CHUNK));
      this.machine.rpc.call("console-write", { console: this.number, data: btoa(text) }).catch((error) => toast(error.message, "error"));
    }
  }

  notified({ method, params }) {
    if (method === "console-output") {
      // What the console has kept may come before the answer that tells its number.
      if (this.number === null) this.early.push(params);
      else if (params.console === this.number) this.opened?.terminal.write(decode(params.data));
    } else if (method === "console-closed" && params.console === this.number) {
      this.number = null;
      this.opened?.terminal.write("\r\n\x1b[2m[the console is closed]\x1b[0m\r\n");
    }
  }

  key(event) {
    if (event.key !== "Enter" || !this.opened) return false;
    this.opened.terminal.focus();
    return true;
  }
}

const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
