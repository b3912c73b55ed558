// What can follow in a QMP line, from query-qmp-schema.  No page in here: text in, candidates out.
//
//     COMMAND [KEY=VALUE …]     COMMAND {JSON}     {"execute": …}

import { parse } from "./rpc.js";

export class Schema {
  constructor(entries) {
    this.byName = new Map(entries.map((entry) => [entry.name, entry]));
    this.commands = entries.filter((entry) => entry["meta-type"] === "command").map((entry) => entry.name).sort();
  }

  // The members of an object type under the choices made so far: [{name, type, optional}].
  members(typeName, given = {}) {
    const type = this.byName.get(typeName);
    if (!type?.members) return [];
    const found = type.members.map((member) => ({ name: member.name, type: member.type, optional: "default" in member }));
    const chosen = type.variants?.find((variant) => variant.case === given[type.tag]);
    if (chosen) found.push(...this.members(chosen.type, given));
    return found;
  }

  argumentsOf(command, given) {
    const entry = this.byName.get(command);
    return entry?.["meta-type"] === "command" ? this.members(entry["arg-type"], given) : [];
  }

  values(typeName) {
    const type = this.byName.get(typeName);
    if (type?.["meta-type"] === "enum") return type.members.map((member) => member.name);
    return typeName === "bool" ? ["true", "false"] : [];
  }

  describe(typeName) {
    const type = this.byName.get(typeName);
    if (!type) return typeName;
    return { builtin: typeName, enum: "one of", object: "object", array: "list", alternate: "alternate" }[type["meta-type"]] ?? "";
  }
}

const words = (text) => text.match(/(?:[^\s"{[]|"(?:[^"\\]|\\.)*"|[{[].*)+/g) ?? [];

// {from: where the word begins, options: [{text, note}]}
export function complete(schema, text) {
  if (text.trimStart().startsWith("{")) return { from: text.length, options: [] };
  const from = text.search(/\S*$/), word = text.slice(from), before = words(text.slice(0, from));
  if (!before.length) return { from, options: match(schema.commands, word).map((name) => ({ text: `${name} `, note: "" })) };
  const [command, ...pairs] = before;
  const given = Object.fromEntries(pairs.map((pair) => { const at = pair.indexOf("="); return [pair.slice(0, at), pair.slice(at + 1)]; }));
  const members = schema.argumentsOf(command, given);
  const equals = word.indexOf("=");
  if (equals >= 0) {
    const member = members.find((each) => each.name === word.slice(0, equals));
    const options = member ? match(schema.values(member.type), word.slice(equals + 1)) : [];
    return { from: from + equals + 1, options: options.map((value) => ({ text: `${value} `, note: "" })) };
  }
  const free = members.filter((member) => !(member.name in given));
  free.sort((a, b) => a.optional - b.optional || a.name.localeCompare(b.name));
  const names = new Set(match(free.map((member) => member.name), word));
  return { from, options: free.filter((member) => names.has(member.name))
    .map((member) => ({ text: `${member.name}=`, note: `${schema.describe(member.type)}${member.optional ? "" : ", needed"}` })) };
}

// Those that begin so come before those that only contain it.
function match(names, word) {
  const wanted = word.toLowerCase();
  const begin = names.filter((name) => name.toLowerCase().startsWith(wanted));
  return [...begin, ...names.filter((name) => wanted.length > 1 && !begin.includes(name) && name.toLowerCase().includes(wanted))];
}

// [command, arguments]; an Error says what is wrong with the line.
export function read(schema, text) {
  const line = text.trim();
  if (line.startsWith("{")) {
    const message = parse(line);
    if (typeof message.execute !== "string") throw new Error('an object must have the member "execute"');
    return [message.execute, message.arguments];
  }
  const space = line.search(/\s/);
  const command = space < 0 ? line : line.slice(0, space), rest = space < 0 ? "" : line.slice(space).trim();
  if (!rest) return [command, undefined];
  if (rest.startsWith("{")) return [command, parse(rest)];
  const given = {};
  for (const word of words(rest)) {
    const at = word.indexOf("=");
    if (at < 1) throw new Error(`'${word}' must be KEY=VALUE`);
    given[word.slice(0, at)] = word.slice(at + 1);
  }
  const types = new Map(schema ? schema.argumentsOf(command, given).map((member) => [member.name, member.type]) : []);
  return [command, Object.fromEntries(Object.entries(given).map(([key, value]) => [key, valueOf(value, types.get(key), schema)]))];
}

function valueOf(text, type, schema) {
  if (type === "str" || schema?.byName.get(type)?.["meta-type"] === "enum") return text.startsWith('"') ? JSON.parse(text) : text;
  if (/^0x[0-9a-f]+$/i.test(text)) {
    const big = BigInt(text);
    return big <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(big) : big;
  }
  try {
    return parse(text);
  } catch {
    if (/^["{[]/.test(text)) throw new Error(`'${text}' is no JSON`);
    return text;
  }
}
