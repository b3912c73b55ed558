// The control plane over one WebSocket: calls, notifications, and coming back after it was lost.
//
// Numbers beyond 2^53 (addresses) arrive and leave as BigInt.

const BIG = /\d{16}/;

function revive(_key, value, context) {
  if (typeof value === "number" && !Number.isSafeInteger(value) && context && /^-?\d+$/.test(context.source)) return BigInt(context.source);
  return value;
}

export const parse = (text) => (BIG.test(text) ? JSON.parse(text, revive) : JSON.parse(text));

export const stringify = (value, indent) => JSON.stringify(value, (_key, item) =>
  typeof item !== "bigint" ? item : JSON.rawJSON ? JSON.rawJSON(item.toString()) : Number(item), indent);

export class RpcError extends Error {
  constructor(error) {
    super(error.message);
    this.code = error.code;
    this.data = error.data;
  }
}

// Events: "state" (detail: "connecting", "open", "lost", "signed-out"), "notify" (detail: {method, params}).
export class Rpc extends EventTarget {
  #socket = null;
  #next = 1;
  #waiting = new Map();
  #delay = 250;
  #timer = 0;
  state = "connecting";

  start() {
    clearTimeout(this.#timer);
    if (this.#socket) return;
    if (this.state === "signed-out") this.#become("connecting");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/rpc`);
    this.#socket = socket;
    socket.onopen = () => {
      this.#delay = 250;
      this.#become("open");
    };
    socket.onmessage = (message) => this.#receive(parse(message.data));
    socket.onclose = () => this.#lost(socket);
  }

  // For good: the session has ended.
  end() {
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    for (const { reject } of this.#waiting.values()) reject(new RpcError({ code: 0, message: "this browser was signed out" }));
    this.#waiting.clear();
    socket?.close();
    this.#become("signed-out");
  }

  call(method, params = {}) {
    if (this.state !== "open") return Promise.reject(new RpcError({ code: 0, message: "there is no connection to the daemon" }));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#socket.send(stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }

  qmp(instance, execute, args) {
    return this.call("instance-qmp", args === undefined ? { instance, execute } : { instance, execute, arguments: args });
  }

  #receive(message) {
    if (message.method) {
      this.dispatchEvent(new CustomEvent("notify", { detail: message }));
      return;
    }
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return;
    this.#waiting.delete(message.id);
    if (message.error) waiting.reject(new RpcError(message.error));
    else waiting.resolve(message.result);
  }

  async #lost(socket) {
    if (this.#socket !== socket) return;
    this.#socket = null;
    for (const { reject } of this.#waiting.values()) reject(new RpcError({ code: 0, message: "the connection to the daemon was lost" }));
    this.#waiting.clear();
    // A refused upgrade looks like any other failure: ask whether it is the cookie.
    let signedOut = false;
    try {
      signedOut = (await fetch("session", { cache: "no-store" })).status === 401;
    } catch {
      // The daemon is away.
    }
    if (this.#socket || this.state === "signed-out") return;
    this.#become(signedOut ? "signed-out" : "lost");
    if (!signedOut) {
      this.#timer = setTimeout(() => this.start(), this.#delay);
      this.#delay = Math.min(this.#delay * 2, 8000);
    }
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent("state", { detail: state }));
  }
}
