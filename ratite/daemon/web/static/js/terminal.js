// xterm.js under a Content-Security-Policy that allows neither <style> elements nor style attributes.
//
// xterm makes three <style> elements when it is opened, and its rows' spans write attribute "style".  Here such an element puts
// its text into a constructed style sheet, and spans write that attribute through the CSSOM: the policy leaves both alone.

import { Terminal } from "../vendor/xterm/xterm.mjs";
import { FitAddon } from "../vendor/addon-fit/addon-fit.mjs";

// xterm's own sheet, once a page.
function loadSheet() {
  const found = document.getElementById("xterm-sheet");
  if (found) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    Object.assign(link, { id: "xterm-sheet", rel: "stylesheet", href: new URL("../vendor/xterm/xterm.css", import.meta.url).href, onload: resolve,
      onerror: () => reject(new Error("the terminal's style sheet can't be loaded")) });
    document.head.append(link);
  });
}

function sheetElement() {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  const element = document.createElement("i");
  element.hidden = true;
  let text = "";
  Object.defineProperty(element, "textContent", {
    get: () => text,
    set: (value) => {
      text = value;
      sheet.replaceSync(value);
    },
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((each) => each !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}

HTMLSpanElement.prototype.setAttribute = function setAttribute(name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
};

// What `work` makes as <style> becomes a constructed sheet.
function withoutStyleElements(work) {
  document.createElement = (tag, options) => (tag === "style" ? sheetElement() : Document.prototype.createElement.call(document, tag, options));
  try {
    work();
  } finally {
    delete document.createElement;
  }
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const probe = document.createElement("i");
  document.body.append(probe);
  // light-dark() is resolved only in a property that takes a colour.
  const colour = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const names = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
  const theme = { background: colour("--term-bg"), foreground: colour("--term-fg"), cursor: colour("--accent"), cursorAccent: colour("--term-bg"),
    selectionBackground: colour("--term-selection") };
  for (const name of names) {
    theme[name] = colour(`--term-${name}`);
    theme[`bright${name[0].toUpperCase()}${name.slice(1)}`] = colour(`--term-bright-${name}`);
  }
  probe.remove();
  return { theme, fontFamily: style.getPropertyValue("--mono").trim() || "monospace" };
}

// A terminal in `place`; {terminal, fit(), close()}.
export async function openTerminal(place) {
  await loadSheet();
  const terminal = new Terminal({ ...colours(), fontSize: 13, lineHeight: 1.15, scrollback: 10000, cursorBlink: false,
    convertEol: false, screenReaderMode: false, allowProposedApi: false });
  const addon = new FitAddon();
  terminal.loadAddon(addon);
  withoutStyleElements(() => terminal.open(place));
  const fit = () => place.clientWidth > 0 && addon.fit();
  const observer = new ResizeObserver(fit);
  observer.observe(place);
  const recolour = () => { terminal.options.theme = colours().theme; };
  const system = matchMedia("(prefers-color-scheme: dark)");
  document.addEventListener("theme", recolour);
  system.addEventListener("change", recolour);
  fit();
  return {
    terminal,
    fit,
    close() {
      observer.disconnect();
      document.removeEventListener("theme", recolour);
      system.removeEventListener("change", recolour);
      terminal.dispose();
    },
  };
}
