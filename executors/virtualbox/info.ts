/** What `VBoxManage showvminfo --machinereadable` says, from 5.2 to 7.1. */
export interface MachineInfo {
  readonly id: string;
  readonly name: string;
  /** `VMState`: `poweroff`, `running`, … */
  readonly state: string;
  readonly snapshots: readonly { readonly id: string; readonly name: string }[];
  readonly currentSnapshot: { readonly id: string; readonly name: string } | null;
  /** Numbers of the adapters that are attached to NAT, ascending. */
  readonly natAdapters: readonly number[];
  /** Hardware addresses of all adapters, 12 hex digits each, lower case. */
  readonly macs: readonly string[];
  readonly forwardings: readonly Forwarding[];
}

export interface Forwarding {
  readonly name: string;
  readonly hostPort: number;
}

/** `null`: the text does not describe a machine. */
export function parseInfo(text: string): MachineInfo | null {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, key, quoted, plain] = /^"?([A-Za-z][\w()/ -]*)"?=(?:"(.*)"|(.*))$/.exec(line) ?? [];
    // The first value of a key counts: a description comes late and may contain any text.
    if (key !== undefined && !values.has(key)) values.set(key, unescaped(quoted ?? plain ?? ""));
  }
  const [id, name, state] = [values.get("UUID"), values.get("name"), values.get("VMState")];
  if (id === undefined || name === undefined || state === undefined) return null;
  const all = [...values];
  const snapshots = all.flatMap(([key, value]) => {
    const [, suffix] = /^SnapshotUUID((?:-\d+)*)$/.exec(key) ?? [];
    return suffix === undefined ? [] : [{ id: value, name: values.get(`SnapshotName${suffix}`) ?? "" }];
  });
  const current = values.get("CurrentSnapshotUUID");
  return {
    id,
    name,
    state,
    snapshots,
    currentSnapshot: current === undefined ? null : { id: current, name: values.get("CurrentSnapshotName") ?? "" },
    natAdapters: all
      .flatMap(([key, value]) => (/^nic\d+$/.test(key) && value === "nat" ? [Number(key.slice("nic".length))] : []))
      .sort((a, b) => a - b),
    macs: all.flatMap(([key, value]) => (/^macaddress\d+$/.test(key) ? [value.toLowerCase()] : [])),
    forwardings: all.flatMap(([key, value]) => {
      if (!/^Forwarding\(\d+\)$/.test(key)) return [];
      const [rule = "", , , port = ""] = value.split(",");
      return /^\d+$/.test(port) ? [{ name: rule, hostPort: Number(port) }] : [];
    }),
  };
}

/** Newer versions put a backslash before a quote. */
function unescaped(text: string): string {
  return text.replace(/\\(["\\])/g, "$1");
}

/** Identifiers of `VBoxManage list vms`. */
export function parseMachineList(text: string): { readonly id: string; readonly name: string }[] {
  return text.split(/\r?\n/).flatMap((line) => {
    const [, name, id] = /^"(.*)" \{([0-9a-fA-F-]{36})\}$/.exec(line) ?? [];
    return name === undefined || id === undefined ? [] : [{ id, name }];
  });
}
