// The page: signing in, where we are (#/ or #/m/NAME/TAB), colours, shortcuts.

import { h, replace, toast } from "./dom.js";
import { MachineList } from "./list.js";
import { Rpc } from "./rpc.js";

const rpc = new Rpc();
const view = document.getElementById("view");
const crumb = document.getElementById("crumb");
let shown = null;
let shownKey = "";

// ---------------------------------------------------------------- signing in

// The code stands behind '#', which browsers send to nobody; it is exchanged for a cookie and taken out of the history.
async function signIn() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (!code) return true;
  history.replaceState(null, "", "#/");
  const answer = await fetch("login", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }) });
  return answer.ok;
}

// The cookie is taken back, and with it every connection that this browser has.
async function signOut() {
  try {
    const answer = await fetch("logout", { method: "POST" });
    if (!answer.ok) throw new Error(await answer.text());
    rpc.end();
  } catch (error) {
    toast(`This browser is still signed in: ${error.message}`, "error");
  }
}

function showSignedOut() {
  close();
  document.title = "ratite";
  replace(crumb);
  replace(view, h("div", { class: "empty" },
    h("h2", {}, "This browser is not signed in"),
    h("p", {}, "A link works once, and for one minute. Get a new one on the machine where the daemon runs:"),
    h("pre", { class: "command" }, "ratite web")));
}

// ---------------------------------------------------------------- where we are

// What was typed or cut off may be no escape.
function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function place() {
  const parts = location.hash.replace(/^#\/?/, "").split("/").map(unescaped);
  return parts[0] === "m" && parts[1] ? { machine: parts[1], tab: parts[2] || "topology" } : { machine: null };
}

function close() {
  shown?.close();
  shown = null;
  shownKey = "";
}

async function route() {
  if (rpc.state === "signed-out") return;
  const { machine, tab } = place();
  const key = machine === null ? "list" : `m/${machine}`;
  document.title = machine === null ? "ratite" : `${machine} · ratite`;
  replace(crumb, machine === null ? [] : [h("a", { href: "#/" }, "Machines"), h("span", { "aria-hidden": "true" }, "/"),
    h("span", { class: "here", "aria-current": "page" }, machine)]);
  if (key !== shownKey) {
    close();
    shownKey = key;
    if (machine === null) shown = new MachineList(rpc, view);
    else {
      const { MachineView } = await import("./machine.js");
      if (shownKey !== key) return;
      shown = new MachineView(rpc, view, machine, tab);
    }
    if (rpc.state === "open") shown.online();
  }
  shown.show?.(place().tab);
}

// ---------------------------------------------------------------- colours

const THEMES = ["system", "light", "dark"];

function setTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    if (theme === "system") localStorage.removeItem("ratite-theme");
    else localStorage.setItem("ratite-theme", theme);
  } catch {
    // It holds until the page is closed.
  }
  const button = document.getElementById("theme");
  button.setAttribute("aria-label", `Colours: ${theme === "system" ? "as the system" : theme}`);
  button.title = `Colours: ${theme} (t)`;
  document.dispatchEvent(new CustomEvent("theme"));
}

const theme = () => document.documentElement.dataset.theme || "system";
const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);

// ---------------------------------------------------------------- shortcuts

const SHORTCUTS = [
  ["?", "this list"], ["t", "colours: system, light, dark"], ["m", "all machines"],
  ["1 – 7", "the tabs of a machine"], ["p", "pause or resume the machine"], ["r", "reset the machine (asks first)"],
  ["/", "the tab's input field"], ["+ − 0", "topology: larger, smaller, fit"],
  ["← ↑ → ↓", "topology: the next part; tabs: the next tab"], ["Enter, Space", "topology: show the part's details"],
  ["Ctrl+Shift+E", "console: leave it, back to the tabs"], ["Esc", "close a list, a dialog, the details"],
];

function help() {
  if (document.querySelector("dialog[open]")) return;
  const dialog = h("dialog", { "aria-labelledby": "help-title", class: "help" },
    h("h2", { id: "help-title" }, "Keyboard shortcuts"),
    h("dl", { class: "keys" }, SHORTCUTS.flatMap(([keys, what]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, what)])),
    h("form", { method: "dialog", class: "row end" }, h("button", {}, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

function typing(target) {
  return target.closest("input, textarea, select, [contenteditable], .xterm, dialog");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing(event.target)) return;
  if (event.key === "?") help();
  else if (event.key === "t") nextTheme();
  else if (event.key === "m") location.hash = "#/";
  else if (!shown?.key?.(event)) return;
  event.preventDefault();
});

// ---------------------------------------------------------------- beginning

const LINK = { connecting: "connecting", open: "connected", lost: "not connected: trying again", "signed-out": "signed out" };

rpc.addEventListener("state", ({ detail }) => {
  const line = document.getElementById("link-state");
  line.textContent = LINK[detail];
  line.dataset.state = detail;
  // One that was started anew listens elsewhere, and knows no session of before.
  line.title = detail === "lost" ? "If the daemon was started anew, ratite web prints its new address." : "";
  document.getElementById("sign-out").hidden = detail !== "open";
  if (detail === "signed-out") showSignedOut();
  else if (detail === "open") shown?.online();
  else shown?.offline?.();
});
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", help);
document.getElementById("sign-out").addEventListener("click", signOut);
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  view.focus();
});
setTheme(theme());
addEventListener("hashchange", async () => {
  if (location.hash.includes("code=")) {
    if (await signIn()) rpc.start();
    else showSignedOut();
  }
  route();
});
if (await signIn()) {
  route();
  rpc.start();
} else {
  rpc.state = "signed-out";
  rpc.dispatchEvent(new CustomEvent("state", { detail: "signed-out" }));
}
