// From query-topology's answer to groups of parts, and what connects the groups.  No page in here.
//
//     part    an object that is drawn: a CPU, a memory, a device with what it is made of and what is plugged into it alone
//     group   parts that belong together: a cluster's CPUs; memories, interrupt controllers, devices that the same address
//             spaces show; the devices on a bus; an address space by itself
//     edge    cluster – space, space – group, bus, and irq wires by the bundle

const RANKS = { cluster: 0, space: 1, irq: 2, memory: 2, device: 3, bus: 4 };
const TITLES = { irq: "Interrupt controllers", memory: "Memory", device: "Devices" };
const SECTIONS_FROM = 16;

const idOf = (path) => path.slice(path.lastIndexOf("/") + 1);

export function buildModel(topology) {
  const objects = new Map(topology.objects.map((row) => [row.path, { ...row, name: idOf(row.path) }]));
  const link = (row, property) => row.links.find((each) => each.property === property)?.to;
  const ownerOf = (path) => {
    for (let at = path; at; at = at.slice(0, at.lastIndexOf("/"))) if (objects.has(at)) return objects.get(at);
    return null;
  };

  // Who is on which bus; a bus with one device on it is not drawn, its device stands in the chip of the bus's owner.
  const onBus = new Map();
  for (const row of objects.values()) {
    const bus = link(row, "bus");
    if (row.kind === "device" && objects.get(bus)?.kind === "bus") onBus.set(bus, [...(onBus.get(bus) ?? []), row]);
  }
  const whole = (row) => {
    let at = row;
    for (let step = 0; at && step < 64; step += 1) {
      const above = at["part-of"] ? objects.get(at["part-of"]) : onBus.get(link(at, "bus"))?.length === 1 ? objects.get(link(at, "bus")) : null;
      if (!above) return at;
      at = above;
    }
    return row;
  };

  const parts = new Map();
  for (const row of objects.values()) {
    if (!["cpu", "memory", "device"].includes(row.kind) || whole(row) !== row) continue;
    parts.set(row.path, { path: row.path, name: row.name, type: row.type, kind: row.kind, size: row.size, inner: [], backends: [], maps: [], wires: [], group: null, row });
  }
  const partOf = (path) => {
    const owner = ownerOf(path);
    return owner ? parts.get(whole(owner).path) ?? null : null;
  };
  for (const row of objects.values()) {
    const part = parts.get(whole(row).path);
    if (!part) continue;
    if (whole(row) !== row && row.kind === "device" && !row["part-of"]) part.inner.push(row);
    for (const each of row.links) {
      const other = objects.get(each.to);
      if (other && ["chardev", "blockdev", "netdev"].includes(other.kind)) part.backends.push({ property: each.property, name: other.name, kind: other.kind, path: other.path });
    }
  }
  const maps = topology.maps.map((map) => ({ ...map, part: partOf(map.region), offset: BigInt(map.offset) }));
  for (const map of maps) map.part?.maps.push(map);
  const wires = [];
  for (const wire of topology.wires) {
    const from = partOf(wire.from), to = partOf(wire.to);
    if (!from || !to) continue;
    const made = { from, to, output: wire.output, input: wire.input };
    wires.push(made);
    from.wires.push(made);
    if (to !== from) to.wires.push(made);
  }
  return { objects, parts, wires, ...group(topology, objects, parts, wires, onBus, link, whole) };
}

function group(topology, objects, parts, wires, onBus, link, whole) {
  const groups = new Map(), edges = new Map();
  const put = (id, made, part) => {
    if (!groups.has(id)) groups.set(id, { id, parts: [], rank: RANKS[made.kind], ...made });
    if (part) {
      groups.get(id).parts.push(part);
      part.group = groups.get(id);
    }
  };
  const connect = (from, to, kind, count = 1) => {
    if (!groups.has(from) || !groups.has(to) || from === to) return;
    const key = `${from}|${to}|${kind}`;
    if (edges.has(key)) edges.get(key).count += count;
    else edges.set(key, { from, to, kind, count });
  };
  for (const row of objects.values()) {
    if (row.kind === "cluster") put(row.path, { kind: "cluster", title: row.name, subtitle: [row.target, row.accelerator].filter(Boolean).join(" · ") });
    if (row.kind === "address-space") put(row.path, { kind: "space", title: row.name, subtitle: "address space" });
  }
  // What is told by interrupts and tells a CPU, or another that does.
  const controllers = new Set();
  for (let grew = true; grew;) {
    grew = false;
    for (const { from, to } of wires) {
      if (from.kind !== "device" || controllers.has(from) || !(to.kind === "cpu" || controllers.has(to))) continue;
      if (!from.wires.some((wire) => wire.to === from && wire.from !== from)) continue;
      controllers.add(from);
      grew = true;
    }
  }
  for (const part of parts.values()) {
    const bus = objects.get(link(part.row, "bus"));
    if (part.kind === "cpu") put(link(part.row, "cluster") ?? "no cluster", { kind: "cluster", title: "CPUs", subtitle: "" }, part);
    else if (bus && (onBus.get(bus.path)?.length ?? 0) > 1) put(bus.path, { kind: "bus", title: bus.name, subtitle: bus.type, busOf: whole(bus).path }, part);
    else {
      const kind = part.kind === "memory" ? "memory" : controllers.has(part) ? "irq" : "device";
      const spaces = [...new Set(part.maps.map((map) => map.space))].sort();
      const names = spaces.map(idOf).join(" + ");
      put(`${kind}:${spaces.join()}`, { kind, title: TITLES[kind], subtitle: spaces.length ? (spaces.length > 1 ? `shared: ${names}` : names) : "not mapped", spaces }, part);
    }
  }
  for (const row of objects.values()) if (row.kind === "cluster") connect(row.path, link(row, "address-space"), "view");
  for (const made of groups.values()) {
    for (const space of made.spaces ?? []) connect(space, made.id, "map");
    if (made.busOf) connect(parts.get(made.busOf)?.group?.id, made.id, "bus");
  }
  // Drawn from the CPU down, as the picture reads, though interrupts go up.
  for (const { from, to } of wires) if (from.group && to.group) connect(to.group.id, from.group.id, "irq");
  for (const made of groups.values()) made.sections = sections(made);
  return { groups: [...groups.values()].sort((a, b) => a.rank - b.rank), edges: [...edges.values()] };
}

