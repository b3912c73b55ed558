// Elements without markup in strings: what comes from a machine is always text, never HTML.

const SVG = "http://www.w3.org/2000/svg";

// h("button", {class: "x", onclick: f, "aria-label": "…"}, "text", child, …)
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name === "css") for (const [key, text] of Object.entries(value)) element.style.setProperty(key, text);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export function toast(text, kind = "info") {
  const item = h("div", { class: `toast ${kind}` }, h("span", {}, text),
    h("button", { class: "icon", type: "button", "aria-label": "Close this message", onclick: () => item.remove() }, "×"));
  const place = document.getElementById("toasts");
  place.append(item);
  while (place.children.length > 4) place.firstElementChild.remove();
  setTimeout(() => item.remove(), kind === "error" ? 12000 : 5000);
}

// What stands where there is nothing to show.
export function empty(title, ...more) {
  return h("div", { class: "empty" }, h("h2", {}, title), ...more);
}

// A question that needs an answer; resolves to whether it was yes.
export function ask(title, text, yes) {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-labelledby": "ask-title" },
      h("h2", { id: "ask-title" }, title), h("p", {}, text),
      h("form", { method: "dialog", class: "row end" },
        h("button", { value: "no" }, "Cancel"), h("button", { value: "yes", class: "danger" }, yes)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

export function hex(value, digits = 0) {
  const text = BigInt(value).toString(16);
  return "0x" + text.padStart(digits, "0");
}

// Addresses are read in groups of four digits.
export function address(value) {
  let text = BigInt(value).toString(16);
  text = text.padStart(text.length <= 8 ? 8 : 16, "0");
  return text.replace(/(.{4})(?=.)/g, "$1_");
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
  let value = Number(count), unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${value < 10 && unit && value % 1 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export const short = (path) => String(path).replace(/^\/(machine\/peripheral(-anon)?|objects|chardevs|blockdevs|netdevs|machine)\//, "");
