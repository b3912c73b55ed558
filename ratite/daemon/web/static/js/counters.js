// Instruction counters of a machine's CPUs, and the rates between two looks.

// {when, cpus: Map(path → {target, instructions, compiled}), clusters: [query-jit's]}
export async function sample(machine) {
  const [cpus, clusters] = await Promise.all([machine.qmp("query-cpus-fast"), machine.qmp("query-jit")]);
  const counted = new Map(clusters.flatMap((cluster) => cluster.cpus.map((cpu) => [cpu["qom-path"], cpu])));
  const rows = await Promise.all(cpus.map(async (cpu) => {
    const path = cpu["qom-path"], known = counted.get(path);
    const instructions = known ? known.instructions : await machine.qmp("qom-get", { path, property: "instructions" });
    return [path, { target: cpu.target, instructions: Number(instructions), compiled: known ? Number(known["compiled-instructions"]) : 0 }];
  }));
  return { when: performance.now(), cpus: new Map(rows), clusters };
}

// Map(path → {target, mips, compiled: share of 0 to 1}); a tier's instructions are counted when a region is left.
export function rates(before, after) {
  const seconds = Math.max((after.when - before.when) / 1000, 1e-6);
  const found = new Map();
  for (const [path, now] of after.cpus) {
    const then = before.cpus.get(path);
    if (!then) continue;
    const executed = Math.max(0, now.instructions - then.instructions);
    const share = executed ? Math.min(1, Math.max(0, (now.compiled - then.compiled) / executed)) : 0;
    found.set(path, { target: now.target, mips: executed / seconds / 1e6, compiled: share });
  }
  return found;
}

// What each tier of a cluster executed between two looks, in MIPS: [tier 0, 1, 2].
export function tierRates(before, after, cluster) {
  const seconds = Math.max((after.when - before.when) / 1000, 1e-6);
  const total = (look) => cluster.cpus.reduce((sum, { "qom-path": path }) => sum + (look.cpus.get(path)?.instructions ?? 0), 0);
  const tier = (look, number) => Number(look.clusters.find((each) => each.cluster === cluster.cluster)?.tiers.find((each) => each.tier === number)?.instructions ?? 0);
  const all = Math.max(0, total(after) - total(before)) / seconds / 1e6;
  const upper = [1, 2].map((number) => Math.max(0, tier(after, number) - tier(before, number)) / seconds / 1e6);
  const sum = upper[0] + upper[1];
  const scale = sum > all && sum > 0 ? all / sum : 1;
  return [Math.max(0, all - sum), upper[0] * scale, upper[1] * scale];
}

export const mipsText = (mips) => (mips >= 100 ? mips.toFixed(0) : mips >= 1 ? mips.toFixed(1) : mips > 0 ? mips.toFixed(2) : "0");