const firstAddress = (part) => part.maps.reduce((low, map) => (low === null || map.offset < low ? map.offset : low), null);
const natural = new Intl.Collator("en", { numeric: true });

function sections(made) {
  const order = (a, b) => {
    const x = firstAddress(a), y = firstAddress(b);
    if (x !== null && y !== null && x !== y) return x < y ? -1 : 1;
    return natural.compare(a.name, b.name);
  };
  made.parts.sort(made.kind === "cluster" ? (a, b) => natural.compare(a.name, b.name) : order);
  if (made.parts.length < SECTIONS_FROM || made.kind === "cluster") return [{ title: "", parts: made.parts }];
  const byType = new Map();
  for (const part of made.parts) {
    const type = part.inner.length === 1 ? `${part.type} › ${part.inner[0].type}` : part.type;
    byType.set(type, [...(byType.get(type) ?? []), part]);
  }
  return [...byType].map(([title, members]) => ({ title, parts: members })).sort((a, b) => b.parts.length - a.parts.length || natural.compare(a.title, b.title));
}

// ---------------------------------------------------------------- sizes

const FULL = { width: 172, height: 46 }, SMALL = { width: 116, height: 28 };
const PAD = 12, GAP = 8, HEAD = 40, CAPTION = 24, BETWEEN = 24;

// Places for the chips of every group, in a picture about `width` wide: group.width, height, chips [{part, x, y, width, height, small}].
export function measure(model, width, stacked) {
  const byRank = new Map();
  for (const each of model.groups) byRank.set(each.rank, [...(byRank.get(each.rank) ?? []), each]);
  if (stacked) for (const each of model.groups) place(each, filling(each, width), width);
  else {
    // What one rank needs at least the others may use as well.
    for (const each of model.groups) place(each, 1);
    const least = [...byRank.values()].map((peers) => peers.reduce((sum, each) => sum + each.width + BETWEEN, BETWEEN));
    for (const peers of byRank.values()) share(peers, Math.max(width, ...least));
  }
}

// Columns to the highest group, one by one, as long as all of a rank stand beside one another.
function share(peers, width) {
  for (;;) {
    const total = peers.reduce((sum, each) => sum + each.width + BETWEEN, BETWEEN);
    const open = peers.filter((each) => each.columns < limit(each) && total + each.size.width + GAP <= width);
    if (!open.length) break;
    const highest = open.reduce((a, b) => (b.height > a.height ? b : a));
    place(highest, highest.columns + 1);
  }
  for (const each of peers) place(each, even(each));
}

const isSmall = (made) => made.parts.length > SECTIONS_FROM;
const longest = (made) => Math.max(1, ...made.sections.map((section) => section.parts.length));
const limit = (made) => (made.kind === "space" ? 1 : isSmall(made) ? longest(made) : Math.min(longest(made), Math.ceil(Math.sqrt(longest(made) * 2.2))));

// As many rows with fewer columns, where the last row would be short.
function even(made) {
  const rows = Math.ceil(longest(made) / made.columns);
  return Math.ceil(longest(made) / rows);
}

// On a narrow screen chips take all the width there is.
function filling(made, width) {
  const least = isSmall(made) ? 96 : 136;
  return Math.max(1, Math.min(Math.floor((width - 2 * PAD + GAP) / (least + GAP)), longest(made)));
}

function place(made, columns, width) {
  made.columns = columns;
  if (made.kind === "space") {
    Object.assign(made, { size: FULL, width: Math.max(150, made.title.length * 8 + 40), height: 42, chips: [], captions: [] });
    return;
  }
  const small = isSmall(made);
  made.size = { ...(small ? SMALL : FULL) };
  if (width) made.size.width = Math.floor((width - 2 * PAD + GAP) / columns) - GAP;
  const { size } = made;
  const chips = [], captions = [];
  let y = HEAD;
  for (const section of made.sections) {
    if (section.title) {
      captions.push({ text: section.title, count: section.parts.length, x: PAD, y: y + 14 });
      y += CAPTION;
    }
    section.parts.forEach((part, number) => {
      chips.push({ part, small, x: PAD + (number % columns) * (size.width + GAP), y: y + Math.floor(number / columns) * (size.height + GAP), ...size });
    });
    y += Math.ceil(section.parts.length / columns) * (size.height + GAP);
  }
  const titleWidth = Math.max(made.title.length * 8, made.subtitle.length * 6.6) + 2 * PAD;
  made.width = Math.max(2 * PAD + columns * (size.width + GAP) - GAP, Math.min(titleWidth, 300));
  made.height = Math.max(y + PAD - GAP, HEAD + PAD);
  made.chips = chips;
  made.captions = captions;
}

// A name in `room` letters; the end of a name tells its number, so it is the middle that goes.
export function shorten(name, room) {
  if (name.length <= room) return name;
  const tail = Math.min(5, Math.floor(room / 3));
  return `${name.slice(0, room - tail - 1)}…${name.slice(name.length - tail)}`;
}
