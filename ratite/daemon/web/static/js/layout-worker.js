// Where the groups of a topology stand and how its edges run, computed beside the page.
//
//     in   {id, mode: "layers" or "stack", groups: [{id, width, height, rank}], edges: [{from, to, kind}]}
//     out  {id, width, height, groups: {ID: {x, y}} (corners), edges: [[{x, y}, …] in the order given]}

import dagre from "../vendor/dagre/dagre.esm.js";

const MARGIN = 16, RANKSEP = 54;

onmessage = ({ data }) => {
  const made = data.mode === "stack" ? stack(data) : layers(data);
  postMessage({ id: data.id, ...made });
};

// One below the other; edges run in lanes at the left, those of one kind from one group in one lane, as a trunk.
function stack({ groups, edges }) {
  const order = new Map(groups.map((group, number) => [group.id, number]));
  const trunks = new Map();
  edges.forEach((edge, number) => {
    const key = trunkOf(edge), ends = [order.get(edge.from), order.get(edge.to)];
    const trunk = trunks.get(key) ?? { first: Infinity, last: 0, edges: [] };
    trunk.first = Math.min(trunk.first, ...ends);
    trunk.last = Math.max(trunk.last, ...ends);
    trunk.edges.push(number);
    trunks.set(key, trunk);
  });
  const lanes = [];
  for (const trunk of [...trunks.values()].sort((a, b) => (a.last - a.first) - (b.last - b.first))) {
    trunk.lane = lanes.findIndex((taken) => taken.every((other) => other.last < trunk.first || other.first > trunk.last));
    if (trunk.lane < 0) trunk.lane = lanes.push([]) - 1;
    lanes[trunk.lane].push(trunk);
  }
  const left = 12 + lanes.length * 6;
  const at = {};
  let y = 10, width = 0;
  for (const group of groups) {
    at[group.id] = { x: left, y };
    y += group.height + 18;
    width = Math.max(width, left + group.width);
  }
  const routed = new Array(edges.length);
  for (const trunk of trunks.values()) {
    const x = left - 8 - trunk.lane * 6;
    const port = (id) => at[id].y + Math.min(12 + trunk.lane * 5, groups[order.get(id)].height - 8);
    for (const number of trunk.edges) {
      const { from, to } = edges[number];
      routed[number] = [{ x: left, y: port(from) }, { x, y: port(from) }, { x, y: port(to) }, { x: left, y: port(to) }];
    }
  }
  return { width: width + 8, height: y, groups: at, edges: routed };
}

// Interrupts gather at who is told, all else spreads from its source.
const trunkOf = (edge) => `${edge.kind}|${edge.from}`;

// Ranks from the CPUs down, by dagre; its bends become right angles.
function layers({ groups, edges }) {
  const graph = new dagre.graphlib.Graph({ multigraph: true });
  graph.setGraph({ rankdir: "TB", ranksep: RANKSEP, nodesep: 24, edgesep: 14, marginx: MARGIN, marginy: MARGIN });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const group of groups) graph.setNode(group.id, { width: group.width, height: group.height });
  const rank = new Map(groups.map((group) => [group.id, group.rank]));
  edges.forEach((edge, number) => {
    graph.setEdge(edge.from, edge.to, { weight: edge.kind === "irq" ? 1 : 3, minlen: Math.max(1, rank.get(edge.to) - rank.get(edge.from)) }, String(number));
  });
  // What nothing leads to would float to the top.
  const reached = new Set(edges.map((edge) => edge.to)), top = groups.find((group) => group.rank === 0);
  for (const group of groups) {
    if (top && group.rank > 0 && !reached.has(group.id)) graph.setEdge(top.id, group.id, { weight: 0, minlen: group.rank }, "hold");
  }
  dagre.layout(graph);
  const size = new Map(groups.map((group) => [group.id, group]));
  // dagre centres the boxes of a rank; a row reads better by its upper edge.
  const bands = new Map();
  for (const group of groups) {
    const middle = Math.round(graph.node(group.id).y);
    bands.set(middle, Math.max(bands.get(middle) ?? 0, group.height));
  }
  const rows = [...bands].map(([middle, height]) => ({ middle, top: middle - height / 2, bottom: middle + height / 2 })).sort((a, b) => a.middle - b.middle);
  const rowAt = (y) => rows.reduce((best, row) => (Math.abs(row.middle - y) < Math.abs(best.middle - y) ? row : best));
  const at = {};
  for (const group of groups) {
    const node = graph.node(group.id);
    at[group.id] = { x: node.x - group.width / 2, y: rowAt(node.y).top };
  }
  const trunks = [...new Set(edges.map(trunkOf))];
  const routed = edges.map((edge, number) => angular(graph.edge(edge.from, edge.to, String(number)).points, at, size, edge, rowAt, rows, trunks.indexOf(trunkOf(edge))));
  // Edges may run outside of all boxes.
  const xs = [...routed.flat().map((point) => point.x), ...groups.flatMap((group) => [at[group.id].x, at[group.id].x + group.width])];
  const left = Math.min(...xs) - MARGIN;
  for (const place of [...Object.values(at), ...routed.flat()]) place.x -= left;
  const bottom = Math.max(...groups.map((group) => at[group.id].y + group.height));
  return { width: Math.max(...xs) - left + MARGIN, height: bottom + MARGIN, groups: at, edges: routed };
}

// From below one box to above the other: down, and sideways only between the rows, each trunk at a height of its own.
function angular(points, at, size, edge, rowAt, rows, trunk) {
  const rowOf = (place) => (typeof place === "string" ? rows.find((row) => row.top === at[place].y) : rowAt(place));
  const down = at[edge.from].y <= at[edge.to].y;
  const [upper, lower] = down ? [edge.from, edge.to] : [edge.to, edge.from];
  const inner = (down ? points : [...points].reverse()).slice(1, -1).filter((point) => {
    const row = rowAt(point.y);
    return Math.abs(row.middle - point.y) < 2 && row.top > at[upper].y && row.top < at[lower].y;
  });
  const clamp = (x, id) => Math.min(Math.max(x, at[id].x + 16), at[id].x + size.get(id).width - 16);
  const ends = down ? [points[0], points.at(-1)] : [points.at(-1), points[0]];
  const lane = 10 + (trunk % 5) * 6;
  const stops = [{ x: clamp(inner[0]?.x ?? ends[0].x, upper), y: at[upper].y + size.get(upper).height },
    ...inner, { x: clamp(inner.at(-1)?.x ?? ends[1].x, lower), y: at[lower].y }];
  const path = [stops[0]];
  for (let index = 1; index < stops.length; index += 1) {
    const before = path.at(-1), next = stops[index];
    if (Math.abs(before.x - next.x) > 1) {
      const y = Math.min(rowOf(index === 1 ? upper : before.y).bottom + lane, at[lower].y - 4);
      path.push({ x: before.x, y }, { x: next.x, y });
    }
    path.push({ x: next.x, y: next.y });
  }
  return down ? path : path.reverse();
}
