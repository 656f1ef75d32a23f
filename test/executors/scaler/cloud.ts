import type { Scaler, Seen } from "../../../executors/scaler/decide/contract.ts";

/** A cloud for a scaler, without time of its own: what was asked for is done when the test says so. */
export interface Cloud {
  /** What a pool does: show the scaler what there is, check what is new, do what it decides. */
  tick(): void;
  /** What is being made is made, what is being removed is gone. */
  finish(): void;
  /** Gone, without anybody having asked for it. */
  lose(id: string): void;
  /** It is there from before. */
  have(id: string): void;
  ids(): string[];
  /** Told to be removed, in this order. */
  readonly removed: string[];
  readonly made: number;
  /** Requests for more. */
  readonly asked: number;
  /** It makes none. */
  refusing: boolean;
  /** What it makes cannot be used. */
  broken: boolean;
  /** What it is told to remove stays. */
  keepsAll: boolean;
}

export function openCloud(scaler: Scaler): Cloud {
  const there = new Map<string, Seen["state"]>();
  const removed: string[] = [];
  let made = 0;
  let asked = 0;
  const look = (): void => {
    scaler.observe([...there].map(([id, state]) => ({ id, state })));
    for (const { id, state } of scaler.instances()) {
      if (state !== "checking") continue;
      if (cloud.broken) scaler.discard(id, "it cannot be used");
      else scaler.ready(id);
    }
  };
  const cloud: Cloud = {
    refusing: false,
    broken: false,
    keepsAll: false,
    removed,
    get made() {
      return made;
    },
    get asked() {
      return asked;
    },
    tick() {
      look();
      const { grow, remove } = scaler.decide();
      for (const { id } of remove) {
        removed.push(id);
        if (!cloud.keepsAll) there.set(id, "deleting");
      }
      if (grow > 0) {
        asked++;
        for (let i = 0; i < grow && !cloud.refusing; i++) there.set(`i-${made++}`, "creating");
        scaler.grown(grow, cloud.refusing ? 0 : grow);
        look();
      }
    },
    finish() {
      for (const [id, state] of there) {
        if (state === "creating") there.set(id, "running");
        else if (state === "deleting") there.delete(id);
      }
    },
    lose: (id) => void there.delete(id),
    have: (id) => void there.set(id, "running"),
    ids: () => [...there.keys()],
  };
  return cloud;
}
