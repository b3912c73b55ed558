// A line of QMP: completed from the schema of this connection's view, answered below.

import { h, replace, toast } from "./dom.js";
import { complete, read, Schema } from "./completion.js";
import { stringify } from "./rpc.js";

const SHOWN = 12, KEPT = 200;

export default class Qmp {
  constructor(machine, panel) {
    this.machine = machine;
    this.schema = null;
    this.history = machine.qmpHistory ??= [];
    this.at = this.history.length;
    this.options = [];
    this.active = -1;
    this.input = h("input", { class: "mono", id: "qmp-line", role: "combobox", "aria-autocomplete": "list", "aria-expanded": "false",
      "aria-controls": "qmp-options", "aria-label": "QMP command", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
      placeholder: "query-status   or   qom-get path=/machine property=status", dataset: { field: "" },
      oninput: () => this.suggest(), onkeydown: (event) => this.key_(event), onblur: () => this.hide() });
    this.list = h("ul", { id: "qmp-options", role: "listbox", "aria-label": "Completions", hidden: true });
    this.output = h("div", { class: "scroll transcript", role: "log", "aria-label": "Answers", tabindex: "0" });
    replace(panel, h("form", { class: "row qmp", onsubmit: (event) => { event.preventDefault(); this.run(); } },
      h("div", { class: "combo" }, this.input, this.list), h("button", { type: "submit", class: "primary" }, "Run")), this.output);
    this.hint = h("p", { class: "muted" }, "Tab completes, ↑ brings back earlier lines. Arguments are KEY=VALUE (numbers also as 0x…) or one JSON object.");
    this.output.append(this.hint);
    this.unwatch = machine.watch((what, event) => what === "event" && event.event === "VIEW_CHANGED" && this.load());
    this.load();
  }

  close() {
    this.unwatch();
  }

  async load() {
    try {
      this.schema = new Schema(await this.machine.qmp("query-qmp-schema"));
      this.input.dataset.ready = "true";
      if (document.activeElement === this.input) this.suggest();
    } catch (error) {
      toast(`No completion: ${error.message}`, "error");
    }
  }

  // -- completion

  suggest() {
    if (!this.schema || this.input.selectionStart !== this.input.value.length || !this.input.value) {
      this.hide();
      return;
    }
    const { from, options } = complete(this.schema, this.input.value);
    this.from = from;
    this.options = options.slice(0, SHOWN);
    this.active = -1;
    if (!options.length) {
      this.hide();
      return;
    }
    replace(this.list, this.options.map((option, number) => h("li", { id: `qmp-option-${number}`, role: "option", "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); this.take(number); } }, h("span", {}, option.text), h("span", { class: "muted" }, option.note))),
    options.length > SHOWN ? h("li", { class: "muted", role: "presentation" }, `and ${options.length - SHOWN} more`) : []);
    this.list.hidden = false;
    this.input.setAttribute("aria-expanded", "true");
    this.input.removeAttribute("aria-activedescendant");
  }

  hide() {
    this.list.hidden = true;
    this.options = [];
    this.active = -1;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
  }

  move(step) {
    const count = this.options.length;
    this.active = this.active < 0 ? (step > 0 ? 0 : count - 1) : (this.active + step + count) % count;
    [...this.list.children].forEach((item, number) => item.setAttribute("aria-selected", String(number === this.active)));
    this.input.setAttribute("aria-activedescendant", `qmp-option-${this.active}`);
  }

  take(number) {
    const { text } = this.options[number];
    this.input.value = this.input.value.slice(0, this.from) + text;
    this.input.setSelectionRange(this.input.value.length, this.input.value.length);
    this.suggest();
  }

  // As far as all candidates agree, else the first.
  completeMore() {
    if (this.active >= 0 || this.options.length === 1) {
      this.take(Math.max(this.active, 0));
      return;
    }
    const word = this.input.value.slice(this.from);
    const texts = this.options.map((option) => option.text).filter((text) => text.startsWith(word));
    let common = texts[0] ?? "";
    for (const text of texts) while (!text.startsWith(common)) common = common.slice(0, -1);
    if (common.length > word.length) {
      this.input.value = this.input.value.slice(0, this.from) + common;
      this.suggest();
    } else this.move(1);
  }

  // -- keys

  key_(event) {
    const open = this.options.length > 0;
    if (event.key === "Tab" && !event.shiftKey && open) this.completeMore();
    else if (event.key === "Escape" && open) this.hide();
    else if (event.key === "ArrowDown" && open) this.move(1);
    else if (event.key === "ArrowUp" && open && this.active >= 0) this.move(-1);
    else if (event.key === "Enter" && this.active >= 0) this.take(this.active);
    else if (event.key === "ArrowUp") this.recall(-1);
    else if (event.key === "ArrowDown") this.recall(1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  recall(step) {
    this.at = Math.min(Math.max(this.at + step, 0), this.history.length);
    this.input.value = this.history[this.at] ?? "";
    this.hide();
  }

  // -- running

  async run() {
    const line = this.input.value.trim();
    if (!line) return;
    this.hide();
    this.hint.remove();
    if (this.history.at(-1) !== line) this.history.push(line);
    this.at = this.history.length;
    const answer = h("pre", { class: "waiting" }, "…");
    const item = h("article", {}, h("p", { class: "mono asked" }, line), answer);
    this.output.prepend(item);
    while (this.output.children.length > KEPT) this.output.lastElementChild.remove();
    this.input.value = "";
    const begun = performance.now();
    try {
      const [command, args] = read(this.schema, line);
      replace(answer, ...coloured(stringify(await this.machine.qmp(command, args), 2)));
      answer.className = "";
    } catch (error) {
      answer.className = "refused";
      answer.textContent = error.data?.class && error.data.class !== "GenericError" ? `${error.data.class}: ${error.message}` : error.message;
    }
    item.append(h("p", { class: "muted took" }, `${(performance.now() - begun).toFixed(1)} ms`));
  }
}

const MOST = 200_000;

// JSON in colours: keys, strings, numbers, words.
function coloured(text) {
  if (text.length > MOST) return [text.slice(0, MOST), h("span", { class: "muted" }, `\n… ${text.length - MOST} more letters`)];
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g)) {
    const kind = match[2] ? "k" : match[1] ? "s" : /\d/.test(match[0]) ? "n" : "w";
    parts.push(text.slice(at, match.index), h("span", { class: `j${kind}` }, match[1] ?? match[0]), match[2] ?? "");
    at = match.index + match[0].length;
  }
  return [...parts, text.slice(at)];
}
